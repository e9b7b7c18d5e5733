"""The workflows that benchmarks compare planners on, with a small folder of the same layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cases import critical_path_s, load, load_stg, reference_cases, scaled
from dagnb.exchange.wfformat import read, text
from dagnb.exchange.workflow import Workflow

FILES = [["raw", 1000], ["x", 10], ["y", 30], ["log", 5], ["end", 8]]


def case_text(
    number: int, fn: str, runtime_s: float, inputs: list[int], outputs: list[int]
) -> dict[str, Any]:
    return {
        "id": f"t{number}",
        "fn": fn,
        "runtime_s": runtime_s,
        "inputs": inputs,
        "outputs": outputs,
    }


@pytest.fixture
def case(tmp_path: Path) -> Workflow:
    """t1 -> t0     t1 stands last in the file, takes no time, reads raw, writes x for t0, y for t2, and a log
    `-> t2 -> t3    the edge from t2 passes nothing
    """
    data = {
        "name": "recorded",
        "makespan_recorded_s": 0.0,
        "tasks": [
            case_text(0, "f", 1.0, [1], [4]),
            case_text(2, "f", 3.0, [2], []),
            case_text(3, "g", 1.0, [], []),
            case_text(1, "s", 0.0, [0], [1, 2, 3]),
        ],
        "files": FILES,
        "edges": [[3, 0, 10], [3, 1, 30], [1, 2, 0]],
        "external_input_bytes": {"3": 1000},
    }
    path = tmp_path / "case-a.json"
    path.write_text(json.dumps(data))
    return load(path)


def test_a_case_is_called_as_its_file_and_gives_what_is_read_of_it(case: Workflow) -> None:
    assert [(call.name, call.function, call.upstream) for call in case.dag.calls] == [
        ("t1", "s", ()),
        ("t0", "f", (0,)),
        ("t2", "f", (0,)),
        ("t3", "g", (2,)),
    ]
    assert (case.name, case.makespan_s) == ("case-a", None)
    assert case.edge_bytes == {(0, 1): 10, (0, 2): 30, (2, 3): 0}
    assert case.output_bytes == {0: 30, 1: 8, 2: 0, 3: 0}
    assert case.external_bytes == {0: 1000}


def test_a_scaled_case_has_20_s_of_critical_path_and_the_ratio_asked_for(case: Workflow) -> None:
    half = scaled(case, 0.5)

    assert critical_path_s(half.dag, half.run_s) == pytest.approx(20)
    assert half.run_s[0] == pytest.approx(20 * 0.001 / 4.001)
    mean_run_s, mean_edge = sum(half.run_s.values()) / 4, sum(half.edge_bytes.values()) / 3
    assert mean_edge / 80e6 == pytest.approx(0.5 * mean_run_s, rel=1e-6)
    assert half.output_bytes[1] / half.edge_bytes[0, 1] == pytest.approx(8 / 10, rel=1e-6)
    assert half.external_bytes[0] == pytest.approx(
        3 * sum(half.output_bytes.values()) / 4, rel=1e-6
    )


def test_graphs_of_the_standard_set_come_with_their_bounds(tmp_path: Path) -> None:
    graph = {
        "name": "g",
        "dur": [0, 2, 3, 0],
        "edges": [[0, 1], [0, 2], [1, 3], [2, 3]],
        "opt": {"2": [3, 3]},
    }
    path = tmp_path / "stg.json"
    path.write_text(json.dumps({"graphs": [graph]}))

    ((name, dag, run_s, bounds),) = load_stg(path)

    assert (name, run_s, bounds) == ("g", {0: 0.0, 1: 2.0, 2: 3.0, 3: 0.0}, {2: (3.0, 3.0)})
    assert [call.upstream for call in dag.calls] == [(), (0,), (0,), (1, 2)]


def test_a_case_survives_wfformat(case: Workflow) -> None:
    assert read(text(case)) == case


def test_there_are_19_reference_cases() -> None:
    assert len(set(reference_cases())) == 19
