"""A worker process, as its supervisor sees it: time limits and lingering."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest
from dagnb_workers.hosting.supervisor import WorkerProcess


@pytest.fixture
def worker() -> Iterator[WorkerProcess]:
    made = WorkerProcess("i1")
    yield made
    made.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """[seconds]: the time that the clock shows."""
    now = [time.monotonic()]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_worker_that_has_not_asked_for_work_yet_is_busy(
    worker: WorkerProcess, clock: list[float]
) -> None:
    assert worker.is_busy()
    assert not worker.has_lingered(0.0)
    clock[0] += 100
    assert not worker.has_lingered(0.5)


def test_an_idle_worker_has_lingered_after_the_given_seconds(
    worker: WorkerProcess, clock: list[float]
) -> None:
    worker.status.end()  # as a worker does that is given nothing

    assert not worker.is_busy()
    assert not worker.has_lingered(0.5)
    clock[0] += 0.4
    assert not worker.has_lingered(0.5)
    clock[0] += 0.1
    assert worker.has_lingered(0.5)


def test_work_in_between_starts_the_lingering_again(
    worker: WorkerProcess, clock: list[float]
) -> None:
    worker.status.end()
    assert not worker.has_lingered(0.5)
    clock[0] += 0.4
    worker.status.begin(0, 1)
    assert not worker.has_lingered(0.5)

    worker.status.end()
    clock[0] += 0.4

    assert not worker.has_lingered(0.5)
    clock[0] += 0.5
    assert worker.has_lingered(0.5)


def test_without_lingering_an_idle_worker_may_be_ended_at_once(worker: WorkerProcess) -> None:
    worker.status.end()

    assert worker.has_lingered(0.0)


def test_a_task_over_its_time_gets_each_signal_once_and_is_marked(
    worker: WorkerProcess, clock: list[float]
) -> None:
    worker.status.begin(3, 1, 2.0)
    clock[0] += 1.9
    assert worker.overtime_signal() is None
    assert not worker.status.timed_out(3, 1)

    given = []
    for _ in range(8):
        given += [worker.overtime_signal()]
        clock[0] += 0.5

    assert [number for number in given if number is not None] == [
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGKILL,
    ]
    assert worker.status.timed_out(3, 1)


def test_signals_that_are_due_at_once_come_one_after_the_other(
    worker: WorkerProcess, clock: list[float]
) -> None:
    """A machine that slept: the supervisor looks late."""
    worker.status.begin(3, 1, 2.0)
    clock[0] += 60

    assert [worker.overtime_signal() for _ in range(4)] == [
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGKILL,
        None,
    ]


def test_the_next_attempt_has_its_time_for_itself(
    worker: WorkerProcess, clock: list[float]
) -> None:
    worker.status.begin(3, 1, 2.0)
    clock[0] += 2.5
    assert worker.overtime_signal() is signal.SIGINT
    worker.status.end()
    assert worker.overtime_signal() is None

    worker.status.begin(3, 2, 2.0)

    assert worker.overtime_signal() is None
    clock[0] += 3.0
    assert worker.overtime_signal() is signal.SIGINT
    assert worker.status.timed_out(3, 2)


def test_a_task_without_a_limit_is_never_warned(worker: WorkerProcess, clock: list[float]) -> None:
    worker.status.begin(3, 1)
    clock[0] += 1e6

    assert worker.overtime_signal() is None


def test_what_it_prints_and_its_page_are_given_back() -> None:
    made = WorkerProcess("i1")
    assert len(set(made.fds)) == 3

    made.close()

    with pytest.raises(OSError, match="Bad file descriptor"):
        made.status.__class__(made.status.fd)
