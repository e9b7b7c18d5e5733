"""Finding planners and launchers by name."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dagnb import registry
from dagnb.errors import UnknownNameError


@pytest.fixture(autouse=True)
def fresh_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Removes after a test what it added; entry points are read again."""
    monkeypatch.setattr(registry, "_added", {})
    registry._points.cache_clear()
    yield
    registry._points.cache_clear()


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of somebody else's that offers the planners "lucky" and "broken"."""
    info = tmp_path / "other-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[dagnb.planners]\nlucky = other_planner:Lucky\nbroken = other_missing:Gone\n"
    )
    (tmp_path / "other_planner.py").write_text("class Lucky:\n    name = 'lucky'\n")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_what_was_added_is_found_under_its_name_and_kind() -> None:
    registry.add("planner", "mine", "the planner")
    registry.add("launcher", "mine", "the launcher")

    assert registry.find("planner", "mine") == "the planner"
    assert registry.find("launcher", "mine") == "the launcher"


def test_an_entry_point_of_an_installed_package_is_found(installed: Path) -> None:
    planner = registry.find("planner", "lucky")

    assert (planner.__name__, planner.name) == ("Lucky", "lucky")
    assert "lucky" in registry.names("planner")


def test_an_entry_point_is_imported_only_when_it_is_asked_for(installed: Path) -> None:
    sys.modules.pop("other_planner", None)

    registry.names("planner")
    assert "other_planner" not in sys.modules

    registry.find("planner", "lucky")
    assert "other_planner" in sys.modules


def test_an_entry_point_that_cannot_be_imported_names_the_missing_module(
    installed: Path,
) -> None:
    with pytest.raises(ModuleNotFoundError, match="other_missing"):
        registry.find("planner", "broken")


def test_what_was_added_hides_an_entry_point_of_the_same_name(installed: Path) -> None:
    registry.add("planner", "lucky", "mine")

    assert registry.find("planner", "lucky") == "mine"
    assert registry.names("planner").count("lucky") == 1


def test_names_are_sorted_and_of_one_kind() -> None:
    before = set(registry.names("planner"))
    registry.add("planner", "zeta", 1)
    registry.add("planner", "alpha", 2)
    registry.add("launcher", "beta", 3)

    names = registry.names("planner")

    assert list(names) == sorted(before | {"alpha", "zeta"})


def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    registry.add("planner", "non_uniform", 1)

    with pytest.raises(UnknownNameError) as caught:
        registry.find("planner", "nonuniform")

    assert caught.value.nearest == "non_uniform"
    assert str(caught.value) == "unknown planner 'nonuniform'. Did you mean 'non_uniform'?"


def test_a_name_of_another_kind_is_not_found() -> None:
    registry.add("launcher", "mine_alone", 1)

    with pytest.raises(UnknownNameError, match="unknown planner 'mine_alone'"):
        registry.find("planner", "mine_alone")
