"""What `overhead.py` and `everyday.py` are made of: graphs, drivers, the clock, tables."""

from __future__ import annotations

import os
from typing import Any

import pytest

from benchmarks.peers import conductor, process, table, tasks, usage
from benchmarks.peers.breakdown import Account, covered_s, phase_parts
from benchmarks.peers.clock import Patience, Repetition, limited, measured, summary
from benchmarks.peers.conductor import Results
from benchmarks.peers.graphs import FIRST, ROWS, Row, bipartite, fan, grid, matrices, tree
from benchmarks.peers.loop import Loop
from benchmarks.peers.pool import Pool
from benchmarks.peers.system import Builder, Graph, Pipelines
from benchmarks.peers.usage import Usage
from dagnb.trace.trace import Phase, Span, Trace

ONCE = Patience(repetitions=2, budget_s=100.0, warm_tasks=5, limit_s=60.0)
ROW = Row(name="fan", title="a fan", build=lambda _: fan(8), aim_s=0.5, n_tasks=10)


class Counting(Loop):
    """Counts the tasks of each run."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def run(self, graph: Graph) -> Any:
        self.sizes.append(len(graph.calls))
        return super().run(graph)


def for_ever() -> None:
    while True:
        pass


# ---- graphs ----

QUICKLY_MADE = [row for row in ROWS if not row.moves_arrays and row.name != "busy"]


@pytest.mark.parametrize("row", QUICKLY_MADE)
def test_each_graph_gives_the_result_that_it_expects(row: Row) -> None:
    graph = row.build(0)

    value = Loop().run(graph)

    graph.check(value)
    assert row.n_tasks in {0, len(graph.calls)} or row.name == FIRST


def test_the_graphs_have_the_sizes_of_their_titles() -> None:
    assert len(fan(10_000).calls) == 10_002
    assert len(bipartite(0).calls) == 201
    assert len(tree(tasks.add).calls) == 1_023
    assert len(grid(1_000, 100).calls) == 100_001
    assert len(matrices(0).calls) == 16 + 16 + 64 + 16 + 1


def test_a_wrong_result_is_an_error() -> None:
    graph = tree(tasks.add)

    with pytest.raises(ArithmeticError, match=r"is 1\.0, not 523776\.0"):
        graph.check(1.0)


def test_pipelines_are_one_call_a_step_and_item_and_one_with_all_ends() -> None:
    pipelines = Pipelines((1, 2, 3), (tasks.increment, tasks.increment), tasks.total_of)

    graph = pipelines.graph()

    assert len(graph.calls) == 7
    assert Loop().run(graph) == 12


# ---- the driver of the process pool ----


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # from Python 3.12 on
def test_the_pool_keeps_a_value_until_its_last_reader() -> None:
    """one - a - b, and one - b: both read the first value, at different times."""
    make = Builder()
    one = make.call(tasks.increment, 0)
    middle = make.call(tasks.increment, one)
    make.call(tasks.total_of, one, middle, one)
    pool = Pool()
    try:
        assert pool.run(make.graph(4)) == 4
        assert pool.run(fan(3)) is None
    finally:
        pool.close()


# ---- the clock ----


def test_a_row_is_warmed_up_and_then_repeated() -> None:
    system = Counting()
    small = Row(name="small", title="small", build=lambda _: fan(2), aim_s=0.5, n_tasks=4)

    result = measured(system, small, ONCE)

    assert system.sizes == [4, 4, 4]
    assert len(result["seconds"]) == 2


def test_a_large_row_is_warmed_up_by_a_small_graph() -> None:
    system = Counting()

    measured(system, ROW, ONCE)

    assert system.sizes == [22, 10, 10]


def test_a_cold_row_runs_four_times_after_tasks_that_import_nothing() -> None:
    system = Counting()
    cold = Row(name="cold", title="cold", build=lambda _: fan(2), aim_s=0.5, is_cold=True)

    measured(system, cold, ONCE)

    assert system.sizes == [22, 4, 4, 4, 4]


def test_no_repetition_begins_after_the_budget() -> None:
    system = Counting()
    hasty = Patience(repetitions=50, budget_s=0.0, warm_tasks=5, limit_s=60.0)

    measured(system, ROW, hasty)

    assert system.sizes == [22, 10]


def repetition(seconds: float, others: float, cpu_s: float = 0.1) -> Repetition:
    return Repetition(seconds=seconds, cpu_s={"client": cpu_s}, others=others, peak_mb=10 * seconds)


def test_disturbed_repetitions_count_only_where_all_are() -> None:
    calm, disturbed = repetition(0.2, 0.0, 0.1), repetition(0.8, 1.0, 0.3)

    mixed, all_disturbed = summary(ROW, [disturbed, calm, disturbed]), summary(ROW, [disturbed])

    assert mixed["seconds"] == [0.8, 0.2, 0.8]
    assert mixed["median_s"] == 0.2
    assert all_disturbed["median_s"] == 0.8
    if usage.is_known():
        assert mixed["cpu_us"] == {"client": pytest.approx(10_000.0)}
        assert (mixed["others"], mixed["client_mb"]) == (0.0, 2.0)
        assert all_disturbed["others"] == 1.0


def test_the_first_repetition_of_a_cold_row_is_not_in_the_median() -> None:
    cold = Row(name="cold", title="cold", build=lambda _: fan(2), aim_s=0.5, is_cold=True)

    result = summary(cold, [repetition(s, 0.0) for s in (3.0, 0.3, 0.1, 0.2)])

    assert result["median_s"] == 0.2
    results = Results()
    results.add("dagnb", "cold", result)
    assert table.cell(results, "dagnb", cold) == "3, then 0.2"


def test_a_system_without_an_answer_is_interrupted() -> None:
    with pytest.raises(TimeoutError, match=r"after 0\.01 s"), limited(0.01):
        for_ever()


# ---- CPU by role ----


def test_cpu_is_summed_by_role_with_children_that_have_ended() -> None:
    """client 1 - worker 2 - helper 3; agent 5 - store 6, worker 7; 9 is of another program."""
    seen = {
        1: Usage(0, 10.0, 1.0),
        2: Usage(1, 2.0, 0.0),
        3: Usage(2, 4.0, 0.5),
        5: Usage(0, 8.0, 16.0),
        6: Usage(5, 32.0, 0.0),
        7: Usage(5, 64.0, 0.0),
        9: Usage(0, 1_000.0, 0.0),
    }

    by_role = usage.cpu_by_role(1, {"agent": 5, "store": 6}, seen)

    assert by_role == {"client": 10.0, "workers": 1 + 2 + 4.5 + 24 + 64, "store": 32.0}


@pytest.mark.skipif(not usage.is_known(), reason="without /proc")
def test_this_process_is_among_the_processes_of_the_machine() -> None:
    seen = usage.processes()

    assert seen[os.getpid()].parent == os.getppid()
    assert usage.peak_mb() > 1.0


# ---- the breakdown ----


def account(spans: list[Span]) -> Account:
    trace = Trace(spans=tuple(spans), names=("a", "b", "c"), submitted_s=9.0, finished_s=20.0)
    moments = {"": 8.0, "until the first function begins": 10.0}
    return Account(at=moments, trace=trace, cpu_s={}, counted={}, peak_bytes=0)


def test_the_commit_of_a_batch_counts_once_in_the_time_of_its_worker() -> None:
    """w1 runs a and b, commits both in one trip; w2 runs c. Both have ten seconds."""
    spans = [
        Span(0, "w1", Phase.QUEUE, 9.0, 10.0),
        Span(0, "w1", Phase.RUN, 10.0, 11.0),
        Span(1, "w1", Phase.RUN, 11.0, 13.0),
        Span(0, "w1", Phase.COMMIT, 13.0, 17.0),
        Span(1, "w1", Phase.COMMIT, 13.0, 17.5),
        Span(2, "w2", Phase.RUN, 10.0, 16.0),
    ]

    parts = phase_parts(account(spans))

    assert {name: part_s for name, part_s in parts.items() if part_s} == {
        "run": 9.0,
        "commit": 4.5,
        "between spans, and waiting": 20.0 - 13.5,
    }


def test_times_that_overlap_are_covered_once() -> None:
    assert covered_s([(4.0, 6.0), (1.0, 2.0), (1.5, 3.0), (4.5, 5.0)]) == 4.0


# ---- results and tables ----


def test_a_column_whose_packages_are_missing_says_so_and_how_to_install_them() -> None:
    results = Results(missing={"dask": ["dask", "distributed"], "ray": ["ray"]})

    lines = list(table.noted(results, ["dask", "ray", "pool"], [ROW]))

    assert table.cell(results, "dask", ROW) == "not installed"
    assert table.cell(results, "pool", ROW) == "-"
    assert lines == ["not installed; to compare: pip install dask distributed ray"]


def test_a_system_whose_packages_are_missing_is_not_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(conductor, "run_alone", pytest.fail)

    results = conductor.conduct(["pool"], ["fan"], quick=True, requires=["no-such-package-here"])

    assert results.missing == {"pool": ["no-such-package-here"]}
    assert results.cells == {}


def test_a_cell_shows_the_median_and_marks_a_busy_machine() -> None:
    results = Results()
    results.add("dagnb", "fan", {"seconds": [0.2, 0.4, 0.3], "median_s": 0.3, "others": 0.9})
    results.add("dask", "fan", {"seconds": [0.6], "median_s": 0.6, "others": 0.1})

    assert table.cell(results, "dagnb", ROW) == "~0.3"
    assert table.cell(results, "dask", ROW) == "0.6"
    assert table.ratio(results, "fan", "dagnb", "dask") == "0.50"
    assert table.ratio(results, "fan", "dagnb", "pool") == "-"
    assert results.exit_code() == 0


def test_a_row_that_failed_on_dagnb_fails_the_program() -> None:
    results = Results()
    results.add("ray", "fan", {"error": "OSError: full"})
    assert results.exit_code() == 0

    results.add("dagnb", "fan", {"error": "TimeoutError: no result after 60 s"})

    assert results.exit_code() == 1
    assert table.cell(results, "dagnb", ROW) == "failed"
    assert list(table.noted(results, ["dagnb"], [ROW])) == [
        "failed: fan on dagnb: TimeoutError: no result after 60 s"
    ]


def test_first_results_of_several_processes_are_one_median() -> None:
    results = Results()

    for seconds in (0.5, 0.1, 0.3):
        results.add("pool", FIRST, {"seconds": [seconds], "median_s": seconds})

    assert results.median_s("pool", FIRST) == 0.3


def test_the_rows_after_a_failed_one_go_on_in_another_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[list[str]] = []

    def measured_until_b(
        system: str, rows: list[str], options: list[str]
    ) -> list[tuple[str, dict[str, Any]]]:
        started.append(list(rows))
        cells: list[tuple[str, dict[str, Any]]] = []
        for name in rows:
            if name == "b":
                return [*cells, (name, {"error": "it broke"})]
            cells.append((name, {"seconds": [1.0], "median_s": 1.0}))
        return cells

    monkeypatch.setattr(conductor, "_process", measured_until_b)

    results = conductor.conduct(["pool"], ["a", "b", "c"], quick=True)

    assert started == [["a", "b", "c"], ["c"]]
    assert [results.median_s("pool", name) for name in "abc"] == [1.0, None, 1.0]


def test_every_adapter_names_a_class_of_its_module() -> None:
    folder = conductor.ROOT / "benchmarks" / "peers"

    for adapter in process.ADAPTERS.values():
        source = (folder / f"{adapter.module}.py").read_text("utf-8")
        assert f"class {adapter.class_name}" in source
