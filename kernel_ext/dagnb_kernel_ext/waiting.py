"""Waits for a run in a cell: `value` blocks the kernel, `awaited_value` lets its loop go on.

Either way the cell ends with the final picture of the run. Meanwhile a notebook shows a live view,
and a terminal prints the progress.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any

from dagnb import progress
from dagnb.handle import Run
from dagnb_kernel_ext.widgets import LiveViews

_WAKE_S = 0.1


def value(run: Run[Any], live_views: LiveViews) -> Any:
    """Wait for a run's value. Raises what Run.result does; an interrupt cancels the run."""
    __tracebackhide__ = True
    try:
        if not live_views.is_notebook:
            _watch(run)
        return run.result()
    finally:
        live_views.settle(run)


async def awaited_value(run: Run[Any], live_views: LiveViews) -> Any:
    """Wait in a running loop, where an interrupt comes as CancelledError."""
    __tracebackhide__ = True
    watching = None
    if not live_views.is_notebook:
        watching = asyncio.ensure_future(asyncio.to_thread(progress.watch, run))
    try:
        return await run
    finally:
        if watching is not None:
            await asyncio.gather(watching, return_exceptions=True)  # it ends when the run does
        live_views.settle(run)


async def interruptible(work: Coroutine[Any, Any, None]) -> None:
    """Do the work; an interrupt cancels it at once, in a kernel and in a terminal."""
    __tracebackhide__ = True
    waking = asyncio.ensure_future(_wake())
    restore = _take_interrupts()
    try:
        await work
    finally:
        restore()
        waking.cancel()


async def _wake() -> None:
    """Wake the loop now and then.

    ipykernel takes notice of an interrupt when its loop next wakes, which may be never while a cell
    awaits (issue 881 of ipykernel).
    """
    while True:  # noqa: ASYNC110  # there is no event to wait for
        await asyncio.sleep(_WAKE_S)


def _take_interrupts() -> Callable[[], object]:
    """Let an interrupt cancel the current task, where Python's own handler is installed.

    In a terminal that handler would end the loop and leave the task behind, to go on later. Returns
    a function that restores the handler.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return lambda: None
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None, "a coroutine runs in a task"

    def interrupt(number: int, frame: FrameType | None) -> None:
        if asyncio.current_task(loop) is task:
            raise KeyboardInterrupt  # the task is running Python code, not waiting
        loop.call_soon_threadsafe(task.cancel)

    signal.signal(signal.SIGINT, interrupt)
    return lambda: signal.signal(signal.SIGINT, signal.default_int_handler)


def _watch(run: Run[Any]) -> None:
    __tracebackhide__ = True
    try:
        progress.watch(run)
    except KeyboardInterrupt:  # `watch` has cancelled the run by then
        message = f"run {run.id} was cancelled, because waiting for it was interrupted."
        raise KeyboardInterrupt(message) from None
