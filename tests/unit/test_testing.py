"""The laws in the hands of somebody else: a few lines of a pytest suite, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PLANNER = """
from dataclasses import dataclass
from typing import ClassVar

from dagnb.planning.plan import Plan, Step
from dagnb.testing import PlannerLaws


@dataclass(frozen=True, slots=True)
class Mine:
    name: ClassVar[str] = "mine"

    def plan(self, problem):
        calls = enumerate(problem.dag.calls)
        steps = [Step(task=i, upstream=call.upstream, resources=call.options.needs) for i, call in calls]
        return Plan(dag=problem.dag, steps=tuple(steps{cut}), planner=self.name)


class TestMine(PlannerLaws):
    planner = Mine()
    examples = 3
"""

STORE = """
import pytest

from dagnb.storage.memory import MemoryStore
from dagnb.testing import StoreLaws


class Hand:
    def __init__(self):
        self.now = 1_000_000.0
        self.store = MemoryStore(lambda: self.now)

    def advance(self, seconds):
        self.now += seconds

    async def evict(self, run, task, address):
        del self.store._stored(run).blobs[task, address.token]


class TestMine(StoreLaws):
    @pytest.fixture
    def subject(self):
        return Hand()
"""

LAUNCHER = """
from dagnb_workers.launchers.inline import Inline

from dagnb.testing import LauncherLaws


class TestMine(LauncherLaws):
    def launcher(self, n):
        return Inline(n=n)

    def leftovers(self, run):
        return []
"""


def suite(folder: Path, text: str, *arguments: str) -> str:
    """Returns the output of pytest on a suite of this one file."""
    (folder / "test_mine.py").write_text(text)
    plugins = ["-p", "no:cacheprovider", "-p", "no:nbval"]  # the latter takes seconds to import
    command = [sys.executable, "-m", "pytest", "-q", *plugins, *arguments, "test_mine.py"]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=100, check=False
    ).stdout


def python(code: str) -> str:
    """Returns the last line that Python printed."""
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    return (ended.stdout + ended.stderr).strip().splitlines()[-1]


def test_a_planner_that_obeys_passes(tmp_path: Path) -> None:
    assert "56 passed" in suite(tmp_path, PLANNER.format(cut=""))


def test_a_planner_that_forgets_a_task_is_told_which_law_it_breaks(tmp_path: Path) -> None:
    printed = suite(tmp_path, PLANNER.format(cut="[:-1]"), "-k", "fits_its_problem")

    assert (
        "FAILED test_mine.py::TestMine::test_a_plan_fits_its_problem_and_names_its_planner"
        in printed
    )
    assert "InvalidPlanError" in printed


def test_a_planner_whose_readers_overtake_other_steps_is_told_so(tmp_path: Path) -> None:
    asking = PLANNER.format(cut="").replace("Plan, Step", "Plan, Step, Way")
    asking = asking.replace("upstream=", "worker='w', priority=i, upstream=")
    every = "{(u, i): Way.LOCAL for i, step in enumerate(steps) for u in step.upstream}"
    asking = asking.replace("planner=self.name)", f"planner=self.name, ways={every})")

    printed = suite(tmp_path, asking.replace("examples = 3", "examples = 30"), "-k", "overtakes")

    law = "test_no_reader_of_a_kept_value_overtakes_a_step_of_its_worker"
    assert f"FAILED test_mine.py::TestMine::{law}" in printed


def test_a_store_is_held_against_its_laws_without_more_settings(tmp_path: Path) -> None:
    printed = suite(tmp_path, STORE, "-k", "retry or cursor or cancel")

    assert " passed" in printed
    assert "failed" not in printed
    assert "error" not in printed.lower()


def test_a_launcher_is_held_against_its_laws(tmp_path: Path) -> None:
    laws = "name_and_a_cap or may_count_on or not_there or after_a_failure"

    assert "4 passed" in suite(tmp_path, LAUNCHER, "-k", laws)


@pytest.mark.parametrize("missing", ["pytest", "hypothesis"])
def test_what_is_missing_is_told_with_the_cure(missing: str) -> None:
    code = f"import sys; sys.modules['{missing}'] = None\nfrom dagnb.testing import PlannerLaws"

    assert (
        python(code)
        == f"ImportError: dagnb.testing needs {missing}. Install it: pip install 'dagnb[testing]'"
    )


def test_named_shapes_need_nothing_that_workers_lack() -> None:
    code = "import sys; sys.modules['pytest'] = sys.modules['hypothesis'] = None\n"

    assert (
        python(code + "from dagnb.testing.graphs import SMALL; print(len(SMALL['diamond']))") == "4"
    )


def test_an_unknown_name_is_an_error() -> None:
    assert python("import dagnb.testing; dagnb.testing.Laws").startswith(
        "AttributeError: module 'dagnb.testing' has no"
    )
