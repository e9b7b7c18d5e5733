"""The documents say what is so: their examples are counted, the files they name exist, the planner
they show works.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dagnb import doctor
from dagnb.testing import PlannerLaws
from tests.documents import DOCUMENTS, ROOT, blocks, prose

README = ROOT / "README.md"
MOST_NOT_RUN = 2
BASELINES = {"wukong", "one_pass", "dask_like", "uniform", "non_uniform"}
"""planners that lose on purpose, or that choose something other than workers"""


def names(document: Path) -> str:
    return str(document.relative_to(ROOT))


def test_every_block_of_the_readme_is_run_but_for_two() -> None:
    found = blocks(README)

    assert {block.language for block in found} <= {"python", "bash"}
    assert len([block for block in found if block.reason]) <= MOST_NOT_RUN
    assert len(found) >= 10


@pytest.mark.parametrize("document", DOCUMENTS[:1], ids=names)
def test_no_code_of_the_readme_escapes_the_test_that_runs_it(document: Path) -> None:
    indented = [line for line in prose(document).splitlines() if line.startswith("    ")]

    assert indented == [], "write it as a fenced block, so that it is run"


def test_no_example_of_the_readme_takes_a_planner_that_is_a_baseline() -> None:
    for block in blocks(README):
        assert not BASELINES & set(re.findall(r"\w+", block.text)), f"line {block.line}"


def test_the_readme_tells_the_forecast_of_the_picture_that_it_shows() -> None:
    picture = (ROOT / "docs" / "plan.svg").read_text(encoding="utf-8")
    found = re.search(r"Forecast: ([\d.]+ s) \(([\d.]+ to [\d.]+ s) in 8 of 10 runs\)", picture)

    assert found is not None
    assert "Durations from past runs" in picture
    assert f"predicted\n{found[1]} ({found[2]} in 8 of 10 runs)" in README.read_text(
        encoding="utf-8"
    )


FOLDERS = [
    path
    for top in (
        "dagnb",
        "kernel_ext",
        "workers",
        "planners",
        "tests",
        "benchmarks",
        "docs",
        "notebooks",
    )
    for path in (ROOT / top, *(ROOT / top).rglob("*"))
    if path.is_dir() and path.name != "__pycache__"
]


def test_every_card_of_a_room_names_a_file_to_start_at_that_is_there() -> None:
    cards = [
        path
        for folder in FOLDERS
        for path in folder.glob("__init__.py")
        if "Start at: " in path.read_text()
    ]

    assert len(cards) > 15
    for card in cards:
        _, _, where = card.read_text().partition("Start at: ")
        names_of_files = re.findall(r"[\w/]+\.py", where.partition('"""')[0])
        assert names_of_files
        assert [name for name in names_of_files if not (card.parent / name).exists()] == [], card


def test_planners_readme_has_a_row_for_every_planner() -> None:
    text = (ROOT / "planners" / "README.md").read_text(encoding="utf-8")
    ours = [
        point.name
        for point in entry_points(group="dagnb.planners")
        if point.module.startswith("dagnb_planners.")
    ]

    assert [name for name in ours if f"| `{name}` |" not in text] == []


def test_every_variable_that_a_document_names_is_read() -> None:
    read = {*doctor.VARIABLES, "DAGNB_SCREENSHOTS", "DAGNB_TEST_SERVER"}
    for document in DOCUMENTS:
        named = set(re.findall(r"DAGNB_[A-Z_]+", document.read_text(encoding="utf-8")))
        assert named <= read, names(document)


def shown_planner() -> Any:
    """The class that CONTRIBUTING shows."""
    (block,) = [
        block for block in blocks(ROOT / "CONTRIBUTING.md") if "class RoundRobin" in block.text
    ]
    module = ModuleType("shown_in_contributing")
    sys.modules[module.__name__] = module  # dataclasses looks there
    exec(block.text, vars(module))
    return module.RoundRobin()


class TestThePlannerThatContributingShows(PlannerLaws):
    """It passes the laws of planners, as the text says one must."""

    planner = shown_planner()
