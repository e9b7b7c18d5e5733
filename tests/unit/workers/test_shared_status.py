"""The memory that a worker shares with its supervisor."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from dagnb_workers.worker.shared_status import Running, SharedStatus


@pytest.fixture
def status() -> Iterator[SharedStatus]:
    made = SharedStatus.create()
    yield made
    made.close()


def test_new_memory_says_that_nothing_runs(status: SharedStatus) -> None:
    assert status.read() is None


def test_what_one_side_begins_the_other_reads(status: SharedStatus) -> None:
    other = SharedStatus(os.dup(status.fd))
    before = time.monotonic()

    status.begin(0, 3, 1.5, n_behind=2)

    running = other.read()
    assert running == Running(0, 3, 1.5, running.started if running else 0, 2)
    assert before <= running.started <= time.monotonic()
    status.end()
    assert other.read() is None
    other.close()


def test_the_name_of_the_worker_is_known_to_the_other_side(status: SharedStatus) -> None:
    other = SharedStatus(os.dup(status.fd))
    assert other.staffed() == ""

    status.begin(3, 1, 0.5)
    status.staff("~512mb/12")

    assert other.staffed() == "~512mb/12"
    status.staff("wörker")
    assert other.staffed() == "wörker"
    status.staff("x" * 9_999)
    assert other.staffed() == "x" * 255
    assert (other.read() or Running(0, 0, 0, 0, 0)).task == 3
    other.close()


def test_a_time_limit_is_flagged_for_one_attempt_only(status: SharedStatus) -> None:
    status.begin(7, 1, 0.5)

    status.flag_timeout(7, 1)

    assert status.timed_out(7, 1)
    assert not status.timed_out(7, 2)
    assert not status.timed_out(0, 1)


def test_task_zero_is_not_timed_out_in_new_memory(status: SharedStatus) -> None:
    assert not status.timed_out(0, 0)


WRITER = """
import sys
from dagnb_workers.worker.shared_status import SharedStatus
status = SharedStatus(int(sys.argv[1]))
print(flush=True)
n = 0
while True:
    n += 1
    status.begin(n, n, float(n))
    if n % 3 == 0:
        status.end()
"""


def test_a_reader_never_sees_parts_of_two_tasks(status: SharedStatus) -> None:
    os.set_inheritable(status.fd, True)
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(status.fd)], pass_fds=[status.fd], stdout=subprocess.PIPE
    )
    assert writer.stdout is not None
    writer.stdout.readline()

    seen: set[Running] = set()
    deadline = time.monotonic() + 20
    while len(seen) < 200 and time.monotonic() < deadline:
        seen |= {running for _ in range(1000) if (running := status.read()) is not None}
    writer.kill()
    writer.communicate()

    assert len(seen) > 10
    assert all(running.task == running.attempt == running.limit_s for running in seen)


def test_what_a_writer_left_half_written_is_still_read(status: SharedStatus) -> None:
    status.begin(5, 1, 2.0)
    status._words[0] += 1  # died after the serial number

    running = status.read(is_dead=True)

    assert status.read() is None
    assert running is not None
    assert running.task == 5
