"""Questions that need no run.

Planners side by side, on nodes, on runs of the past, on workflows of others.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dagnb_planners.exact import Exact
from dagnb_planners.heft import Heft
from dagnb_workers.launchers.inline import Inline

import dagnb
from dagnb import analysis, registry, session
from dagnb.errors import (
    AmbiguousNameError,
    ConfigError,
    GraphError,
    RunError,
    RunMissingError,
    UnknownNameError,
)
from dagnb.exchange import wfformat
from dagnb.exchange.workflow import Workflow
from dagnb.forecast.compare import Comparison, PlannerResult
from dagnb.forecast.past import MEASURED
from dagnb.graph.dag import Dag
from dagnb.graph.task import task
from dagnb.handle import Run
from dagnb.planning.planner import Costs, LinearCost, Pool, Problem, StartCost
from dagnb.run_history.history import History
from tests.unit.forecast.past_runs import floating, remember

PATIENCE_S = 20
QUICK = ["flexible", "one_pass"]


class Gate:
    """For a task to wait at. A class, because it is pickled by name: its events stay these."""

    begun, opened = threading.Event(), threading.Event()


@task
def part(size: int) -> bytes:
    return bytes(size)


@task
def total(parts: list[bytes]) -> int:
    return sum(map(len, parts))


@task
def wait_at_the_gate() -> bool:
    Gate.begun.set()
    return Gate.opened.wait(PATIENCE_S)


@task
def refuse() -> None:
    raise ValueError("no")


@task(time_s=3.0, output_bytes=500)
def promised() -> None:
    pass


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A history of its own, and two workers in this process."""
    monkeypatch.setenv("DAGNB_HOME", str(tmp_path / "home"))
    monkeypatch.delenv(session.STORE_VARIABLE, raising=False)
    before = session.settings()
    dagnb.configure(workers=Inline(n=2))
    yield
    dagnb.configure(workers=before.workers)


@pytest.fixture
def done() -> Run[int]:
    """part x3 -> total, kept in the history."""
    run = total([part(100_000) for _ in range(3)]).run(name="parts")
    assert run.result(PATIENCE_S) == 300_000
    return run


def problem(found: Comparison) -> Problem:
    best = found.best
    assert best is not None
    assert best.plan_forecast is not None
    return best.plan_forecast.problem


def length(line: PlannerResult) -> float:
    assert line.forecast is not None
    return line.forecast.p50_s


# ---- compare ----


def test_a_node_is_compared_over_all_installed_planners_at_expected_costs() -> None:
    comparison = dagnb.compare(total([promised(), promised()]))

    assert comparison.name == "total"
    assert {line.planner for line in comparison.lines} == set(registry.names("planner"))
    assert problem(comparison).costs.run(0) == pytest.approx(3.0)
    assert problem(comparison).pool.cap == 2


def test_a_run_is_compared_at_the_prices_it_paid(done: Run[int]) -> None:
    comparison = dagnb.compare(done, planners=QUICK)
    run_s = {span.task: span.duration_s for span in done.trace.spans if span.phase.value == "run"}

    assert comparison.name == "parts"
    assert [call.name for call in problem(comparison).dag.calls] == list(done.description.names)
    assert dict(problem(comparison).costs.run_s) == pytest.approx(run_s)
    assert set(problem(comparison).costs.basis.values()) == {MEASURED}


def test_of_what_was_measured_the_percentiles_are_one(done: Run[int]) -> None:
    for line in dagnb.compare(done, planners=QUICK).lines:
        assert line.forecast is not None
        assert line.forecast.p10_s == line.forecast.p90_s


def test_a_run_is_compared_at_the_prices_that_are_expected_now(done: Run[int]) -> None:
    comparison = dagnb.compare(done, planners=QUICK, costs="predicted")

    assert all(
        "sample" in basis.text or "call" in basis.text
        for basis in problem(comparison).costs.basis.values()
    )


def test_the_planner_of_the_run_comes_to_what_its_replay_comes_to(done: Run[int]) -> None:
    (line,) = dagnb.compare(done, planners=["flexible"]).lines

    assert length(line) == pytest.approx(done.makespans.replay_s, rel=0.02, abs=0.002)


