"""Calls of the user's functions: the only file that must expect any exception.

An exception of the function becomes a value (`Raised`) here, and a failure in
`failure_reporter.py`. There are two ways to call:

    call_here         in a worker process: in its main thread, where no event loop runs
    call_in_thread    in the client's own process (`Inline`): in a thread beside its loop

A worker process calls functions in its main thread and has no loop and no other thread, because a
task may do whatever a script may do:

- SIGINT, by which time limits interrupt a task, only reaches Python code of the main thread.
- Libraries with a synchronous interface over asyncio refuse to work beside a running loop.
- A second thread would make every fork of a task unsafe: locks of that thread stay locked in the
  child.

The supervisor sends the heartbeats, so nothing is lost while a function runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import os
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol, TypeVar

from dagnb.graph.context import TaskContext, entered
from dagnb_workers.surroundings.aspects import of_thread, set_handler
from dagnb_workers.surroundings.isolation import Isolation
from dagnb_workers.surroundings.user_main import Call

T = TypeVar("T")

Caller = Callable[[Callable[..., Any], Call, TaskContext], Awaitable[Any]]
"""calls a function; returns its value, or `Raised`"""


class Watch(Protocol):
    """The supervision of the calls of one instance: it learns when an attempt begins and ends."""

    def staff(self, worker: str) -> None:
        """Note the worker of the plan that this instance staffs from now on."""
        ...

    def begin(self, task: int, attempt: int, limit_s: float, n_behind: int) -> None:
        """Note that this attempt is at work.

        limit_s: its time limit while its function runs; 0 without a limit, and before and after.
        n_behind: number of tasks of its batch that wait behind it.
        """
        ...

    def end(self) -> None:
        """Note that the attempt is committed, or reported as failed."""
        ...

    def timed_out(self, task: int, attempt: int) -> bool:
        """Returns whether the attempt was interrupted because its time was up."""
        ...


TakeOutput = Callable[[], tuple[str, str]]
"""returns the tails of stdout and stderr since the last call"""


def no_output() -> tuple[str, str]:
    """Returns two empty texts, where the output of tasks is not captured."""
    return "", ""


@dataclass(frozen=True, slots=True)
class Raised:
    """An exception that the function raised. It never leaves this process."""

    error: BaseException


# ---- a call ----


def call_here(
    function: Callable[..., Any],
    call: Call,
    context: TaskContext,
    *,
    whole_process: bool = True,
) -> Any:
    """Call the function in this thread, which has no running loop. Returns its value, or Raised.

    A coroutine is run to its end in a new loop. Context variables are empty, as in a new thread, so
    no task sees what another one has set.

    whole_process: this is the main thread and nothing else runs here, so SIGINT interrupts it.
    """
    pid = os.getpid()
    guard = interruptible() if whole_process else contextlib.nullcontext()
    # No exception may pass: a future refuses StopIteration, and would take a CancelledError of the
    # function for a cancellation of the worker itself.
    try:
        with guard:
            value = contextvars.Context().run(_call, function, call, context, whole_process)
        _end_forked(pid)
    except BaseException as error:  # noqa: BLE001  # SystemExit included
        _end_forked(pid, error)
        return Raised(error)
    return value


def _call(
    function: Callable[..., Any], call: Call, context: TaskContext, whole_process: bool
) -> Any:
    with entered(context, whole_process=whole_process):
        value = function(*call[0], **call[1])
        if inspect.iscoroutine(value):
            return asyncio.run(value)
        return value


def _end_forked(worker_pid: int, error: BaseException | None = None) -> None:
    """End this process if it is not the worker: the function forked it, and it returned.

    Only the worker itself may report a result: two processes would write to one connection.

    error: exception of the function, which decides the exit code as in a script.
    """
    if os.getpid() == worker_pid:
        return

    code = 0 if error is None else 1
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        traceback.print_exception(error)

    for stream in (sys.stdout, sys.stderr):
        # The user's code may have closed or replaced the stream.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    # Without atexit, because the child must not call functions that the worker registered.
    os._exit(code & 0xFF)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGINT raise KeyboardInterrupt inside the block; it is ignored outside.

    Python's own handler does it, so that asyncio.run cancels its coroutine, as it does in a script.
    """
    set_handler(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        set_handler(signal.SIGINT, ignore)


def ignore(number: int, frame: FrameType | None) -> None:
    """Do nothing. Programs that a task starts do not inherit this handler, unlike SIG_IGN."""


async def call_in_thread(
    pool: Executor, function: Callable[..., Any], call: Call, context: TaskContext
) -> Any:
    """Call as call_here does, in a thread of the pool, while the loop of this process goes on.

    The call cannot be interrupted. Only aspects of the thread are restored: another task, or the
    user, may have changed those of the process meanwhile.
    """

    def run() -> Any:
        isolation = Isolation(of_thread(), watches_imports=False)
        return isolation.around(lambda: call_here(function, call, context, whole_process=False))

    return await asyncio.get_running_loop().run_in_executor(pool, run)
