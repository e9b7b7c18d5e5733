"""Tasks that wait at gates and fail as they are told, on two workers in this process; for the tests
of runs.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from dagnb_workers.launchers.inline import Inline

import dagnb
from dagnb import session
from dagnb.errors import (
    TaskError,
    TaskFailedError,
)
from dagnb.graph.task import Node, Task, task
from dagnb.handle import Run
from dagnb.storage.interface import Store

LIMIT_S = 20.0
"""How long a test waits for what must happen"""

started: dict[str, threading.Event] = defaultdict(threading.Event)
gates: dict[str, threading.Event] = defaultdict(threading.Event)
unpickled: list[str] = []


@pytest.fixture(autouse=True)
def inline() -> Iterator[None]:
    """Two workers in this process; whoever still waits at a gate is let go."""
    before = session.settings()
    dagnb.configure(workers=Inline(n=2))
    yield
    for gate in gates.values():
        gate.set()
    started.clear()
    gates.clear()
    dagnb.configure(workers=before.workers)


def pause(name: str) -> None:
    """A function of this module and not a copy, as the function of a task would be: it sees the
    same events.
    """
    started[name].set()
    assert gates[name].wait(LIMIT_S)


@task
def hold(name: str, value: Any = None) -> Any:
    """Runs from `started` to `gates`."""
    pause(name)
    return value


@task
def same(value: Any = None, *more: Any) -> Any:
    """Its first argument."""
    return value


@task
def divide(left: float, right: float) -> float:
    """May raise ZeroDivisionError."""
    return left / right


def under_way(name: str) -> None:
    """Return when `hold(name)` runs."""
    assert started[name].wait(LIMIT_S)


def failing(error: Callable[[], BaseException], **options: Any) -> Node[Any]:
    """A task that raises."""

    def broken() -> None:
        raise error()

    return Task(broken).with_options(**options)()


def failure(run: Run[Any]) -> TaskError:
    """The only error of a run that failed."""
    with pytest.raises(TaskFailedError) as caught:
        run.result(LIMIT_S)
    (error,) = caught.value.errors
    return error


def memory() -> Store:
    return session.wait(session.reopened(dagnb.Redis(url=session.MEMORY_URL)))


def awaited(happened: Callable[[], bool]) -> None:
    """Look until it happened; each look is a trip to the store."""
    until = time.monotonic() + LIMIT_S
    while not happened():
        assert time.monotonic() < until