@pytest.mark.parametrize("how", ["id", "beginning", "name", "last"])
def test_a_run_is_found_in_the_history_when_the_store_has_forgotten_it(
    done: Run[int], how: str
) -> None:
    text = {"id": done.id, "beginning": done.id[:20].lower(), "name": "parts", "last": "last"}[how]
    dagnb.history()
    done.forget()

    assert dagnb.compare(text, planners=QUICK).name == "parts"


def test_of_runs_of_one_name_the_newest_is_meant(done: Run[int]) -> None:
    newer = total([part(1)]).run(name="parts")
    newer.result(PATIENCE_S)

    assert analysis.past("parts").run == newer.id


def test_a_beginning_of_several_ids_is_refused_with_the_ids(done: Run[int]) -> None:
    total([part(1)]).run().result(PATIENCE_S)

    with pytest.raises(
        AmbiguousNameError, match=rf"(?s)'01' begins the ids of \d+ runs:.*{done.id}"
    ):
        dagnb.compare("01")


def test_the_newest_run_is_last_before_the_history_has_taken_it_in(done: Run[int]) -> None:
    """A run of which only the store knows: this process never waited for its result."""
    newer = total([part(1)]).run(name="newer")
    session.wait(newer._store.wait_end(newer.id, PATIENCE_S))

    assert newer.id not in {line.run for line in dagnb.history()}
    for text in ("last", "newer", newer.id[:24], newer.id):
        assert analysis.past(text).run == newer.id
    assert dagnb.compare("last", planners=QUICK).name == "newer"
    assert '"otherData":{"name":"newer"}' in dagnb.export("last")


@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_name_is_no_run_of_the_past(done: Run[int], text: str) -> None:
    for ask in (dagnb.compare, dagnb.export, analysis.past):
        with pytest.raises(AmbiguousNameError, match="an empty name means no run"):
            ask(text)


