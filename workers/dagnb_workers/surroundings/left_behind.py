"""Threads and processes that tasks left behind.

Threads are named in the output of their task, and are silent from then on, so that they never print
into the output of another task. Processes end with the worker. The last to end are those that
remove shared memory and semaphores of other processes.
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
"""Seconds between two looks at whether processes are left."""

GRACE_S = 0.2
"""Seconds that threads may take to end before they count as left behind.

Threads of a pool to which no reference is left end by themselves.
"""


def around(task: Callable[[], T], name: str) -> T:
    """Call the task, which must not raise, and report threads that it leaves. Returns its value."""
    before = threading.enumerate()
    value = task()
    now = threading.enumerate()
    if now != before:
        left = _still_alive([thread for thread in now if thread not in before])
        if left:
            silence(left)
            sys.stderr.write(_warning(left, name))
    return value


def end_processes() -> None:
    """End all processes of this process's group, shortly before this process ends.

    They get SIGTERM. The resource trackers of multiprocessing and loky, which remove shared memory
    and semaphores, ignore it: they clean up and end when no process has a pipe to them any more.
    """
    if not reap_child():
        return

    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the group includes this process
    os.killpg(0, signal.SIGTERM)
    # A tracker ends when no pipe to it is open any more, and this process holds one.
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))

    deadline = time.monotonic() + LAST_S
    while reap_child() and time.monotonic() < deadline:
        time.sleep(LOOK_S)


def reap_child() -> bool:
    """Collect the exit codes of children that have ended. Returns whether others live."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _still_alive(threads: list[threading.Thread]) -> list[threading.Thread]:
    deadline = time.monotonic() + GRACE_S
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return [thread for thread in threads if thread.is_alive()]


def _warning(threads: list[threading.Thread], name: str) -> str:
    names = ", ".join(f"'{thread.name}'" for thread in threads)
    subject, they = "a thread", "It goes"
    if len(threads) > 1:
        subject, they = f"{len(threads)} threads", "They go"
    return (
        f"dagnb: task '{name}' left {subject} running: {names}. {they} on until this worker ends "
        "with the run, and what is printed there from now on is not shown. Join threads, or shut "
        "their pool down, before the task returns.\n"
    )
