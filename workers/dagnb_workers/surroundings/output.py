"""Capture of what a worker prints, by file descriptors: Python, C code and child processes alike.

    worker                                       supervisor
    descriptors 1 and 2 --append--> two files <--read-- tails, after a death
                                    without a name <--punch holes-- trim

The supervisor frees the memory of all but the tail by punching a hole before it: a gigabyte of
stderr takes no more memory than its tail, and nothing is copied while a process writes. A pipe
would block the task whenever its reader is late.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import io
import os
import struct
import sys
import tempfile
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

TAIL_BYTES = 64 * 1024
TRIM_BYTES = 8 * 1024 * 1024
_BLOCK = 4096
_PUNCH_HOLE_KEEP_SIZE = 0x02 | 0x01
_F_PUNCHHOLE = 99  # of macOS; the module fcntl does not name it

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(slots=True)
class Capture:
    """The two files by their descriptors. trimmed: freed bytes at the front of each."""

    stdout: int
    stderr: int
    trimmed: list[int]

    @classmethod
    def create(cls) -> Capture:
        """Make two empty files, without a path, to which every process appends."""
        return cls.of(_appending_file(), _appending_file())

    @classmethod
    def of(cls, stdout: int, stderr: int) -> Capture:
        """Returns the capture with files that another process made."""
        return cls(stdout, stderr, [0, 0])

    def close(self) -> None:
        """Close the descriptors of this process."""
        os.close(self.stdout)
        os.close(self.stderr)

    def start(self) -> None:
        """Worker: send all that this process and its children print to the files from now on."""
        os.dup2(self.stdout, 1)
        os.dup2(self.stderr, 2)
        for name in ("stdout", "stderr"):
            stream = opened(name)
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
        _started.append(self)

    def take(self) -> tuple[str, str]:
        """Worker: empty the files. Returns the tails of stdout and stderr since the last call."""
        _flush()
        return self._take(self.stdout), self._take(self.stderr)

    def tails(self, n_bytes: int = TAIL_BYTES) -> tuple[str, str]:
        """Supervisor: returns the ends of stdout and stderr. n_bytes: at most of each."""
        return _tail(self.stdout, n_bytes), _tail(self.stderr, n_bytes)

    def trim(self) -> None:
        """Supervisor: free the memory of all but the tails of files that have grown large."""
        for which, fd in enumerate((self.stdout, self.stderr)):
            n_bytes = os.fstat(fd).st_size
            if n_bytes < self.trimmed[which]:  # the worker has emptied the file since
                self.trimmed[which] = 0
            if n_bytes - self.trimmed[which] > TRIM_BYTES:
                until = (n_bytes - TAIL_BYTES) // _BLOCK * _BLOCK  # holes consist of whole blocks
                _free(fd, until)
                self.trimmed[which] = until

    @staticmethod
    def _take(fd: int) -> str:
        if os.fstat(fd).st_size == 0:  # as after most tasks
            return ""
        text = _tail(fd)
        os.ftruncate(fd, 0)
        return text


class Printed(io.TextIOWrapper):
    """sys.stdout or sys.stderr of a worker: a class of its own, which `silence` can change."""


def opened(name: str) -> Any:
    """Open a new stream for sys.stdin, sys.stdout or sys.stderr, by its name.

    Closing the stream leaves the descriptor open. Otherwise the next file that a task opens would
    get the descriptor's number, and become standard input or output.
    """
    number = ("stdin", "stdout", "stderr").index(name)
    if number == 0:
        return open(0, closefd=False)
    file = open(number, "wb", closefd=False)  # noqa: SIM115  # the file stays open
    # Flushed at each line, so that the last lines of a killed process are not lost in a buffer.
    return Printed(file, encoding="utf-8", errors="backslashreplace", line_buffering=True)


_silent: set[threading.Thread] = set()


def silence(threads: Iterable[threading.Thread]) -> None:
    """Drop what these threads print to sys.stdout and sys.stderr from now on.

    Until the first call, `write` is that of TextIOWrapper, so that printing is as fast as usual.
    """
    _silent.update(threads)
    Printed.write = _write_unless_silent  # type: ignore[method-assign,assignment]


def _write_unless_silent(self: Printed, text: str) -> int:
    if threading.current_thread() in _silent:
        return len(text)
    return io.TextIOWrapper.write(self, text)


_started: list[Capture] = []


def take_printed() -> tuple[str, str]:
    """Returns what this process printed since the last call: see Capture.take.

    Returns two empty strings if no capture was started.
    """
    if not _started:
        return "", ""
    return _started[-1].take()


def _tail(fd: int, most: int = TAIL_BYTES) -> str:
    n_bytes = os.fstat(fd).st_size
    dropped = max(0, n_bytes - most)
    text = os.pread(fd, most, dropped).decode(errors="replace")
    return f"... {dropped / 1e6:.1f} MB dropped ...\n{text}" if dropped else text


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        # The user's code may have closed or replaced the stream.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    _libc.fflush(None)  # C code has a buffer of its own


def unnamed_file(name: str) -> int:
    """Returns the descriptor of a new file without a path, in memory where the system can do that.

    name: shown by tools that list open files.
    """
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _appending_file() -> int:
    fd = unnamed_file("dagnb-output")
    # Several processes write to the file: without O_APPEND they would overwrite one another.
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_APPEND)
    return fd


def _free(fd: int, until: int) -> None:
    """Punch a hole up to `until`. If the file system cannot, the bytes stay until the task ends."""
    if sys.platform == "darwin":
        with contextlib.suppress(OSError):
            fcntl.fcntl(fd, _F_PUNCHHOLE, struct.pack("IIqq", 0, 0, 0, until))
    else:
        _libc.fallocate(fd, _PUNCH_HOLE_KEEP_SIZE, ctypes.c_long(0), ctypes.c_long(until))
