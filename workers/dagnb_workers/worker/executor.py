"""Runs the user's function: the one place where any exception may come by; it becomes a failure with its cause."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from dagnb.graph.context import TaskContext, entered
from dagnb_workers.surroundings.aspects import of_thread
from dagnb_workers.surroundings.isolation import Isolation
from dagnb_workers.worker.watch import Call


@dataclass(frozen=True, slots=True)
class Raised:
    """The function raised. error: the exception itself, never sent anywhere."""

    error: BaseException


def call_here(
    function: Callable[..., Any], call: Call, here: TaskContext, *, whole_process: bool = True
) -> Any:
    """The function's value, or Raised. A coroutine is run to its end, in a loop of its own.

    Context variables are those of a new thread, so no task sees what another one has set. The current thread must
    have no running loop. whole_process: this is the main thread and nothing else runs here; SIGINT interrupts it.
    """
    pid = os.getpid()
    guard = interruptible() if whole_process else contextlib.nullcontext()
    # All is caught here: a future refuses StopIteration, and takes a CancelledError of the user's for our own.
    try:
        with guard:
            value = contextvars.Context().run(_called, function, call, here, whole_process)
        _end_forked(pid)
    except BaseException as error:  # noqa: BLE001  # the user's function may raise anything, SystemExit included
        _end_forked(pid, error)
        return Raised(error)
    return value


def _called(
    function: Callable[..., Any], call: Call, here: TaskContext, whole_process: bool
) -> Any:
    with entered(here, whole_process=whole_process):
        value = function(*call[0], **call[1])
        return asyncio.run(value) if inspect.iscoroutine(value) else value


def _end_forked(pid: int, error: BaseException | None = None) -> None:
    """End a process that the function forked and that came out of it: only the worker itself may report a result.

    pid: of the worker. error: what the function raised there; the exit code is that of a script which ends so.
    """
    if os.getpid() == pid:
        return
    code = 0 if error is None else 1
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        traceback.print_exception(error)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(
            OSError, ValueError, AttributeError
        ):  # user code may have closed or replaced it
            stream.flush()
    os._exit(code & 0xFF)


async def call_in_thread(
    pool: Executor, function: Callable[..., Any], call: Call, here: TaskContext
) -> Any:
    """Calls as call_here does, in a thread of the pool, so that the loop of this process goes on.

    Nothing can interrupt it. Only what the thread has of its own is put back: all else belongs to the user's process,
    where another task or the user may have changed it meanwhile.
    """

    def run() -> Any:
        isolation = Isolation(of_thread(), watches_imports=False)
        return isolation.around(lambda: call_here(function, call, here, whole_process=False))

    return await asyncio.get_running_loop().run_in_executor(pool, run)


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt inside the block, and is ignored outside it.

    Python's own handler does it, so that asyncio.run cancels what it runs, as it does in a script.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, ignore)


def ignore(number: int, frame: FrameType | None) -> None:
    """A signal handler that does nothing; unlike SIG_IGN it is not inherited by the processes a task starts."""
