"""Threads that a task left behind: told in its output, and silent from then on, so that no other's has theirs."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from dagnb_workers.output import silence

T = TypeVar("T")

GRACE_S = 0.05
"""so long they may take to end before they are told: those of a pool that nobody holds any more end by themselves"""


def around(task: Callable[[], T], name: str) -> T:
    """Call the task, which must not raise, and tell of threads that it leaves. Gives its value."""
    before = threading.enumerate()
    value = task()
    now = threading.enumerate()
    if now != before:
        left = _still_there([thread for thread in now if thread not in before])
        if left:
            silence(left)
            sys.stderr.write(_told(left, name))
    return value


def _still_there(threads: list[threading.Thread]) -> list[threading.Thread]:
    until = time.monotonic() + GRACE_S
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return [thread for thread in threads if thread.is_alive()]


def _told(threads: list[threading.Thread], name: str) -> str:
    names = ", ".join(f"'{thread.name}'" for thread in threads)
    what, they = ("a thread", "It goes") if len(threads) == 1 else (f"{len(threads)} threads", "They go")
    return (
        f"dagnb: task '{name}' left {what} running: {names}. {they} on until this worker ends with the run, and "
        "what is printed there from now on is not shown. Join threads, or shut their pool down, before the task "
        "returns.\n"
    )
