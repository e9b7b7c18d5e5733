"""A run in the user's hand: waiting, watching, ending it; and every way in which a task can go wrong."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from dagnb_workers.launchers.inline import Inline

import dagnb
from dagnb import session
from dagnb.errors import (
    AmbiguousNameError,
    BlobMissingError,
    RunCancelledError,
    RunMissingError,
    RunTimeoutError,
    SignatureError,
    TaskError,
    TaskFailedError,
    VersionMismatchError,
)
from dagnb.graph.payload import Signer, encode_value
from dagnb.graph.task import Node, Task, task
from dagnb.handle import Run
from dagnb.protocol.invocation import python_version
from dagnb.protocol.messages import Address
from dagnb.storage.interface import Store
from dagnb.trace.span import Phase
from tests.services.processes import await_that

LIMIT_S = 20.0
"""How long a test waits for what must happen"""

started: dict[str, threading.Event] = defaultdict(threading.Event)
gates: dict[str, threading.Event] = defaultdict(threading.Event)
unpickled: list[str] = []


@pytest.fixture(autouse=True)
def inline() -> Iterator[None]:
    """Two workers in this process; whoever still waits at a gate is let go."""
    before = session.settings()
    dagnb.configure(workers=Inline(n=2))
    yield
    for gate in gates.values():
        gate.set()
    started.clear()
    gates.clear()
    dagnb.configure(workers=before.workers)


def pause(name: str) -> None:
    """A function of this module and not a copy, as the function of a task would be: it sees the same events."""
    started[name].set()
    assert gates[name].wait(LIMIT_S)


@task
def hold(name: str, value: Any = None) -> Any:
    """Runs from `started` to `gates`."""
    pause(name)
    return value


@task
def same(value: Any = None, *more: Any) -> Any:
    """Its first argument."""
    return value


@task
def divide(left: float, right: float) -> float:
    """May raise ZeroDivisionError."""
    return left / right


def under_way(name: str) -> None:
    """Return when `hold(name)` runs."""
    assert started[name].wait(LIMIT_S)


def failing(error: Callable[[], BaseException], **options: Any) -> Node[Any]:
    """A task that raises."""

    def broken() -> None:
        raise error()

    return Task(broken).with_options(**options)()


def failure(run: Run[Any]) -> TaskError:
    """The only error of a run that failed."""
    with pytest.raises(TaskFailedError) as caught:
        run.result(LIMIT_S)
    (error,) = caught.value.errors
    return error


def memory() -> Store:
    return session.wait(session.reopened(dagnb.Redis(url=session.MEMORY_URL)))


# ---- three different things ----


def test_none_is_a_result() -> None:
    run = same(None).run()

    assert run.result() is None
    assert (run.state, run.done, run.errors) == ("ok", True, [])


@pytest.mark.parametrize("value", [b"", "", 0, False, [], float("inf"), b"x" * 3_000_000], ids=lambda v: repr(v)[:9])
def test_empty_false_and_large_results_come_back(value: object) -> None:
    assert same(same(value)).run().result() == value


def test_a_result_that_vanished_is_missing_and_neither_none_nor_a_failure() -> None:
    run = same(None).run()
    run.result()
    memory()._rooms[run.id].blobs.clear()  # type: ignore[attr-defined]  # nobody but an accident does this

    with pytest.raises(BlobMissingError, match=r"1 value\(s\) are missing from the store: same-0"):
        run.result()
    assert run.state == "ok"


def test_a_failed_task_raises() -> None:
    error = failure(divide(1, 0).run())

    assert (error.type, error.message) == ("ZeroDivisionError", "division by zero")


# ---- waiting ----


def test_a_time_out_of_waiting_leaves_the_run_going_on() -> None:
    run = hold("a", 7).run()

    with pytest.raises(RunTimeoutError, match=r"gave no result within 0.01 s: the run goes on") as caught:
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
    threads = [threading.Thread(target=lambda: values.append(run.result(LIMIT_S))) for _ in range(3)]
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

    found = dagnb.attach(run.id)
    assert found.look().results == {}
    assert found.status == {"cancelled": 1}


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


# ---- errors ----


def test_an_error_tells_where_by_whom_and_with_which_lines() -> None:
    before = time.time()
    error = failure(divide(1, 0).run())

    assert (error.task, error.attempt, error.final) == ("divide-0", 1, True)
    assert error.worker == "~/1"
    assert before <= error.at <= time.time()
    assert [(frame.function, frame.source.strip()) for frame in error.frames] == [("divide", "return left / right")]
    assert error.frames[0].file == __file__
    assert error.traceback[0] == "Traceback (most recent call last):\n"
    assert error.traceback[-1] == "ZeroDivisionError: division by zero\n"
    assert (error.exit_code, error.signal) == (None, None)


def test_the_message_names_the_task_the_cause_and_the_cure_and_shows_the_users_lines() -> None:
    run = divide(1, 0).run()

    with pytest.raises(TaskFailedError) as caught:
        run.result()

    text = str(caught.value)
    assert text.startswith("task 'divide-0' failed after 1 attempt(s) on ~/1: ZeroDivisionError: division by zero.")
    assert f"`dagnb errors {run.id}` shows everything" in text
    assert "return left / right" in text
    assert "dagnb_workers" not in text


def test_the_first_failure_ends_the_run() -> None:
    run = dagnb.run(same(divide(1, 0)), hold("a"))

    with pytest.raises(TaskFailedError, match="divide-0"):
        run.result(LIMIT_S)

    assert run.state == "failed"
    assert run.status == {"failed": 1, "cancelled": 2}


def test_with_continue_what_needs_a_failed_task_is_skipped_and_the_rest_is_done() -> None:
    """divide -> same-0 -> same-1; same-2 -> same-3"""
    run = dagnb.run(same(same(divide(1, 0))), same(same(4)), on_error="continue")

    with pytest.raises(TaskFailedError) as caught:
        run.result(LIMIT_S)

    assert [error.task for error in caught.value.errors] == ["divide-0"]
    assert run.status == {"done": 2, "failed": 1, "skipped": 2}
    assert [run.story.names[task] for task in run.look().results] == ["same-3"]


def test_with_continue_every_task_above_a_skipped_one_is_run_and_all_their_failures_are_told() -> None:
    """divide-0 ... divide-9 -> same-0 ... same-9 -> same-10; two of the divisions fail, on one worker."""
    quotients = [same(divide(1, n % 5)) for n in range(10)]
    run = dagnb.run(same(quotients), on_error="continue", workers=Inline(n=1))

    with pytest.raises(TaskFailedError, match=r"\(and 1 more\)"):
        run.result(LIMIT_S)

    assert run.state == "failed"
    assert run.status == {"done": 16, "failed": 2, "skipped": 3}
    assert {error.task for error in run.errors} == {"divide-0", "divide-5"}


def test_with_continue_tasks_that_back_off_are_tried_again_before_the_run_ends() -> None:
    """again-0, divide-0 -> same-0: again-0 backs off, divide-0 fails, and nobody will read again-0."""

    @task(retries=1, backoff_s=0.2)
    def again() -> int:
        if dagnb.context().attempt == 1:
            raise ValueError("not yet")
        return 2

    run = dagnb.run(same([again(), divide(1, 0)]), on_error="continue", workers=Inline(n=1))

    with pytest.raises(TaskFailedError, match="divide-0"):
        run.result(LIMIT_S)

    assert run.status == {"done": 1, "failed": 1, "skipped": 1}
    assert [(error.task, error.final) for error in run.errors] == [("again-0", False), ("divide-0", True)]


def test_with_continue_every_failure_is_told() -> None:
    run = dagnb.run(divide(1, 0), divide(2, 0), divide(3, 1), on_error="continue")

    with pytest.raises(TaskFailedError, match=r"\(and 1 more\)") as caught:
        run.result(LIMIT_S)

    assert {error.task for error in caught.value.errors} == {"divide-0", "divide-1"}
    assert run.status == {"done": 1, "failed": 2}


class OddError(Exception):
    """Pickles, and does not unpickle."""

    def __init__(self, left: int, right: int) -> None:
        super().__init__(f"{left} is odd, and so is {right}")


class MuteError(Exception):
    """Cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (lambda: OddError(1, 3), "OddError", "1 is odd, and so is 3"),
        (MuteError, "MuteError", "(its message cannot be shown: RuntimeError in __str__)"),
        (lambda: SystemExit(3), "SystemExit", "the task called sys.exit(3); return a value instead"),
        (lambda: SystemExit(0), "SystemExit", "the task called sys.exit(0); return a value instead"),
        (lambda: KeyboardInterrupt("by hand"), "KeyboardInterrupt", "by hand"),
        (lambda: StopIteration(4), "StopIteration", "4"),
        (lambda: asyncio.CancelledError("mine"), "CancelledError", "mine"),
        (GeneratorExit, "GeneratorExit", ""),
        (MemoryError, "MemoryError", ""),
        (lambda: RecursionError("deep"), "RecursionError", "deep"),
        (lambda: ExceptionGroup("both", [KeyError(1), OSError(2)]), "ExceptionGroup", "both (2 sub-exceptions)"),
        (lambda: Exception("<img src=x onerror=alert(1)>"), "Exception", "<img src=x onerror=alert(1)>"),
        (lambda: type("Own", (BaseException,), {})("base"), "Own", "base"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_whatever_a_task_raises_is_told_and_its_worker_lives(
    error: Callable[[], BaseException], kind: str, message: str
) -> None:
    run = dagnb.run(failing(error), same(same(1)), on_error="continue", workers=Inline(n=1))

    told = failure(run)

    assert (told.type, told.message, told.final) == (kind, message, True)
    assert told.frames[-1].function == "broken"
    assert any(kind in line for line in told.traceback)
    assert run.status == {"done": 2, "failed": 1}


@pytest.mark.parametrize("kind", ["lock", "generator"])
def test_a_result_that_cannot_travel_fails_its_task_with_the_reason(kind: str) -> None:
    @task
    def giving() -> object:
        return threading.Lock() if kind == "lock" else (n for n in "ab")

    run = dagnb.run(giving(), same(1), on_error="continue", workers=Inline(n=1))

    told = failure(run)
    assert told.type == "UnserialisableError"
    assert told.message.startswith("the result of task 'giving-0' cannot be pickled: ")
    assert told.message.endswith("or create the object inside the task.")
    assert run.status == {"done": 1, "failed": 1}


class Moody:
    """Raises what no pickler expects."""

    def __getstate__(self) -> object:
        raise RuntimeError("not today")


class Jammed:
    """Travels, and cannot be read."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


def test_a_result_whose_own_pickling_raises_fails_its_task_and_not_the_worker() -> None:
    @task
    def moody() -> Moody:
        return Moody()

    told = failure(dagnb.run(moody(), same(1), on_error="continue", workers=Inline(n=1)))

    assert told.message.startswith("the result of task 'moody-0' cannot be pickled: RuntimeError: not today.")


def test_an_input_that_cannot_be_read_fails_the_task_that_reads_it() -> None:
    @task
    def jammed() -> Jammed:
        return Jammed()

    told = failure(same(jammed()).run())

    assert (told.task, told.type) == ("same-0", "ValueError")
    assert "no number" in told.message


# ---- retries ----


@task(retries=2, backoff_s=0)
def third_time(kind: str) -> int:
    """Fails twice."""
    attempt = dagnb.context().attempt
    if attempt < 3:
        raise {"key": KeyError, "value": ValueError}[kind](f"attempt {attempt}")
    return attempt


def test_a_task_is_tried_again_as_often_as_it_may_be() -> None:
    run = third_time("key").run()

    assert run.result(LIMIT_S) == 3
    assert [(error.attempt, error.message, error.final) for error in run.errors] == [
        (1, "'attempt 1'", False),
        (2, "'attempt 2'", False),
    ]
    assert [event.kind for event in run.look().events if event.task == 0] == [
        *("start", "retry", "start", "retry", "start", "done")
    ]


def test_when_the_retries_are_used_up_the_last_attempt_is_the_final_one() -> None:
    run = third_time.with_options(retries=1)("key").run()

    error = failure(run)

    assert (error.attempt, error.final) == (2, True)
    assert [error.final for error in run.errors] == [False, True]


def test_only_the_errors_named_are_tried_again() -> None:
    picky = third_time.with_options(retry_on=(KeyError, OSError))

    assert picky("key").run().result(LIMIT_S) == 3
    assert failure(picky("value").run()).attempt == 1


def test_what_is_no_exception_is_not_tried_again_unless_it_is_named() -> None:
    def leave() -> BaseException:
        return SystemExit(1)

    assert failure(failing(leave, retries=3, backoff_s=0.0).run()).attempt == 1
    named = dagnb.run(failing(leave, retries=3, backoff_s=0.0, retry_on=(SystemExit,)))
    with pytest.raises(TaskFailedError) as caught:
        named.result(LIMIT_S)
    assert caught.value.errors[0].attempt == 4


def test_a_retry_waits_for_its_back_off_while_others_go_on() -> None:
    slow = third_time.with_options(backoff_s=1e9)
    run = dagnb.run(slow("key"), hold("a"))
    under_way("a")

    awaited(lambda: run.status == {"retrying": 1, "running": 1})

    assert "waits for its back-off to end after 1 failed attempt(s)" in run.why("third_time-0")
    run.cancel()


def awaited(happened: Callable[[], bool]) -> None:
    """Look until it happened; each look is a trip to the store."""
    until = time.monotonic() + LIMIT_S
    while not happened():
        assert time.monotonic() < until


# ---- watching ----


def test_why_answers_in_every_state() -> None:
    """hold -> same-0; divide -> same-1; one worker, so that the rest is ready"""
    first = same("first")
    run = dagnb.run(same(hold("a", first)), same(divide(1, 0)), hold("b"), on_error="continue", workers=Inline(n=1))
    names = run.story.names
    under_way("a")

    assert run.why("same-0") == "'same-0' is done."
    assert run.why("hold-0") == "'hold-0' is running."
    assert run.why("same-1") == "'same-1' waits for 1 of its 1 upstream tasks: 'hold-0' (running)."
    assert run.why("divide-0") == "'divide-0' is ready and waits for a free worker; 1 of 1 worker process(es) are busy."
    assert run.status == {"waiting": 2, "ready": 2, "running": 1, "done": 1}
    gates["a"].set()
    under_way("b")
    assert run.why("divide-0") == "'divide-0' failed for good after 1 failed attempt(s); run.errors tells why."
    assert run.why("same-2") == "'same-2' was skipped, because a task it needs failed."
    run.cancel("enough")
    assert run.why("hold-1") == "'hold-1' did not finish: the run ended as cancelled (enough)."
    assert names == ("same-0", "hold-0", "same-1", "divide-0", "same-2", "hold-1")


def test_why_of_a_task_that_is_not_there_tells_some_that_are() -> None:
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


def test_the_trace_of_a_run_has_its_makespan_and_a_span_of_each_run() -> None:
    run = same(same(1)).run()
    run.result()

    trace = run.trace

    assert trace.makespan_s == run.look().finished_at - run.look().submitted_at > 0
    told = [(span.phase.value, span.attempt) for span in trace.of_task(0)]
    assert told[:3] == [("queue", 1), ("program", 1), ("load", 1)]
    assert trace.names == ("same-0", "same-1")


def test_the_start_of_an_instance_ends_with_its_first_answer_even_if_there_is_no_work_for_it() -> None:
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


# ---- what tasks may do ----


def test_a_task_that_calls_other_tasks_runs_them_as_functions() -> None:
    @task
    def outer(n: int) -> int:
        return same(n) + sum(map(same, range(n)))

    assert outer(4).run().result() == 10


def test_coroutine_functions_are_awaited() -> None:
    @task
    async def inner(value: int) -> tuple[int, str]:
        await asyncio.sleep(0)
        return value, dagnb.context().task

    @task
    async def outer(value: tuple[int, str]) -> tuple[Any, ...]:
        call: Coroutine[Any, Any, tuple[int, str]] = inner(5)  # type: ignore[assignment]  # inside it just runs
        return (*value, *(await call))

    assert outer(inner(4)).run().result() == (4, "inner-0", 5, "outer-0")


def test_a_coroutine_that_raises_fails_like_a_function() -> None:
    @task
    async def broken() -> None:
        await asyncio.sleep(0)
        raise StopAsyncIteration("here")

    error = failure(broken().run())

    assert (error.type, error.message, error.frames[-1].function) == ("StopAsyncIteration", "here", "broken")


@task(retries=1, backoff_s=0)
def introspective(fail: bool) -> tuple[Any, ...]:
    """What a task knows of itself, in its last attempt."""
    here = dagnb.context()
    if fail and here.attempt == 1:
        raise KeyError(here.seed)
    return here.run, here.task, here.attempt, here.seed, here.idempotency_key, here.worker


def test_a_task_knows_its_run_name_attempt_seed_and_key() -> None:
    run = dagnb.run(introspective(False), introspective(True))

    first, second = run.result()

    assert first[:3] == (run.id, "introspective-0", 1)
    assert second[:3] == (run.id, "introspective-1", 2)
    assert [str(second[3])] == [error.message for error in run.errors]
    assert first[3] != second[3]
    assert (first[4], second[4]) == (f"{run.id}/introspective-0", f"{run.id}/introspective-1")
    assert {first[5], second[5]} <= {"~/1", "~/2"}


def test_the_seed_differs_between_runs() -> None:
    node = introspective(False)

    assert node.run().result()[3] != node.run().result()[3]


def test_a_task_that_changes_its_input_changes_nobody_elses() -> None:
    @task
    def grow(values: list[int]) -> list[int]:
        values.append(len(values))
        return values

    first = grow([])

    assert dagnb.run(grow(first), grow(first), first).result() == ([0, 1], [0, 1], [0])


def test_so_many_functions_run_at_a_time_as_there_are_workers() -> None:
    """More than there are threads in the loop's own pool."""
    n = (os.cpu_count() or 1) + 8
    nodes = [hold(str(i), i) for i in range(n)]

    run = dagnb.run(*nodes, workers=Inline(n=n))
    for i in range(n):
        under_way(str(i))
    assert run.status == {"running": n}
    for i in range(n):
        gates[str(i)].set()

    assert run.result() == tuple(range(n))


# ---- bytes that somebody else wrote ----


def ran(what: str) -> None:
    unpickled.append(what)


class Evil:
    """Bytes of it run code when they are unpickled."""

    def __reduce__(self) -> Any:
        return ran, ("the evil bytes",)


def overwrite(run: Run[Any], task: int, address: Address, data: bytes) -> None:
    session.wait(memory().store(run.id, task, address.token, data, is_sink=True))


def test_a_result_that_was_overwritten_is_refused_before_it_is_unpickled() -> None:
    unpickled.clear()
    run = same("good").run()
    run.result()

    overwrite(run, 0, run.look().results[0], b"\0" * 16 + b"".join(encode_value(Evil(), "?")))

    with pytest.raises(SignatureError, match=f"value:{run.id}:0:"):
        run.result()
    assert unpickled == []


def test_results_of_two_tasks_that_were_swapped_are_refused() -> None:
    run = dagnb.run(same("left"), same("right"))
    run.result()
    seen = run.look().results
    sealed = session.wait(memory().fetch(run.id, list(seen.items()), is_sink=True))

    for place, data in zip(seen, reversed(sealed), strict=True):
        overwrite(run, place, seen[place], data or b"")

    with pytest.raises(SignatureError):
        run.result()


def test_code_that_was_overwritten_is_refused_by_the_worker_before_it_is_unpickled() -> None:
    """hold -> same: while hold runs, somebody replaces the code of same."""
    unpickled.clear()
    run = same(hold("a")).run(workers=Inline(n=1))
    under_way("a")
    store = memory()
    contents = store._contents  # type: ignore[attr-defined]  # an attacker keeps to no interface
    evil = b"".join(encode_value(Evil(), "?"))
    session.wait(store.share(dict.fromkeys(list(contents), evil), ttl_s=60.0))

    gates["a"].set()

    error = failure(run)
    assert (error.task, error.type) == ("same-0", "SignatureError")
    assert unpickled == []
    contents.clear()


def test_a_run_whose_program_was_overwritten_ends_and_says_why() -> None:
    """Its workers cannot begin; without them it would wait for ever."""

    class Late(Inline):
        """Launches after somebody was at the store."""

        async def launch(self, invocation: Any, needs: Any = ()) -> None:
            store = await session.reopened(dagnb.Redis(url=session.MEMORY_URL))
            await store.share({invocation.header: b"evil"}, ttl_s=60.0)
            await super().launch(invocation, needs)

    run = same(1).run(workers=Late(n=1))

    with pytest.raises(RunCancelledError, match=r"a worker could not go on: content .* does not carry"):
        run.result(LIMIT_S)
    memory()._contents.clear()  # type: ignore[attr-defined]  # for the next test


# ---- large graphs ----


def chain(n: int) -> Node[int]:
    node = same(1)
    for _ in range(n - 1):
        node = same(node)
    return node


def fan_out(n: int) -> Node[list[int]]:
    first = same(1)
    return same([same(first) for _ in range(n)])


@pytest.mark.parametrize("shape", [chain, fan_out])
def test_a_graph_deeper_and_wider_than_the_stack_is_built_and_run(shape: Callable[[int], Node[Any]]) -> None:
    assert shape(1_100).run().result(LIMIT_S) in (1, [1] * 1_100)


@pytest.mark.stress
@pytest.mark.parametrize(("shape", "n"), [(chain, 5_000), (fan_out, 10_000)])
def test_thousands_of_tasks_are_built_and_run_in_this_process(
    shape: Callable[[int], Node[Any]], n: int, summary: list[str]
) -> None:
    begin = time.perf_counter()
    node = shape(n)
    built = time.perf_counter()

    value = node.run().result(100.0)

    ended = time.perf_counter()
    summary.append(f"{shape.__name__} of {n:,}, inline: built in {built - begin:.2f} s, run in {ended - built:.2f} s")
    assert value in (1, [1] * n)


# ---- what must not be mixed up ----


def test_two_equal_large_arguments_stay_two_objects() -> None:
    """A task that changes one of them in place must not change the other."""

    @task
    def change(first: bytearray, second: bytearray) -> tuple[int, int]:
        first[0] = 7
        return first[0], second[0]

    assert change(bytearray(40_000), bytearray(40_000)).run().result() == (7, 0)


def test_one_large_object_given_twice_stays_one_object() -> None:
    @task
    def change(first: bytearray, second: bytearray) -> tuple[int, int]:
        first[0] = 7
        return first[0], second[0]

    both = bytearray(40_000)

    assert change(both, both).run().result() == (7, 7)


def test_the_value_of_a_task_that_succeeded_is_there_although_another_failed() -> None:
    @task
    def bad() -> int:
        raise ValueError("no")

    run = dagnb.run(bad(), same(5), on_error="continue")
    with pytest.raises(TaskFailedError):
        run.result()

    assert run.value("same-0") == 5
    with pytest.raises(KeyError, match="has no value of 'bad-0'; done of what was asked for: same-0"):
        run.value("bad-0")


def test_the_value_of_a_task_that_nobody_asked_for_is_not_kept_and_the_error_says_how_to_keep_it() -> None:
    run = dagnb.run(same(divide(4, 2)), on_error="continue")
    run.result()

    assert run.status == {"done": 2}
    with pytest.raises(KeyError, match=r"only values of what was asked for are kept, so give its node to dagnb\.run"):
        run.value("divide-0")


def test_a_task_may_be_called_like_its_function_where_that_is_called_once() -> None:
    run = dagnb.run(same([divide(4, 2), divide(9, 3)]))
    assert run.result() == [2, 3]

    assert (run.value("same"), run.value(" same-0 ")) == ([2, 3], [2, 3])
    assert run.why("same") == "'same-0' is done."
    assert run.log("same") == ""
    for ask in (run.value, run.why, run.log):
        with pytest.raises(AmbiguousNameError, match="'divide' is called 2 times") as caught:
            ask("divide")
        assert caught.value.candidates == ("divide-0", "divide-1")
        with pytest.raises(AmbiguousNameError, match="an empty name means no task"):
            ask(" ")


def test_results_are_refused_when_somebody_changed_which_they_are() -> None:
    run = dagnb.run(same("a"), same("b"))
    run.result()
    chosen = session.settings(workers="inline")
    store, _ = session.wait(session.store_for(chosen, chosen.launcher()))
    machine = store._room(run.id).machine  # type: ignore[attr-defined]  # the memory store's own
    told = json.loads(machine.submission.meta)
    told["sinks"].reverse()
    machine.submission = replace(machine.submission, meta=json.dumps(told))

    with pytest.raises(SignatureError, match="story:"):
        dagnb.attach(run.id).result()


# ---- runs of another Python ----


def redescribe(run: Run[Any], python: str | None) -> None:
    """Sign the run's description anew, as that Python would have written it; None: as a release that noted none."""
    machine = memory()._rooms[run.id].machine  # type: ignore[attr-defined]  # no other interpreter shares this store
    told = json.loads(machine.submission.meta)
    del told["seal"], told["python"]
    if python is not None:
        told["python"] = python
    text = json.dumps(told).encode()
    mac = Signer(session.key_for(memory())).seal(f"story:{run.id}", text)[: -len(text)]
    machine.submission = replace(machine.submission, meta=json.dumps({**told, "seal": mac.hex()}))


@task
def make_evil() -> Any:
    """What notes that it is unpickled."""
    return Evil()


OTHER = "CPython 3.7"
BOTH_VERSIONS = f"made by {OTHER}, this side is {python_version()}"


@pytest.mark.parametrize("read", [lambda run: run.result(), lambda run: run.value("make_evil-0")])
def test_values_that_another_python_made_are_refused_before_they_are_unpickled(read: Callable[[Run[Any]], Any]) -> None:
    unpickled.clear()
    run = make_evil().run()
    await_that(lambda: run.done, "the run is over")

    redescribe(run, OTHER)
    with pytest.raises(VersionMismatchError, match=BOTH_VERSIONS):
        read(dagnb.attach(run.id))
    assert unpickled == []

    for same_or_unknown in (python_version(), None):
        redescribe(run, same_or_unknown)
        read(dagnb.attach(run.id))
    assert unpickled == ["the evil bytes"] * 2


def test_waiting_for_a_run_of_another_python_is_refused_while_it_goes_on() -> None:
    run = hold("a").run()
    under_way("a")
    redescribe(run, OTHER)
    attached = dagnb.attach(run.id)

    with pytest.raises(VersionMismatchError, match=BOTH_VERSIONS):
        attached.result(LIMIT_S)

    assert attached.status == {"running": 1}  # it can be looked at, and cancelled
    assert attached.cancel()


def test_a_forged_python_version_is_refused_as_any_forged_description() -> None:
    run = same(1).run()
    run.result()
    machine = memory()._rooms[run.id].machine  # type: ignore[attr-defined]  # an attacker keeps to no interface
    told = json.loads(machine.submission.meta) | {"python": ""}
    machine.submission = replace(machine.submission, meta=json.dumps(told))

    with pytest.raises(SignatureError, match="story:"):
        dagnb.attach(run.id).result()
