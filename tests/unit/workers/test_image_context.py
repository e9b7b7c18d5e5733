"""The context that goes to the engine for an image of workers, and the hash in its name."""

from __future__ import annotations

import io
import json
import re
import sys
import tarfile
from pathlib import Path

import pytest
from dagnb_workers.launchers.docker.image import prepare
from dagnb_workers.launchers.docker.image.build import FailedBuildError, _follow
from dagnb_workers.launchers.docker.image.context import image_hash, write_context
from dagnb_workers.launchers.docker.image.pins import pins
from dagnb_workers.launchers.docker.image.pip_settings import PipSettings

SECRET = "https://me:hunter2@here/simple"


def files_of(
    requirements: tuple[str, ...] = (), *, has_path: bool = False, authority: Path | None = None
) -> dict[str, str]:
    out = io.BytesIO()
    files = {"cert.pem": authority} if authority else {}
    settings = PipSettings(environment={"PIP_INDEX_URL": SECRET}, files=files)
    write_context(out, "sha256:00", "b1", requirements, settings, has_path=has_path)
    out.seek(0)
    with tarfile.open(fileobj=out) as archive:
        return {
            member.name: content.read().decode()
            for member in archive.getmembers()
            if (content := archive.extractfile(member)) is not None
        }


def test_the_context_holds_requirements_pins_dagnb_and_no_bytecode() -> None:
    files = files_of(("numpy>=2", "six"))

    assert files["build/requirements.txt"] == "numpy>=2\nsix\n"
    assert files["build/worker.txt"].split() == list(pins())
    assert {
        "lib/dagnb/errors.py",
        "lib/dagnb/storage/scripts/machine.lua",
        "lib/dagnb_workers/worker/main.py",
    } <= files.keys()
    assert not [name for name in files if name.endswith(".pyc")]


def test_settings_are_files_of_the_first_stage_and_nothing_is_pasted_into_the_dockerfile(
    tmp_path: Path,
) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_text("AUTHORITY")
    files = files_of(("numpy>=2",), authority=authority)

    assert {name for name, text in files.items() if "hunter2" in text or "AUTHORITY" in text} == {
        "build/settings.json",
        "build/cert.pem",
    }
    assert json.loads(files["build/settings.json"])["environment"] == {"PIP_INDEX_URL": SECRET}
    first, final = files["Dockerfile"].split("\n\n")
    assert "numpy" not in first + final
    assert "COPY build " in first
    assert "COPY build " not in final
    assert all(
        line.startswith('RUN ["') for line in (first + final).splitlines() if line.startswith("RUN")
    )


def test_a_pythonpath_of_the_base_stays_behind_dagnbs_own() -> None:
    def path(*, has_path: bool) -> str:
        (path,) = re.findall(r"PYTHONPATH=(\S+)", files_of(has_path=has_path)["Dockerfile"])
        return str(path)

    assert (
        path(has_path=False) == "/opt/dagnb/lib"
    )  # an empty entry at its end would be the current directory
    assert path(has_path=True) == "/opt/dagnb/lib:$PYTHONPATH"


def test_the_name_depends_on_base_and_requirements_in_any_order() -> None:
    name = image_hash("sha256:00", ("a", "b"))

    assert re.fullmatch("[0-9a-f]{16}", name)
    assert image_hash("sha256:00", ("b", "a")) == name
    assert len({name, image_hash("sha256:01", ("a", "b")), image_hash("sha256:00", ("a",))}) == 3


def test_a_base_of_another_python_is_refused_before_anything_is_installed(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text(json.dumps({"python": "cpython-27", "environment": {}}))

    with pytest.raises(SystemExit) as refused:
        prepare.packages(tmp_path)

    ours = sys.implementation.cache_tag
    assert (
        refused.value.code == f"ERROR: this base has Python {ours}, and the notebook has cpython-27"
    )


def test_a_build_that_ends_without_a_word_has_failed() -> None:
    events = [{"stream": "Step 1/9 : FROM x\n"}, {"aux": {"ID": "sha256:01"}}]

    with pytest.raises(FailedBuildError) as failed:
        _follow(events, lambda line: None)

    assert failed.value.lines == ("Step 1/9 : FROM x", "the engine ended the build early")


def test_of_a_failed_build_pips_errors_are_told_and_long_ones_by_both_ends() -> None:
    versions = ", ".join(f"1.{n}" for n in range(500))
    said = [
        "Collecting six==9 (from -r /opt/dagnb/build/requirements.txt (line 1))\n",
        "  Downloading https://me:hunter2@here/six.whl\n\x1b[91mERROR: Could not find",
        f" (from versions: {versions})\n\x1b[0m\x1b[91mERROR: none\n\x1b[0m",
    ]
    lines: list[str] = []

    with pytest.raises(FailedBuildError) as failed:
        _follow(
            [*({"stream": text} for text in said), {"error": "returned a non-zero code: 1"}],
            lines.append,
        )

    first, last = failed.value.lines
    assert lines == ["Collecting six==9", "Downloading https://***@here/six.whl"]
    assert first.startswith("ERROR: Could not find (from versions: 1.0, 1.1,")
    assert first.endswith(" 1.498, 1.499)")
    assert len(first) < 320
    assert last == "ERROR: none"


def test_the_id_of_the_image_is_that_of_the_last_line() -> None:
    events = [
        {"aux": {"ID": "sha256:01"}},
        {"stream": "Successfully "},
        {"stream": "built 0123456789ab\n"},
    ]

    assert _follow(events, lambda line: None) == "0123456789ab"
