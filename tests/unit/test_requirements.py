"""What is installed: the locked versions, and those that the doctor calls tested."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import re
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dagnb.doctor import Health, examine, untested

ROOT = Path(__file__).resolve().parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
TESTED = {
    "python": ["3.11", "3.13"],
    "packages": {"redis": ["5.3", "8.1.0"], "numpy": ["1.26", "2.5.5"]},
}


def lock_script() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("lock_script", str(ROOT / "scripts" / "lock"))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


LOCK = lock_script()
PYTHONS = LOCK.supported(PROJECT)


def requirements(extras: bool) -> list[Requirement]:
    lines = [*PROJECT["project"]["dependencies"], *PROJECT["build-system"]["requires"]]
    if extras:
        lines += [
            line for extra in PROJECT["project"]["optional-dependencies"].values() for line in extra
        ]
    return [Requirement(line) for line in lines]


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(("kind", "extras"), [("run", False), ("all", True)])
def test_the_lock_of_each_python_holds_an_allowed_version_of_everything_named(
    python: str, kind: str, extras: bool
) -> None:
    locked = LOCK.versions_of(ROOT / "requirements" / f"python{python}-{kind}.txt")

    for requirement in requirements(extras):
        assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)]), str(
            requirement
        )


@pytest.mark.parametrize("python", PYTHONS)
def test_what_dagnb_needs_has_one_version_whether_tests_are_installed_or_not(python: str) -> None:
    run, everything = (
        LOCK.versions_of(ROOT / "requirements" / f"python{python}-{kind}.txt")
        for kind in ("run", "all")
    )

    assert run.items() <= everything.items()


@pytest.mark.parametrize(
    "file", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda file: file.name
)
def test_every_locked_package_has_hashes_and_no_index_is_named(file: Path) -> None:
    text = file.read_text("utf-8")
    entries = re.split(r"\n(?=\S)", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).strip())

    assert len(entries) >= len(LOCK.versions_of(file)) > 30
    assert all(re.match(r"[a-z0-9-]+==", entry) for entry in entries)
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in text
    assert "--index-url" not in text


def test_the_versions_that_the_doctor_calls_tested_are_those_of_the_locks() -> None:
    assert (ROOT / "dagnb" / "tested.json").read_text("utf-8") == LOCK.tested(PROJECT, PYTHONS)


def test_the_oldest_tested_versions_are_the_oldest_allowed() -> None:
    packages = json.loads((ROOT / "dagnb" / "tested.json").read_text("utf-8"))["packages"]

    for requirement in map(Requirement, PROJECT["project"]["dependencies"]):
        assert f">={packages[requirement.name][0]}" in str(requirement.specifier)


@pytest.mark.parametrize(
    ("python", "installed", "sentences"),
    [
        ("3.12", {"redis": "8.1.0"}, []),
        ("3.12", {"redis": "5.3", "numpy": "2.0"}, []),
        ("3.12", {"redis": "5.2.9"}, ["redis 5.2.9 is older than 5.3, the oldest tested"]),
        ("3.12", {"redis": "8.10.0"}, ["redis 8.10.0 is newer than 8.1.0, the newest tested"]),
        ("3.14", {}, ["Python 3.14 is newer than 3.13, the newest tested"]),
    ],
)
def test_versions_outside_what_was_tested_are_named(
    python: str, installed: dict[str, str], sentences: list[str]
) -> None:
    assert untested(TESTED, python, installed) == sentences


def test_the_doctor_tells_of_versions() -> None:
    (finding,) = [finding for finding in examine() if finding.name == "versions"]

    assert finding.health in {Health.OK, Health.WARNING}
    assert bool(finding.cure) == (finding.health is Health.WARNING)
