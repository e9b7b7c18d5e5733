"""Batches of short tasks on real processes: what is given back, repeated, charged, and counted."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from dagnb_workers.launchers.process import Processes

import dagnb
from dagnb import task
from dagnb.trace.trace import Phase, Trace
from tests.conformance.agent import private_agent

pytestmark = pytest.mark.redis

LIMIT_S = 60.0
N_TASKS = 400


@pytest.fixture(scope="module", autouse=True)
def _agent() -> Iterator[None]:
    with private_agent():
        yield


@task
def noting(number: int, folder: str) -> int:
    """Note that it ran: one byte behind a file of its own."""
    _note(number, folder)
    return number


@task(pure=False)
def acting(number: int, folder: str) -> int:
    """The same, with an effect that must not be repeated."""
    _note(number, folder)
    return number


@task
def waiting_for_all(folder: str, n_others: int) -> int:
    """Runs until all other tasks have run."""
    until = time.monotonic() + LIMIT_S
    while len(os.listdir(folder)) < n_others:
        assert time.monotonic() < until, "tasks wait behind this one"
        time.sleep(0.005)
    return -1


@task
def dying_once(folder: str) -> int:
    """Ends its process in the first attempt."""
    path = Path(folder) / "died"
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return -1


def _note(number: int, folder: str) -> None:
    with open(f"{folder}/{number}", "ab") as file:
        file.write(b"x")


def times_run(folder: Path) -> Counter[int]:
    """By number, how often a task ran."""
    return Counter({int(p.name): p.stat().st_size for p in folder.iterdir() if p.name.isdigit()})


def trips(trace: Trace) -> list[int]:
    """The number of tasks of each commit."""
    begins = Counter((s.worker, s.begin_s) for s in trace.spans if s.phase is Phase.COMMIT)
    return sorted(begins.values())


def test_short_tasks_are_committed_several_at_a_time(tmp_path: Path) -> None:
    run = dagnb.run(*[noting(n, str(tmp_path)) for n in range(N_TASKS)], workers=Processes(n=2))

    assert run.result(LIMIT_S) == tuple(range(N_TASKS))
    assert times_run(tmp_path) == dict.fromkeys(range(N_TASKS), 1)
    sizes = trips(run.trace)
    assert sum(sizes) == N_TASKS
    assert sizes[-1] > 1


def test_tasks_taken_with_one_that_takes_long_are_run_by_others_meanwhile(tmp_path: Path) -> None:
    """The long task ends only after all others; with a batch behind it, that would be never."""
    nodes = [noting(n, str(tmp_path)) for n in range(N_TASKS)]
    middle = N_TASKS // 2
    long = waiting_for_all(str(tmp_path), N_TASKS)

    run = dagnb.run(*nodes[:middle], long, *nodes[middle:], workers=Processes(n=2))

    assert run.result(2 * LIMIT_S)[middle] == -1
    assert times_run(tmp_path) == dict.fromkeys(range(N_TASKS), 1)
    assert run.errors == []


def test_a_crash_charges_one_task_and_repeats_no_more_than_its_batch(tmp_path: Path) -> None:
    nodes = [noting(n, str(tmp_path)) for n in range(N_TASKS)]
    middle = N_TASKS // 2

    run = dagnb.run(
        *nodes[:middle], dying_once(str(tmp_path)), *nodes[middle:], workers=Processes(n=2)
    )

    assert run.result(LIMIT_S)[middle] == -1
    assert [(error.task, error.attempt) for error in run.errors] == [("dying_once-0", 1)]
    often = times_run(tmp_path)
    assert set(often.values()) <= {1, 2}
    repeated = sorted(number for number, times in often.items() if times == 2)
    # Those that ran in the batch before the crash, one after the other.
    assert repeated == list(range(middle - len(repeated), middle))
    assert len(repeated) < max(trips(run.trace)) + 128


def test_effects_before_a_crash_are_not_repeated(tmp_path: Path) -> None:
    nodes = [acting(n, str(tmp_path)) for n in range(N_TASKS)]
    middle = N_TASKS // 2

    run = dagnb.run(
        *nodes[:middle], dying_once(str(tmp_path)), *nodes[middle:], workers=Processes(n=2)
    )

    assert run.result(LIMIT_S)[middle] == -1
    assert times_run(tmp_path) == dict.fromkeys(range(N_TASKS), 1)
    assert trips(run.trace)[-1] <= 2  # the one that dies is pure, and may come before another


def test_failures_in_a_batch_are_tried_again_singly(tmp_path: Path) -> None:
    @task(retries=1)
    def failing_once(number: int) -> int:
        path = tmp_path / f"failed-{number}"
        if number % 10 == 0 and not path.exists():
            path.touch()
            raise ValueError(number)
        return number

    run = dagnb.run(*[failing_once(n) for n in range(100)], workers=Processes(n=2))

    assert run.result(LIMIT_S) == tuple(range(100))
    assert sorted(error.attempt for error in run.errors) == [1] * 10
    attempts = Counter(s.task for s in run.trace.spans if s.phase is Phase.RUN)
    assert sorted(attempts.values()) == [1] * 90 + [2] * 10


def test_urgent_tasks_come_first_also_in_batches(tmp_path: Path) -> None:
    """One worker: the order of the steps is that of their priorities."""
    run = dagnb.run(*[noting(n, str(tmp_path)) for n in range(N_TASKS)], workers=Processes(n=1))

    run.result(LIMIT_S)

    spans = sorted((s.begin_s, s.task) for s in run.trace.spans if s.phase is Phase.RUN)
    priority = {i: step.priority for i, step in enumerate(run.plan.steps)}
    ranks = [priority[number] for _, number in spans]
    assert all(before <= after for before, after in itertools.pairwise(ranks))