def test_runs_of_the_history_are_found_while_the_store_is_out_of_reach(
    done: Run[int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dagnb.history()
    monkeypatch.setenv(session.STORE_VARIABLE, "unix:///nowhere/at.sock")

    assert analysis.past("parts").run == done.id
    assert "only runs of the history are looked at" in caplog.text


def test_an_unknown_run_is_an_error() -> None:
    with pytest.raises(RunMissingError, match="nobody"):
        dagnb.compare("nobody")


def test_a_run_that_goes_on_is_refused() -> None:
    Gate.begun.clear()
    Gate.opened.clear()
    run = wait_at_the_gate().run()
    assert Gate.begun.wait(PATIENCE_S)

    with pytest.raises(RunError, match="still running"):
        dagnb.compare(run)
    Gate.opened.set()


def test_what_if_there_were_other_workers_transfers_and_starts(done: Run[int]) -> None:
    usual = length(dagnb.compare(done, planners=["flexible"]).lines[0])
    fewer = dagnb.compare(done, planners=["flexible"], cap=1)
    slower = dagnb.compare(done, planners=["flexible"], bytes_per_s=100_000)
    colder = dagnb.compare(done, planners=["flexible"], cold_s=7.0)

    assert problem(fewer).pool.cap == 1
    assert fewer.lines[0].outcome is not None
    assert fewer.lines[0].outcome.n_cold == 1
    assert (
        length(slower.lines[0]) > usual + 2
    )  # each part is stored in a second, and one worker fetches one at least
    assert length(colder.lines[0]) == pytest.approx(7.0, abs=2.0)
    assert length(colder.lines[0]) > 7.0


@pytest.mark.parametrize(
    "changes", [{"cap": 0}, {"cold_s": -1.0}, {"bytes_per_s": 0.0}, {"costs": "guessed"}]
)
def test_what_cannot_be_is_refused(done: Run[int], changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(changes))):
        dagnb.compare(done, planners=QUICK, **changes)


def test_planners_are_given_by_name_or_as_objects_and_distinguished(done: Run[int]) -> None:
    comparison = dagnb.compare(done, planners=["heft", Heft(n_workers=1)])

    assert {line.planner for line in comparison.lines} == {"heft", "Heft(n_workers=1)"}


def test_an_unknown_planner_is_an_error_with_the_nearest_name(done: Run[int]) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'heft'"):
        dagnb.compare(done, planners=["hefd"])
    with pytest.raises(ConfigError, match=r"planners=\['heft'\]"):
        dagnb.compare(done, planners="heft")


def test_the_exact_planner_is_hurried_and_left_out_of_large_dags_unless_asked_for() -> None:
    wide = total([part(1) for _ in range(analysis.EXACT_TASKS)])

    few = {line.planner for line in dagnb.compare(total([part(1)])).lines}
    assert few == set(registry.names("planner"))
    assert analysis._planners(None, 2)["exact"] == Exact(limit_s=5.0)
    assert analysis._planners(["exact"], 100)["exact"] == Exact()
    assert "exact" not in analysis._planners(None, len(wide.upstream) + 1)


def test_a_run_on_other_workers_starts_and_fits_as_those_do(done: Run[int]) -> None:
    comparison = problem(dagnb.compare(done, planners=QUICK, workers=Inline(n=5)))

    assert comparison.pool.cap == 5
    assert comparison.costs.start_series == ()
    assert set(comparison.costs.basis.values()) == {MEASURED}


def test_a_failed_run_is_compared_as_far_as_it_is_known() -> None:
    run = total([part(10), refuse()]).run()
    with pytest.raises(dagnb.errors.TaskFailedError):
        run.result(PATIENCE_S)

    assert len(problem(dagnb.compare(run, planners=QUICK)).dag) == 3


def test_a_workflow_of_others_is_compared_from_its_file(done: Run[int], tmp_path: Path) -> None:
    file = tmp_path / "parts.json"
    file.write_text(dagnb.export(done, "wfformat"))
    by_text, by_path = dagnb.compare(str(file), planners=QUICK), dagnb.compare(file, planners=QUICK)

    assert by_text.name == by_path.name == "parts"
    measured = problem(dagnb.compare(done, planners=QUICK)).costs
    assert dict(problem(by_text).costs.run_s) == pytest.approx(dict(measured.run_s))
    assert dict(problem(by_text).costs.output_bytes) == dict(measured.output_bytes)


def figures(comparison: Comparison) -> list[tuple[str, ...]]:
    """The lines of a comparison without the seconds that planning took."""
    return [line.cells[:-1] for line in comparison.lines]


def remember_small_runs(n: int, slow: float) -> None:
    """Small runs on this platform, of functions with the names that the file has: with commits,
    starts and transfers that take so much longer than usual, and attempts that fail."""
    source = random.Random(n)
    plan = floating(Dag.of(total([part(1) for _ in range(6)])))
    for number in range(n):
        real = Costs(
            default_run_s=source.uniform(0.01, 0.5),
            default_output_bytes=source.randrange(100, 40_000),
            fetch=LinearCost(0.0003 * slow, 2e-9 * slow),
            commit_s=0.0003 * slow * source.uniform(0.5, 2.0),
            cold=StartCost(invoke_s=0.02 * slow),
            failures={0: ((0.5, 1.0),)},
        )
        remember(History(), f"{n} {number}", plan, real, Pool(cap=2), platform="inline")


def test_a_workflow_of_others_has_the_same_figures_whatever_has_run_here(tmp_path: Path) -> None:
    file = tmp_path / "large.json"
    named = ["part-0", "part-1", "part-2", "total-0"]
    dag = Dag.from_edges(
        named, [(name, "total-0") for name in named[:3]], functions=["part"] * 3 + ["total"]
    )
    # One task has no time in the file.
    known = Costs(run_s={0: 2.0, 1: 3.0, 3: 1.0}, default_output_bytes=10**8)
    workflow = replace(Workflow.expected(dag, known, name="large"), run_s=known.run_s)
    file.write_text(wfformat.text(workflow))

    empty = dagnb.compare(file, planners=QUICK)
    remember_small_runs(9, slow=20.0)
    small = dagnb.compare(file, planners=QUICK)
    remember_small_runs(100, slow=5.0)
    large = dagnb.compare(file, planners=QUICK)

    assert figures(empty) == figures(small) == figures(large)
    assert problem(empty).costs == problem(small).costs == problem(large).costs
    asked = problem(dagnb.compare(file, planners=QUICK, costs="predicted")).costs
    assert asked.commit_s > 3 * problem(empty).costs.commit_s
    assert asked.run_s[0] == 2.0


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        dagnb.compare(tmp_path / "nothing.json")
    (tmp_path / "empty.json").write_text("{}")
    with pytest.raises(GraphError, match="schemaVersion is missing"):
        dagnb.compare(tmp_path / "empty.json")


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(
        ConfigError, match="17 cannot be compared: give a node, a list or dict of nodes, a run"
    ):
        dagnb.compare(17)
