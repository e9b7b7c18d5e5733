"""Waiting for a run in a cell: one that blocks, and one that lets the loop go on. The cell ends with its last picture.

A kernel shows the run by a live view of its own; a terminal needs its progress printed meanwhile.
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
    """The value. Raises as Run.result does; an interrupt cancels the run and says so."""
    __tracebackhide__ = True
    try:
        if not live_views.is_notebook:
            _watch(run)
        return run.result()
    finally:
        live_views.settle(run)


async def awaited_value(run: Run[Any], live_views: LiveViews) -> Any:
    """As value, in a running loop; there an interrupt comes as CancelledError."""
    __tracebackhide__ = True
    watching = (
        None
        if live_views.is_notebook
        else asyncio.ensure_future(asyncio.to_thread(progress.watch, run))
    )
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
    """ipykernel hears of an interrupt when its loop next wakes, which may be never while a cell awaits (#881 there)."""
    while True:  # noqa: ASYNC110  # there is no event to wait for
        await asyncio.sleep(_WAKE_S)


def _take_interrupts() -> Callable[[], object]:
    """In a terminal Python's own handler would end the loop and leave the task behind, to go on later.

    Returns what puts that handler back.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return lambda: None
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None, "a coroutine runs in a task"

    def interrupt(number: int, frame: FrameType | None) -> None:
        if asyncio.current_task(loop) is task:
            raise KeyboardInterrupt  # its own code is running, not waiting
        loop.call_soon_threadsafe(task.cancel)

    signal.signal(signal.SIGINT, interrupt)
    return lambda: signal.signal(signal.SIGINT, signal.default_int_handler)


def _watch(run: Run[Any]) -> None:
    __tracebackhide__ = True
    try:
        progress.watch(run)
    except KeyboardInterrupt:  # by then it is cancelled
        told = f"run {run.id} was cancelled, because waiting for it was interrupted."
        raise KeyboardInterrupt(told) from None
