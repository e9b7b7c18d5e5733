"""Threads and processes that tasks left behind.

Threads are told in the output of their task, and silent from then on, so that no other task's output has theirs.
Processes end with the worker, those last that remove shared memory which nobody else removed.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from dagnb_workers.surroundings.output import silence

T = TypeVar("T")

LAST_S = 0.5
"""Seconds that the last processes may take to end."""

LOOK_S = 0.005
"""Seconds between two looks whether they are there."""

GRACE_S = 0.2
"""Seconds that threads may take to end before they are told: those of a pool that nobody holds end by themselves."""


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


def end_processes() -> None:
    """End the processes of this process's group, as it is about to end itself.

    They are asked first. Those that watch over shared memory and semaphores (the resource trackers of multiprocessing
    and loky) do not listen; they clean up and end once all others have let go of them.
    """
    if not reap_child():
        return
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    until = time.monotonic() + LAST_S
    while reap_child() and time.monotonic() < until:
        time.sleep(LOOK_S)


def reap_child() -> bool:
    """Let go of children that have ended. Returns whether others live."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _still_there(threads: list[threading.Thread]) -> list[threading.Thread]:
    until = time.monotonic() + GRACE_S
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return [thread for thread in threads if thread.is_alive()]


def _told(threads: list[threading.Thread], name: str) -> str:
    names = ", ".join(f"'{thread.name}'" for thread in threads)
    what, they = (
        ("a thread", "It goes") if len(threads) == 1 else (f"{len(threads)} threads", "They go")
    )
    return (
        f"dagnb: task '{name}' left {what} running: {names}. {they} on until this worker ends with the run, and "
        "what is printed there from now on is not shown. Join threads, or shut their pool down, before the task "
        "returns.\n"
    )
