"""The planners as users import them: by the name of their class, from the package."""

from __future__ import annotations

import importlib
import subprocess
import sys
from importlib.metadata import entry_points

import dagnb_planners
import pytest

OURS = [
    point
    for point in entry_points(group="dagnb.planners")
    if point.module.startswith("dagnb_planners.")
]


@pytest.mark.parametrize("point", OURS, ids=lambda point: point.name)
def test_every_planner_with_a_short_name_is_imported_from_the_package(point: object) -> None:
    module, _, name = point.value.partition(":")  # type: ignore[attr-defined]  # importlib's EntryPoint

    assert getattr(dagnb_planners, name) is getattr(importlib.import_module(module), name)
    assert name in dagnb_planners.__all__


def test_the_public_names_are_those_of_the_registered_planners() -> None:
    assert sorted(dagnb_planners.__all__) == sorted(point.value.partition(":")[2] for point in OURS)


def test_importing_the_package_loads_no_planner() -> None:
    names = "[name for name in sys.modules if name.startswith('dagnb_planners.')]"
    program = f"import sys, dagnb_planners; print({names})"

    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout

    assert output.strip() == "[]"


def test_a_name_that_is_no_planner_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Bst"):
        _ = dagnb_planners.Bst
