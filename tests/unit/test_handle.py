"""A run in the user's hand: waiting for it, watching it, ending it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
import traceback
from itertools import pairwise

import pytest
from dagnb_workers.launchers.inline import Inline

import dagnb
from dagnb import session
from dagnb.errors import (
    BlobMissingError,
    RunCancelledError,
    RunMissingError,
    RunTimeoutError,
    TaskFailedError,
)
from dagnb.graph.task import task
from dagnb.protocol.messages import Observation
from dagnb.trace.trace import Phase
from tests.unit.inline_runs import (
    LIMIT_S,
    awaited,
    divide,
    failure,
    gates,
    hold,
    inline,
    memory,
    same,
    under_way,
)

__all__ = ["inline"]  # pytest finds the fixture by its name here

# ---- three different things ----


def test_none_is_a_result() -> None:
    run = same(None).run()

    assert run.result() is None
    assert (run.state, run.done, run.errors) == ("ok", True, [])


@pytest.mark.parametrize(
    "value", [b"", "", 0, False, [], float("inf"), b"x" * 3_000_000], ids=lambda v: repr(v)[:9]
)
def test_empty_false_and_large_results_come_back(value: object) -> None:
    assert same(same(value)).run().result() == value


def test_a_result_that_vanished_is_missing_and_neither_none_nor_a_failure() -> None:
    run = same(None).run()
    run.result()
    memory()._runs[run.id].blobs.clear()  # type: ignore[attr-defined]  # nobody but an accident does this

    with pytest.raises(BlobMissingError, match=r"1 value\(s\) are missing from the store: same-0"):
        run.result()
    assert run.state == "ok"


def test_a_failed_task_raises() -> None:
    error = failure(divide(1, 0).run())

    assert (error.type, error.message) == ("ZeroDivisionError", "division by zero")


# ---- waiting ----


def test_a_time_out_of_waiting_leaves_the_run_going_on() -> None:
    run = hold("a", 7).run()

    with pytest.raises(
        RunTimeoutError, match=r"gave no result within 0.01 s: the run goes on"
    ) as caught:
        run.result(timeout_s=0.01)

    assert (caught.value.run, caught.value.limit_s) == (run.id, 0.01)
    assert run.state == "running"
    gates["a"].set()
    assert run.result(LIMIT_S) == 7


def test_a_time_out_of_nothing_looks_once() -> None:
    run = same(7).run()
    run.result()

    assert run.result(timeout_s=0) == 7
    with pytest.raises(RunTimeoutError):
        hold("a").run().result(timeout_s=0)


def test_a_deadline_ends_the_run() -> None:
    run = dagnb.run(same(hold("a")), deadline_s=0.05)

    with pytest.raises(RunTimeoutError, match="it passed its deadline and was ended"):
        run.result(LIMIT_S)

    assert run.state == "deadline"
    assert run.status == {"cancelled": 2}
    assert "did not finish: the run ended as deadline (the deadline passed)" in run.why("same-0")


def interrupt_who_waits() -> None:
    """Interrupt this process as soon as its main thread waits for a result."""
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        stack = traceback.extract_stack(sys._current_frames()[threading.main_thread().ident or 0])
        if ["result", "wait"] in [[outer.name, inner.name] for outer, inner in pairwise(stack)]:
            os.kill(os.getpid(), signal.SIGINT)
            return


def test_an_interrupt_while_waiting_cancels_the_run_and_says_so() -> None:
    @task
    def interrupting() -> None:
        interrupt_who_waits()
        hold("never")

    run = interrupting().run()

    with pytest.raises(KeyboardInterrupt, match=f"run {run.id} was cancelled"):
        run.result(LIMIT_S)
    assert (run.state, run.look().reason) == ("cancelled", "interrupted")


async def test_a_run_can_be_awaited_in_a_loop_that_goes_on_meanwhile() -> None:
    seen = []
    run = hold("a", "value").run()

    async def ticking() -> None:
        await asyncio.to_thread(under_way, "a")
        for tick in range(3):
            await asyncio.sleep(0)
            seen.append(tick)
        gates["a"].set()

    value, _ = await asyncio.gather(run, ticking())

    assert (value, seen) == ("value", [0, 1, 2])


async def test_awaiting_a_failed_run_raises_what_result_raises() -> None:
    with pytest.raises(TaskFailedError, match="ZeroDivisionError"):
        await divide(1, 0).run()


async def test_cancelling_the_wait_cancels_the_run() -> None:
    run = hold("a").run()

    async def waiting() -> None:
        await run

    waiter = asyncio.create_task(waiting())
    await asyncio.to_thread(under_way, "a")
    waiter.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiter
    with pytest.raises(RunCancelledError, match="interrupted"):
        await run


def test_several_may_wait_for_one_run() -> None:
    run = hold("a", 5).run()
    values: list[int] = []
    threads = [
        threading.Thread(target=lambda: values.append(run.result(LIMIT_S))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()

    gates["a"].set()
    for thread in threads:
        thread.join(LIMIT_S)

    assert values == [5, 5, 5]


# ---- ending ----


def test_cancel_ends_a_run_once() -> None:
    run = dagnb.run(same(hold("a")), same(1))
    under_way("a")

    assert run.cancel("enough of it") is True
    assert run.cancel() is False

    with pytest.raises(RunCancelledError, match=r"was cancelled \(enough of it\)"):
        run.result()
    assert run.status["cancelled"] >= 2


def test_cancelling_what_is_over_changes_nothing() -> None:
    run = same(1).run()
    run.result()

    assert run.cancel() is False
    assert run.state == "ok"


def test_the_value_of_a_task_that_ends_after_the_cancel_is_thrown_away() -> None:
    run = hold("a", 1).run()
    under_way("a")
    run.cancel()

    gates["a"].set()
    awaited(lambda: not [thread for thread in threading.enumerate() if run.id in thread.name])

    attached = dagnb.attach(run.id)
    assert attached.look().results == {}
    assert attached.status == {"cancelled": 1}


def test_forget_deletes_everything() -> None:
    run = same(1).run()
    run.result()

    assert run.forget() > 0
    assert run.forget() == 0
    with pytest.raises(RunMissingError):
        dagnb.attach(run.id)
    assert run.id not in {line.run for line in dagnb.runs()}


def test_a_run_may_be_forgotten_while_it_goes_on() -> None:
    run = hold("a").run()
    under_way("a")

    run.forget()
    gates["a"].set()

    with pytest.raises(RunMissingError, match="it was forgotten"):
        run.result()


def test_kill_ends_the_run_without_waiting_for_its_functions() -> None:
    run = hold("a").run()
    under_way("a")

    run.kill()

    assert (run.state, run.look().reason) == ("cancelled", "killed")


# ---- watching ----


def test_why_answers_in_every_state() -> None:
    """hold -> same-0; divide -> same-1; one worker, so that the rest is ready"""
    first = same("first")
    run = dagnb.run(
        same(hold("a", first)),
        same(divide(1, 0)),
        hold("b"),
        on_error="continue",
        workers=Inline(n=1),
    )
    names = run.description.names
    under_way("a")

    assert run.why("same-0") == "'same-0' is done."
    assert run.why("hold-0") == "'hold-0' is running."
    assert run.why("same-1") == "'same-1' waits for 1 of its 1 upstream tasks: 'hold-0' (running)."
    assert (
        run.why("divide-0")
        == "'divide-0' is ready and waits for a free worker; workers at work: 1 of 1."
    )
    assert run.status == {"waiting": 2, "ready": 2, "running": 1, "done": 1}
    gates["a"].set()
    under_way("b")
    assert (
        run.why("divide-0")
        == "'divide-0' failed for good after 1 failed attempt; run.errors shows why."
    )
    assert run.why("same-2") == "'same-2' was skipped, because a task it needs failed."
    run.cancel("enough")
    assert run.why("hold-1") == "'hold-1' did not finish: the run ended as cancelled (enough)."
    assert names == ("same-0", "hold-0", "same-1", "divide-0", "same-2", "hold-1")


def test_why_of_an_unknown_task_names_some_that_exist() -> None:
    run = same(1).run()
    run.result()

    with pytest.raises(KeyError, match=r"unknown task 'smae-0'. Did you mean 'same-0'\?"):
        run.why("smae-0")


def test_status_counts_the_states_there_are() -> None:
    run = same([hold("a"), same(1)]).run()
    under_way("a")
    awaited(lambda: run.status.get("done") == 1)

    assert run.status == {"waiting": 1, "running": 1, "done": 1}
    gates["a"].set()
    run.result()
    assert run.status == {"done": 3}


def test_the_log_of_an_inline_task_is_empty_because_its_output_goes_where_it_always_goes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    @task
    def printing() -> None:
        print("from the task")  # noqa: T201

    run = printing().run()
    run.result()

    assert run.log("printing-0") == ""
    assert capsys.readouterr().out == "from the task\n"


def test_a_look_after_another_shows_only_newer_events() -> None:
    run = same(hold("a")).run()
    under_way("a")
    seen = run.look()

    gates["a"].set()
    run.result()
    news = run.look(seen)

    assert [(event.kind, event.task) for event in news.events if event.kind != "worker"] == [
        *(("done", 0), ("start", 1), ("done", 1), ("end", -1))
    ]


def test_waiting_reads_the_whole_run_first_and_last_and_between_only_what_is_new(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, cursors = memory(), list[str]()
    observe = store.observe

    async def noted(observed: str, cursor: str = "") -> Observation:
        if observed == run.id:  # runs of other tests may be recorded meanwhile
            cursors.append(cursor)
        if len(cursors) == 3:
            gates["a"].set()
        return await observe(observed, cursor)

    async def no_wait(run: str, timeout_s: float) -> None:
        await asyncio.sleep(0)  # each look follows the last one at once

    run = same(hold("a", 1)).run()
    under_way("a")
    monkeypatch.setattr(store, "observe", noted)
    monkeypatch.setattr(store, "wait_end", no_wait)

    assert run.result() == 1
    session.wait_for_pending(LIMIT_S)
    n_looks = len(cursors)

    assert [bool(cursor) for cursor in cursors[:3]] == [False, True, True]
    assert "" in cursors[3:]
    assert [event.kind for event in run.look().events][-1] == "end"
    assert len(cursors) == n_looks


def test_the_trace_of_a_run_has_its_makespan_and_a_span_of_each_run() -> None:
    run = same(same(1)).run()
    run.result()

    trace = run.trace

    assert trace.makespan_s == run.look().finished_at - run.look().submitted_at > 0
    told = [(span.phase.value, span.attempt) for span in trace.of_task(0)]
    assert told[:3] == [("queue", 1), ("program", 1), ("load", 1)]
    assert trace.names == ("same-0", "same-1")


def test_the_start_of_an_instance_ends_with_its_first_answer_even_if_there_is_no_work_for_it() -> (
    None
):
    """a -> b, c: the second instance waits while a runs, which is no part of its start"""
    first = hold("a")
    run = same([hold("b", first), hold("c", first)]).run()
    under_way("a")
    awaited(lambda: run.look().n_instances == 2)

    gates["a"].set()
    under_way("b")
    under_way("c")
    gates["b"].set()
    gates["c"].set()
    run.result()

    starts = [span for span in run.trace.spans if span.phase is Phase.INVOKE]
    (a,) = [span for span in run.trace.of_task(0) if span.phase is Phase.RUN]
    assert [span.detail for span in starts] == ["cold", "warm"]
    assert starts[1].begin_s >= a.end_s


def test_a_run_shows_its_state_without_asking_the_store() -> None:
    run = same(1).run()
    assert repr(run) == f"<run {run.id} started; .result() waits for it>"

    run.result()

    assert repr(run) == f"<run {run.id} ok; .result() gives its value>"


def test_why_without_a_task_says_where_the_time_of_the_run_went() -> None:
    run = dagnb.run(same(same(1)), workers=Inline(n=1))
    run.result()

    workers, makespan, head, *chain = run.why().splitlines()

    assert workers.startswith("1 worker: ")
    assert makespan.startswith("makespan ")
    assert head.startswith("the chain of tasks that took these ")
    assert [line.split()[0] for line in chain] == ["same-0", "same-1"]
