"""Every way in which a task can go wrong, and how often it is tried again."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from dagnb_workers.launchers.inline import Inline

import dagnb
from dagnb.errors import (
    TaskFailedError,
)
from dagnb.graph.task import task
from tests.unit.inline_runs import (
    LIMIT_S,
    awaited,
    divide,
    failing,
    failure,
    hold,
    inline,
    same,
    under_way,
)

__all__ = ["inline"]  # pytest finds the fixture by its name here

# ---- errors ----


def test_an_error_has_its_place_its_worker_and_its_lines() -> None:
    before = time.time()
    error = failure(divide(1, 0).run())

    assert (error.task, error.attempt, error.final) == ("divide-0", 1, True)
    assert error.worker == "~/1"
    assert before <= error.at <= time.time()
    assert [(frame.function, frame.source.strip()) for frame in error.frames] == [
        ("divide", "return left / right")
    ]
    assert error.frames[0].file == inspect.getfile(divide.function)
    assert error.traceback[0] == "Traceback (most recent call last):\n"
    assert error.traceback[-1] == "ZeroDivisionError: division by zero\n"
    assert (error.exit_code, error.signal) == (None, None)


def test_the_message_names_the_task_the_cause_and_the_cure_and_shows_the_users_lines() -> None:
    run = divide(1, 0).run()

    with pytest.raises(TaskFailedError) as caught:
        run.result()

    text = str(caught.value)
    assert text.startswith(
        "task 'divide-0' failed after 1 attempt(s) on worker 1: ZeroDivisionError: division by zero."
    )
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
    assert [run.description.names[task] for task in run.look().results] == ["same-3"]


def test_with_continue_all_tasks_above_a_skipped_one_run_and_their_failures_are_reported() -> None:
    """divide-0 ... divide-9 -> same-0 ... same-9 -> same-10; two divisions fail, on one worker."""
    quotients = [same(divide(1, n % 5)) for n in range(10)]
    run = dagnb.run(same(quotients), on_error="continue", workers=Inline(n=1))

    with pytest.raises(TaskFailedError, match=r"\(and 1 more\)"):
        run.result(LIMIT_S)

    assert run.state == "failed"
    assert run.status == {"done": 16, "failed": 2, "skipped": 3}
    assert {error.task for error in run.errors} == {"divide-0", "divide-5"}


def test_with_continue_tasks_that_back_off_are_tried_again_before_the_run_ends() -> None:
    """again-0, divide-0 -> same-0: again-0 backs off, divide-0 fails; no task will read again-0."""

    @task(retries=1, backoff_s=0.2)
    def again() -> int:
        if dagnb.context().attempt == 1:
            raise ValueError("not yet")
        return 2

    run = dagnb.run(same([again(), divide(1, 0)]), on_error="continue", workers=Inline(n=1))

    with pytest.raises(TaskFailedError, match="divide-0"):
        run.result(LIMIT_S)

    assert run.status == {"done": 1, "failed": 1, "skipped": 1}
    assert [(error.task, error.final) for error in run.errors] == [
        ("again-0", False),
        ("divide-0", True),
    ]


def test_with_continue_every_failure_is_reported() -> None:
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
        (
            lambda: SystemExit(3),
            "SystemExit",
            "the task called sys.exit(3); return a value instead",
        ),
        (
            lambda: SystemExit(0),
            "SystemExit",
            "the task called sys.exit(0); return a value instead",
        ),
        (lambda: KeyboardInterrupt("by hand"), "KeyboardInterrupt", "by hand"),
        (lambda: StopIteration(4), "StopIteration", "4"),
        (lambda: asyncio.CancelledError("mine"), "CancelledError", "mine"),
        (GeneratorExit, "GeneratorExit", ""),
        (MemoryError, "MemoryError", ""),
        (lambda: RecursionError("deep"), "RecursionError", "deep"),
        (
            lambda: ExceptionGroup("both", [KeyError(1), OSError(2)]),
            "ExceptionGroup",
            "both (2 sub-exceptions)",
        ),
        (
            lambda: Exception("<img src=x onerror=alert(1)>"),
            "Exception",
            "<img src=x onerror=alert(1)>",
        ),
        (lambda: type("Own", (BaseException,), {})("base"), "Own", "base"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_whatever_a_task_raises_is_reported_and_its_worker_goes_on(
    error: Callable[[], BaseException], kind: str, message: str
) -> None:
    run = dagnb.run(failing(error), same(same(1)), on_error="continue", workers=Inline(n=1))

    told = failure(run)

    assert (told.type, told.message, told.final) == (kind, message, True)
    assert told.frames[-1].function == "broken"
    assert any(kind in line for line in told.traceback)
    assert run.status == {"done": 2, "failed": 1}


@pytest.mark.parametrize(
    ("kind", "cure"),
    [
        ("lock", "and open or create the object inside the task that needs it."),
        ("generator", "Return a list of what it gives instead."),
    ],
)
def test_a_result_that_cannot_travel_fails_its_task_with_the_reason(kind: str, cure: str) -> None:
    @task
    def giving() -> object:
        return threading.Lock() if kind == "lock" else (n for n in "ab")

    run = dagnb.run(giving(), same(1), on_error="continue", workers=Inline(n=1))

    told = failure(run)
    assert told.type == "UnserialisableError"
    assert told.message.startswith("the result of task 'giving-0' cannot be pickled: ")
    assert told.message.endswith(cure)
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

    assert told.message.startswith(
        "the result of task 'moody-0' cannot be pickled: RuntimeError: not today."
    )


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

    assert "waits for its back-off to end after 1 failed attempt" in run.why("third_time-0")
    run.cancel()
