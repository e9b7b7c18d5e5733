"""Large values in shared memory, for tests of real runs: tasks that make and read them."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
from dagnb_workers.agent.client import ask_running
from dagnb_workers.launchers.process import Processes

import dagnb
from dagnb import session, task
from dagnb.graph.task import Node
from dagnb.handle import Run
from dagnb.storage import segments
from dagnb.storage.home import runtime_directory
from dagnb.testing.launcher_laws import Gate, waiting
from tests.services.processes import await_that, descendants, is_alive

LIMIT_S = 60.0

N = 100_000
"""numbers of a large array, 8 bytes each"""


@task
def numbers() -> Any:
    """A large array: 0, 1, 2, ..."""
    return np.arange(N)


@task
def multiplied(array: Any, times: int) -> Any:
    """Makes a larger array."""
    return np.tile(array, times)


@task
def total(array: Any, *_: Any) -> int:
    """Changes its input, too, after it was read."""
    result = int(array.sum())
    array[:] = 0
    return result


SUM = N * (N - 1) // 2


def at(gate: Gate) -> Node[str]:
    return waiting(str(gate.came), str(gate.go))


def folder_of(run: str) -> Path:
    """The directory of a run's segments."""
    return segments._base(runtime_directory()) / run


def values_of(run: str) -> list[Path]:
    """The segments of a run."""
    folder = folder_of(run)
    return sorted(folder.glob("*-*")) if folder.exists() else []


def nothing_is_left(run: Run[Any]) -> None:
    await_that(lambda: not folder_of(run.id).exists(), "the segments are removed")


def n_events(run: Run[Any], kind: str) -> int:
    return sum(event.kind == kind for event in run.look().events)


def held_at(gate: Gate, workers: Processes) -> Run[int]:
    """A run whose first array is made, and whose reader waits for the gate.

    numbers ---> total
    at(gate) -->
    """
    run = dagnb.run(total(numbers(), at(gate)), workers=workers)
    gate.until_there()
    await_that(lambda: run.status.get("done", 0) == 1, "the array is made")
    return run


def kill_all() -> None:
    """Kill the agent and everything below it. They are stopped first, so that none sees another
    one's end.
    """
    pid = int(session.wait(ask_running("ping"))["pid"])
    victims = [pid, *descendants(pid)]
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for victim in victims:
            os.kill(victim, number)
    await_that(lambda: not any(map(is_alive, victims)), "all are dead")
