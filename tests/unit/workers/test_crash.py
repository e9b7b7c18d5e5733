"""What faulthandler wrote is read back, whatever else is in stderr."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from dagnb_workers.hosting.crash import report
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

    found = report(crashed(folder / "main.py", n_threads))

    assert found is not None
    assert (found.printed, found.reason) == ("before\n", "Segmentation fault")
    assert [line[2] for line in found.lines] == ["string_at", "höher", "<module>"]
    assert found.lines[1] == (str(folder / "main.py"), 5, "höher")


def test_frames_are_told_outermost_first_with_their_source(tmp_path: Path) -> None:
    found = report(crashed(tmp_path / "main.py"))
    assert found is not None

    frames = crash_frames(found.lines, lambda file: Path(file).name)

    assert [(frame.file, frame.source, frame.is_library) for frame in frames[:2]] == [
        ("main.py", "höher()", False),
        ("main.py", "    ctypes.string_at(0)", False),
    ]
    assert frames[2].is_library


def test_the_last_report_counts_and_a_text_without_one_has_none() -> None:
    head = "Fatal Python error: Aborted\n\nCurrent thread 0x01 (most recent call first):\n"
    one = f'{head}  File "a", line 1 in f\n\nmore\n'

    found = report(one + "printed\n" + one.replace('"a"', '"b"'))

    assert found is not None
    assert (found.lines, found.printed) == ((("b", 1, "f"),), one + "printed\n")
    assert report("Traceback (most recent call last):\n") is None
    assert report("") is None
