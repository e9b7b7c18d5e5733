"""A worker process, as its supervisor sees it: its time limit, and when it has rested long enough."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest
from dagnb_workers.hosting.worker_process import WorkerProcess


@pytest.fixture
def place() -> Iterator[WorkerProcess]:
    made = WorkerProcess("i1")
    yield made
    made.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """[seconds]: what the clock shows."""
    now = [time.monotonic()]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_who_has_not_asked_for_work_yet_is_at_work(
    place: WorkerProcess, clock: list[float]
) -> None:
    assert place.is_at_work()
    assert not place.rested(0.0)
    clock[0] += 100
    assert not place.rested(0.5)


def test_who_has_nothing_to_do_has_rested_when_it_lingered_long_enough(
    place: WorkerProcess, clock: list[float]
) -> None:
    place.page.end()  # what a worker does when it is given nothing

    assert not place.is_at_work()
    assert not place.rested(0.5)
    clock[0] += 0.4
    assert not place.rested(0.5)
    clock[0] += 0.1
    assert place.rested(0.5)


def test_work_in_between_begins_the_rest_anew(place: WorkerProcess, clock: list[float]) -> None:
    place.page.end()
    assert not place.rested(0.5)
    clock[0] += 0.4
    place.page.begin(0, 1)
    assert not place.rested(0.5)

    place.page.end()
    clock[0] += 0.4

    assert not place.rested(0.5)
    clock[0] += 0.5
    assert place.rested(0.5)


def test_in_a_hurry_a_rest_ends_at_once(place: WorkerProcess) -> None:
    place.page.end()

    assert place.rested(0.0)


def test_a_task_over_its_time_gets_each_signal_once_and_is_marked(
    place: WorkerProcess, clock: list[float]
) -> None:
    place.page.begin(3, 1, 2.0)
    clock[0] += 1.9
    assert place.warning() is None
    assert not place.page.timed_out(3, 1)

    given = []
    for _ in range(8):
        given += [place.warning()]
        clock[0] += 0.5

    assert [number for number in given if number is not None] == [
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGKILL,
    ]
    assert place.page.timed_out(3, 1)


def test_signals_that_are_due_at_once_come_one_after_the_other(
    place: WorkerProcess, clock: list[float]
) -> None:
    """A machine that slept: the supervisor looks late."""
    place.page.begin(3, 1, 2.0)
    clock[0] += 60

    assert [place.warning() for _ in range(4)] == [
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGKILL,
        None,
    ]


def test_the_next_attempt_has_its_time_for_itself(place: WorkerProcess, clock: list[float]) -> None:
    place.page.begin(3, 1, 2.0)
    clock[0] += 2.5
    assert place.warning() is signal.SIGINT
    place.page.end()
    assert place.warning() is None

    place.page.begin(3, 2, 2.0)

    assert place.warning() is None
    clock[0] += 3.0
    assert place.warning() is signal.SIGINT
    assert place.page.timed_out(3, 2)


def test_a_task_without_a_limit_is_never_warned(place: WorkerProcess, clock: list[float]) -> None:
    place.page.begin(3, 1)
    clock[0] += 1e6

    assert place.warning() is None


def test_what_it_prints_and_its_page_are_given_back() -> None:
    made = WorkerProcess("i1")
    assert len(set(made.fds)) == 3

    made.close()

    with pytest.raises(OSError, match="Bad file descriptor"):
        made.page.__class__(made.page.fd)
