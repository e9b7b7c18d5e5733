"""Runs the user's function: the one place where any exception may come by; it becomes a failure with its cause."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import signal
import traceback
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from types import FrameType, TracebackType
from typing import Any

from dagnb import graph
from dagnb.errors import Frame
from dagnb.graph.context import TaskContext, entered

_TEXT_LIMIT = 64 * 1024
_FRAMES = 50


@dataclass(frozen=True, slots=True)
class Raised:
    """The function raised. error: the exception itself, never sent anywhere."""

    error: BaseException


async def call_here(
    function: Callable[..., Any], call: tuple[tuple[Any, ...], dict[str, Any]], here: TaskContext
) -> Any:
    """The function's value, or Raised; run in this thread, where SIGINT interrupts it."""
    try:
        with entered(here, whole_process=True), interruptible():
            value = function(*call[0], **call[1])
        if inspect.iscoroutine(value):
            with entered(here, whole_process=True):
                value = await _awaited(value)
    except BaseException as error:  # noqa: BLE001  # the user's function may raise anything, SystemExit included
        return Raised(error)
    return value


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
        # Caught in the thread: a future refuses StopIteration, and takes a CancelledError of the user's for our own.
        try:
            with entered(here, whole_process=False):
                value = function(*call[0], **call[1])
                return asyncio.run(value) if inspect.iscoroutine(value) else value
        except BaseException as error:  # noqa: BLE001  # as above
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


def error_json(error: BaseException, *, kind: str = "", message: str = "", **facts: Any) -> str:
    """The error as the errors key holds it. facts: worker, at, stderr_tail, stdout_tail."""
    frames = user_frames(error.__traceback__)
    return json.dumps(
        {
            "type": kind or type(error).__qualname__,
            "message": message or _message(error),
            "frames": [asdict(frame) for frame in frames],
            "traceback": _lines(error),
            **facts,
        }
    )


def user_frames(trace: TracebackType | None) -> list[Frame]:
    """The frames of the user's code, outermost first, the last 50 at most."""
    found = []
    for entry in _without_house(traceback.extract_tb(_strip(trace))):
        columns = (entry.colno, entry.end_colno) if entry.line else (None, None)
        found.append(
            Frame(
                file=entry.filename,
                line=entry.lineno or 0,
                function=entry.name,
                source=(entry.line or "")[:500],
                end_line=entry.end_lineno,
                column=columns[0],
                end_column=columns[1],
            )
        )
    return found[-_FRAMES:]


def _strip(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame on that is not ours."""
    while trace is not None and _is_ours(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return trace


_OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep
_ASYNCIO = os.path.dirname(os.path.abspath(asyncio.__file__)) + os.sep
_THREADS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(asyncio.__file__))), "concurrent") + os.sep


_GRAPH = os.path.dirname(os.path.abspath(str(graph.__file__))) + os.sep


def _is_ours(file: str) -> bool:
    return file.startswith((_OURS, _GRAPH, _ASYNCIO, _THREADS))


def _without_house(frames: traceback.StackSummary) -> traceback.StackSummary:
    """Without the frames of a task called inside a task, and of the handler that interrupted it."""
    return traceback.StackSummary.from_list([f for f in frames if not f.filename.startswith((_OURS, _GRAPH))])


def _message(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"the task called sys.exit({error.code!r}); return a value instead"
    try:
        return str(error)[:_TEXT_LIMIT]
    except Exception as second:  # noqa: BLE001  # an exception whose __str__ raises
        return f"(its message cannot be shown: {type(second).__name__} in __str__)"


def _lines(error: BaseException) -> list[str]:
    stripped = _strip(error.__traceback__)
    try:
        told = traceback.TracebackException(type(error), error, stripped)
        told.stack = _without_house(told.stack)
        lines = list(told.format())
    except Exception:  # noqa: BLE001  # as above
        lines = [f"{type(error).__qualname__}: {_message(error)}\n"]
    text = "".join(lines)
    return [text[-_TEXT_LIMIT:]] if len(text) > _TEXT_LIMIT else lines
