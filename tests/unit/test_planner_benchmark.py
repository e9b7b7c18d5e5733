"""`benchmarks/planners.py`: the pools it measures, and the files it cannot read."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def planners(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program as a module; it imports its neighbour `cases`, as a program does."""
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in ("cases", "planners"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("planners")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """a -> b, a -> c, 1 s each; a longer one; and two files that are no workflows."""
    write(tmp_path / "fork.json", 3)
    write(tmp_path / "wide.json", 20)
    (tmp_path / "graphs.json").write_text('{"graphs": []}')
    (tmp_path / "torn.json").write_text('{"tasks": [')
    return tmp_path


def write(path: Path, n: int) -> None:
    tasks = [{"id": i, "fn": "f", "runtime_s": 1.0, "outputs": []} for i in range(n)]
    edges = [[0, i, 1_000] for i in range(1, n)]
    workflow = {
        "tasks": tasks,
        "edges": edges,
        "files": {},
        "external_input_bytes": {},
        "makespan_recorded_s": 0.0,
    }
    path.write_text(json.dumps(workflow))


def test_files_that_cannot_be_read_or_are_too_large_are_named_and_left_out(
    planners: ModuleType, folder: Path
) -> None:
    loaded, left_out = planners.workflows(folder, every=True, most_tasks=10)

    assert [workflow.name for workflow in loaded] == ["fork"]
    assert left_out[0] == "graphs.json: not a workflow (KeyError: 'tasks')"
    assert left_out[1].startswith("torn.json: not a workflow (JSONDecodeError: ")
    assert left_out[2] == "wide.json: 20 tasks, more than 10"


def test_reference_cases_that_are_missing_are_named(planners: ModuleType, folder: Path) -> None:
    loaded, left_out = planners.workflows(folder, every=False, most_tasks=None)

    assert loaded == []
    assert len(left_out) == 19
    assert all("FileNotFoundError" in line for line in left_out)


def test_a_table_is_printed_for_each_pool_and_wukong_where_workers_are_its_own(
    planners: ModuleType,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(
        sys, "argv", ["planners.py", str(folder), "--all", "--planners", "flexible", "heft"]
    )

    planners.main()

    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("==")] == [
        "== pool uncapped, relative to wukong, 2 workflows ==",
        "== pool 8, relative to flexible, 2 workflows ==",
        "== pool 2, relative to flexible, 2 workflows ==",
    ]
    heads = [line.split()[3:] for line in lines if line.startswith("workflow ")]
    assert heads == [["wukong", "flexible", "heft"], ["flexible", "heft"], ["flexible", "heft"]]
    assert [line.split(":")[1] for line in lines if line.startswith("left out")] == [
        " graphs.json",
        " torn.json",
    ]


def test_a_capped_pool_has_no_more_workers_than_it_says(planners: ModuleType) -> None:
    assert [planners.SETTINGS[pool].pool.cap for pool in ("uncapped", "8", "2")] == [None, 8, 2]
    assert planners.SETTINGS["8"].pool.eager
