"""Output of a worker is caught, shortened, and never fills the memory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from dagnb_workers.surroundings.output import TAIL_BYTES, TRIM_BYTES, Capture, take_printed

MEGABYTE = b"x" * 999_999 + b"\n"


@pytest.fixture
def capture() -> Iterator[Capture]:
    made = Capture.create()
    yield made
    made.close()


def test_nothing_written_gives_nothing(capture: Capture) -> None:
    assert capture.take() == ("", "")
    assert capture.tails() == ("", "")


def test_each_take_gives_what_is_new(capture: Capture) -> None:
    os.write(capture.stdout, b"one")
    os.write(capture.stderr, b"warning")

    assert capture.tails() == ("one", "warning")
    assert capture.take() == ("one", "warning")
    os.write(capture.stdout, b"two")
    assert capture.take() == ("two", "")


def test_of_much_the_end_is_kept_and_the_rest_is_counted(capture: Capture) -> None:
    for _ in range(3):
        os.write(capture.stdout, MEGABYTE)
    os.write(capture.stdout, b"the end")

    text, _ = capture.take()

    first, _, rest = text.partition("\n")
    assert first == "... 2.9 MB dropped ..."
    assert len(rest) == TAIL_BYTES
    assert rest.endswith("the end")


def test_a_character_cut_in_two_and_bytes_that_are_no_text_do_no_harm(capture: Capture) -> None:
    os.write(capture.stdout, "é".encode() * TAIL_BYTES + b"x")
    os.write(capture.stderr, b"\xff\xfe\x00ok")

    stdout, stderr = capture.take()

    assert stdout.endswith("éx")
    assert stderr.endswith("ok")


def test_a_hundred_megabytes_stay_flat_and_their_end_is_readable(capture: Capture) -> None:
    most = 0
    for _ in range(100):
        os.write(capture.stderr, MEGABYTE)
        capture.trim()
        most = max(most, os.fstat(capture.stderr).st_blocks * 512)
    os.write(capture.stderr, b"the end")

    assert most < TRIM_BYTES + 2 * len(MEGABYTE)
    _, text = capture.tails()
    assert text.startswith("... 99.9 MB dropped ...\n")
    assert text.endswith("xx\nthe end")


def test_trimming_starts_anew_after_a_take(capture: Capture) -> None:
    for _ in range(20):
        os.write(capture.stdout, MEGABYTE)
    capture.trim()
    Capture.of(capture.stdout, capture.stderr).take()  # the worker, which has counters of its own

    for _ in range(20):
        os.write(capture.stdout, MEGABYTE)
        capture.trim()

    assert os.fstat(capture.stdout).st_blocks * 512 < TRIM_BYTES + 2 * len(MEGABYTE)


CHATTERBOX = """
import ctypes, os, subprocess, sys
from dagnb_workers.surroundings.output import Capture, take_printed
here, err = int(sys.argv[1]), int(sys.argv[2])
answers = os.dup(1)
Capture.of(here, err).start()
print("python", end="")
print("error", end="", file=sys.stderr)
ctypes.CDLL(None).printf(b"c")
subprocess.run(["echo", "child"])
sys.stdout.write("\\udcff")
os.write(answers, repr(take_printed()).encode())
print("line before death")
os._exit(3)
"""


def test_prints_of_python_c_code_and_children_are_caught(capture: Capture) -> None:
    fds = (capture.stdout, capture.stderr)

    done = subprocess.run(
        [sys.executable, "-c", CHATTERBOX, *map(str, fds)],
        pass_fds=fds,
        stdout=subprocess.PIPE,
        check=False,
    )

    stdout, stderr = eval(done.stdout.decode())
    assert set(stdout.replace("child\n", " ").split()) == {"python\\udcffc"} or "python" in stdout
    assert "child\n" in stdout
    assert "c" in stdout
    assert stderr == "error"
    assert capture.tails() == ("line before death\n", "")


def test_where_nothing_is_caught_nothing_is_told() -> None:
    assert take_printed() == ("", "")
