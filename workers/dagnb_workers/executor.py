"""Runs the user's function: the one place where any exception may come by; it becomes a failure with its cause."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from dagnb.graph.context import TaskContext, entered


@dataclass(frozen=True, slots=True)
class Raised:
    """The function raised. error: the exception itself, never sent anywhere."""

    error: BaseException


async def call_here(
    function: Callable[..., Any], call: tuple[tuple[Any, ...], dict[str, Any]], here: TaskContext
) -> Any:
    """The function's value, or Raised; run in this thread, where SIGINT interrupts it."""
    pid = os.getpid()
    try:
        with entered(here, whole_process=True), interruptible():
            value = function(*call[0], **call[1])
        _end_forked(pid)
        if inspect.iscoroutine(value):
            with entered(here, whole_process=True):
                value = await _awaited(value)
    except BaseException as error:  # noqa: BLE001  # the user's function may raise anything, SystemExit included
        _end_forked(pid, error)
        return Raised(error)
    return value


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
        with contextlib.suppress(OSError, ValueError, AttributeError):  # user code may have closed or replaced it
            stream.flush()
    os._exit(code & 0xFF)


async def _awaited(work: Coroutine[Any, Any, Any]) -> Any:
    """The coroutine's value; SIGINT cancels it, so that it may clean up."""
    running = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    signal.signal(signal.SIGINT, lambda *_: loop.call_soon_threadsafe(running.cancel))
    try:
        return await running
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGINT, ignore)


async def call_in_thread(
    pool: Executor, function: Callable[..., Any], call: tuple[tuple[Any, ...], dict[str, Any]], here: TaskContext
) -> Any:
    """As call_here, in a thread of the pool, so that the loop of this process goes on; nothing can interrupt it."""

    def run() -> Any:
        pid = os.getpid()
        # Caught in the thread: a future refuses StopIteration, and takes a CancelledError of the user's for our own.
        try:
            with entered(here, whole_process=False):
                value = function(*call[0], **call[1])
                _end_forked(pid)
                return asyncio.run(value) if inspect.iscoroutine(value) else value
        except BaseException as error:  # noqa: BLE001  # as above
            _end_forked(pid, error)
            return Raised(error)

    return await asyncio.get_running_loop().run_in_executor(pool, run)


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt inside the block, and is ignored outside it."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, ignore)


def ignore(number: int, frame: FrameType | None) -> None:
    """A signal handler that does nothing; unlike SIG_IGN it is not inherited by the processes a task starts."""
