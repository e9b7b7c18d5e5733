"""Which processes belong to a run, read from /proc, and from the agent where it alone knows."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from dagnb_workers.agent.client import ask_agent

from dagnb import session

LIMIT_S = 30.0
POLL_S = 0.005


def children() -> dict[int, list[int]]:
    """parent -> its children, of every process there is"""
    found: dict[int, list[int]] = defaultdict(list)
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                stat = (folder / "stat").read_text()
            except OSError:
                continue
            state, parent = stat.rpartition(")")[2].split()[:2]
            if state != "Z":
                found[int(parent)].append(int(folder.name))
    return found


def descendants(pid: int) -> list[int]:
    """Every living process below one, parents first."""
    tree, found, stack = children(), [], [pid]
    while stack:
        below = tree.get(stack.pop(), [])
        found.extend(below)
        stack.extend(below)
    return found


def workers_of(supervisor: int) -> list[int]:
    """The worker processes of a supervisor: the children of its fork server."""
    assert supervisor > 1, "whoever kills below pid 0 or 1 kills strangers"
    tree = children()
    return [
        worker for fork_server in tree.get(supervisor, []) for worker in tree.get(fork_server, [])
    ]


def is_alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def await_that(condition: Callable[[], bool], what: str, limit_s: float = LIMIT_S) -> None:
    """Look until it is so; fail with the name of what never came."""
    until = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < until, f"{what}: not within {limit_s} s"
        time.sleep(POLL_S)


def supervisor_of(run: str) -> int:
    """Pid of a run's supervisor, as soon as the agent knows it."""
    found: list[int] = []

    def is_known() -> bool:
        found.append(int(session.wait(ask_agent("status"))["runs"].get(run, 0)))
        return found[-1] > 1

    await_that(is_known, "the supervisor started")
    return found[-1]
