"""Reports of faulthandler are parsed, whatever else is in stderr."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from dagnb_workers.hosting.crash import parse_report
from dagnb_workers.worker.exception import crash_frames

SCRIPT = """\
import ctypes, faulthandler, sys, threading
faulthandler.enable()
print("before", file=sys.stderr, flush=True)
def höher():
    ctypes.string_at(0)
def waits():
    threading.Event().wait()
for _ in range({n_threads}):
    threading.Thread(target=waits, daemon=True).start()
höher()
"""


def crashed(path: Path, n_threads: int = 0) -> str:
    """The stderr of a process that really crashed."""
    path.write_text(SCRIPT.format(n_threads=n_threads), encoding="utf-8")
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, check=False)
    assert done.returncode < 0
    return done.stderr


@pytest.mark.parametrize("n_threads", [0, 3])
def test_the_thread_that_crashed_is_read_from_a_real_crash(tmp_path: Path, n_threads: int) -> None:
    """A folder may have a quote, a blank and letters of any alphabet in its name."""
    folder = tmp_path / "a \"b' ü"
    folder.mkdir()

    parsed = parse_report(crashed(folder / "main.py", n_threads))

    assert parsed is not None
    assert (parsed.printed, parsed.reason) == ("before\n", "Segmentation fault")
    assert [line[2] for line in parsed.lines] == ["string_at", "höher", "<module>"]
    assert parsed.lines[1] == (str(folder / "main.py"), 5, "höher")


def test_frames_are_told_outermost_first_with_their_source(tmp_path: Path) -> None:
    parsed = parse_report(crashed(tmp_path / "main.py"))
    assert parsed is not None

    frames = crash_frames(parsed.lines, lambda file: Path(file).name)

    assert [(frame.file, frame.source, frame.is_library) for frame in frames[:2]] == [
        ("main.py", "höher()", False),
        ("main.py", "    ctypes.string_at(0)", False),
    ]
    assert frames[2].is_library


def test_the_last_report_counts_and_a_text_without_one_has_none() -> None:
    head = "Fatal Python error: Aborted\n\nCurrent thread 0x01 (most recent call first):\n"
    one = f'{head}  File "a", line 1 in f\n\nmore\n'

    parsed = parse_report(one + "printed\n" + one.replace('"a"', '"b"'))

    assert parsed is not None
    assert (parsed.lines, parsed.printed) == ((("b", 1, "f"),), one + "printed\n")
    assert parse_report("Traceback (most recent call last):\n") is None
    assert parse_report("") is None
