"""The page that a worker shares with its supervisor."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from dagnb_workers.worker.shared_status import Running, SharedStatus


@pytest.fixture
def page() -> Iterator[SharedStatus]:
    made = SharedStatus.create()
    yield made
    made.close()


def test_a_new_page_says_that_nothing_runs(page: SharedStatus) -> None:
    assert page.read() is None


def test_what_one_side_begins_the_other_reads(page: SharedStatus) -> None:
    other = SharedStatus(os.dup(page.fd))
    before = time.monotonic()

    page.begin(0, 3, 1.5)

    running = other.read()
    assert running == Running(0, 3, 1.5, running.started if running else 0)
    assert before <= running.started <= time.monotonic()
    page.end()
    assert other.read() is None
    other.close()


def test_the_name_of_the_worker_is_known_to_the_other_side(page: SharedStatus) -> None:
    other = SharedStatus(os.dup(page.fd))
    assert other.staffed() == ""

    page.begin(3, 1, 0.5)
    page.staff("~512mb/12")

    assert other.staffed() == "~512mb/12"
    page.staff("wörker")
    assert other.staffed() == "wörker"
    page.staff("x" * 9_999)
    assert other.staffed() == "x" * 255
    assert (other.read() or Running(0, 0, 0, 0)).task == 3
    other.close()


def test_a_time_limit_is_flagged_for_one_attempt_only(page: SharedStatus) -> None:
    page.begin(7, 1, 0.5)

    page.flag_timeout(7, 1)

    assert page.timed_out(7, 1)
    assert not page.timed_out(7, 2)
    assert not page.timed_out(0, 1)


def test_task_zero_is_not_timed_out_on_a_new_page(page: SharedStatus) -> None:
    assert not page.timed_out(0, 0)


WRITER = """
import sys
from dagnb_workers.worker.shared_status import SharedStatus
page = SharedStatus(int(sys.argv[1]))
print(flush=True)
n = 0
while True:
    n += 1
    page.begin(n, n, float(n))
    if n % 3 == 0:
        page.end()
"""


def test_a_reader_never_sees_parts_of_two_tasks(page: SharedStatus) -> None:
    os.set_inheritable(page.fd, True)
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(page.fd)], pass_fds=[page.fd], stdout=subprocess.PIPE
    )
    assert writer.stdout is not None
    writer.stdout.readline()

    seen: set[Running] = set()
    deadline = time.monotonic() + 20
    while len(seen) < 200 and time.monotonic() < deadline:
        seen |= {running for _ in range(1000) if (running := page.read()) is not None}
    writer.kill()
    writer.communicate()

    assert len(seen) > 10
    assert all(running.task == running.attempt == running.limit_s for running in seen)


def test_what_a_writer_left_half_written_is_still_told(page: SharedStatus) -> None:
    page.begin(5, 1, 2.0)
    page._words[0] += 1  # died after the serial number

    running = page.read(is_dead=True)

    assert page.read() is None
    assert running is not None
    assert running.task == 5
