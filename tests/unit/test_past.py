"""Functions as they are known, what is kept of past runs, and runs for others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from dagnb_workers.launchers.inline import Inline

import dagnb
from dagnb import session
from dagnb.errors import ConfigError, UnknownNameError
from dagnb.exchange.wfformat import read
from dagnb.graph.task import task
from dagnb.handle import Run
from dagnb.run_history.history import History

PATIENCE_S = 20


@task
def part(size: int) -> bytes:
    return bytes(size)


@task
def total(parts: list[bytes]) -> int:
    return sum(map(len, parts))


@task(time_s=3.0, output_bytes=500)
def promised() -> None:
    pass


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A history of its own, and two workers in this process.

    The runs of a test are kept before the next one begins.
    """
    session.wait_for_pending(PATIENCE_S)
    monkeypatch.setenv("DAGNB_HOME", str(tmp_path / "home"))
    monkeypatch.delenv(session.STORE_VARIABLE, raising=False)
    before = session.settings()
    dagnb.configure(workers=Inline(n=2))
    yield
    dagnb.configure(workers=before.workers)
    session.wait_for_pending(PATIENCE_S)


@pytest.fixture
def done() -> Run[int]:
    """part x3 -> total, kept in the history."""
    run = total([part(100_000) for _ in range(3)]).run(name="parts")
    assert run.result(PATIENCE_S) == 300_000
    return run


# ---- predict ----


def test_a_function_is_predicted_from_its_samples_by_resources(done: Run[int]) -> None:
    prediction = dagnb.predict("part")
    (line,) = prediction.lines

    assert (line.n, line.resources, prediction.codes, len(prediction.points)) == (
        3,
        dagnb.Resources(),
        1,
        3,
    )
    assert line.run.is_known
    assert line.output.p50 == pytest.approx(100_000, rel=0.01)
    assert all(low <= middle <= high for _, low, middle, high in prediction.curve)


def test_a_task_that_never_ran_is_predicted_from_its_hints() -> None:
    (line,) = dagnb.predict(promised).lines

    assert (line.n, line.relation) == (0, "hinted")
    assert (line.run.p50, line.output.p50) == pytest.approx((3.0, 500.0))


def test_a_task_that_nobody_knows_is_said_to_be_unknown() -> None:
    prediction = dagnb.predict(part)

    assert (prediction.lines[0].n, prediction.lines[0].relation) == (0, "unknown")
    assert "?" in str(prediction)


def test_a_function_is_predicted_for_so_many_bytes(done: Run[int]) -> None:
    assert [line.n_bytes for line in dagnb.predict("total", n_bytes=12_345).lines] == [12_345]
    with pytest.raises(ConfigError, match="n_bytes=-1"):
        dagnb.predict("total", n_bytes=-1)


def test_a_function_that_never_ran_is_an_error_with_the_nearest_name(done: Run[int]) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown function 'totl'. Did you mean 'total'"):
        dagnb.predict("totl")


# ---- history and export ----


def test_the_history_lists_what_is_kept_newest_first(done: Run[int]) -> None:
    newer = total([part(1)]).run(name="newer", planner="one_pass")
    newer.result(PATIENCE_S)
    first, second = dagnb.history()

    assert (first.run, first.name, first.planner, first.state) == (
        newer.id,
        "newer",
        "one_pass",
        "ok",
    )
    assert (second.run, second.platform, second.n_steps) == (done.id, "inline", 4)
    assert second.makespan_s == pytest.approx(done.trace.makespan_s)
    # Its functions had never run before: a forecast would have been a guess.
    assert (second.p10_s, second.p50_s, second.in_band) == (None, None, None)
    assert first.p10_s is not None
    assert first.p90_s is not None
    assert (
        first.in_band == (first.p10_s <= first.makespan_s <= first.p90_s) == newer.makespans.in_band
    )


def test_what_is_kept_again_after_all_was_forgotten_is_learnt(done: Run[int]) -> None:
    assert dagnb.predict("part").lines[0].n == 3
    History().forget()
    total([part(10)]).run().result(PATIENCE_S)

    assert len(dagnb.history()) == 1
    assert dagnb.predict("part").lines[0].n == 1


def test_a_run_is_exported_for_perfetto_with_its_plan(done: Run[int]) -> None:
    known = total([part(1)]).run()
    known.result(PATIENCE_S)
    events = json.loads(dagnb.export(known))["traceEvents"]
    unknown_before = json.loads(dagnb.export(done))["traceEvents"]
    from_history = json.loads(dagnb.export(done.id))["traceEvents"]

    assert {event["pid"] for event in events} == {1, 2}
    assert {event["pid"] for event in unknown_before} == {1}
    assert {event["pid"] for event in from_history} == {1}
    assert {"part-0", "part-1", "part-2", "total-0"} <= {event["name"] for event in from_history}


def test_a_run_is_exported_as_a_workflow_that_can_be_read_back(done: Run[int]) -> None:
    workflow = read(dagnb.export("last", "wfformat"))

    assert [call.name for call in workflow.dag.calls] == ["part-0", "part-1", "part-2", "total-0"]
    assert workflow.dag.calls[3].upstream == (0, 1, 2)
    assert workflow.makespan_s == pytest.approx(done.trace.makespan_s)


def test_an_unknown_format_is_an_error(done: Run[int]) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown format 'chrom'. Did you mean 'chrome'"):
        dagnb.export(done, "chrom")
