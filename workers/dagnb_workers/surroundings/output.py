"""What a worker prints, caught at the level of file descriptors: prints, C code and child processes alike.

Two files without a name are shared with the supervisor, which reads the last words after a death and gives back the
memory of what nobody will read: a hole is punched before the tail, so a gigabyte of stderr takes no more room than its
end, and nothing is ever moved under the hands of the writer. A pipe would stall the task whenever its reader is late.
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
_F_PUNCHHOLE = 99

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(slots=True)
class Capture:
    """The two files by their descriptors. trimmed: up to where each has been given back (supervisor's side)."""

    stdout: int
    stderr: int
    trimmed: list[int]

    @classmethod
    def create(cls) -> Capture:
        """Two empty files, without a path, that append whoever writes."""
        return cls.of(_appending_file(), _appending_file())

    @classmethod
    def of(cls, stdout: int, stderr: int) -> Capture:
        """The files that another process made."""
        return cls(stdout, stderr, [0, 0])

    def close(self) -> None:
        """Give the descriptors back on this side."""
        os.close(self.stdout)
        os.close(self.stderr)

    def start(self) -> None:
        """Worker: from now on whatever this process and its children print goes there."""
        os.dup2(self.stdout, 1)
        os.dup2(self.stderr, 2)
        for name in ("stdout", "stderr"):
            setattr(sys, name, opened(name))
            setattr(sys, f"__{name}__", getattr(sys, name))
        _started.append(self)

    def take(self) -> tuple[str, str]:
        """Worker: the tails of stdout and stderr since the last call; they are gone then. Cheap when empty."""
        _flush()
        return self._take(self.stdout), self._take(self.stderr)

    def tails(self, n_bytes: int = TAIL_BYTES) -> tuple[str, str]:
        """Supervisor: the last words on stdout and stderr, so many bytes of each at most."""
        return _tail(self.stdout, n_bytes), _tail(self.stderr, n_bytes)

    def trim(self) -> None:
        """Supervisor: give back the memory of all but the tails."""
        for which, fd in enumerate((self.stdout, self.stderr)):
            n_bytes = os.fstat(fd).st_size
            if n_bytes < self.trimmed[which]:
                self.trimmed[which] = 0
            if n_bytes - self.trimmed[which] > TRIM_BYTES:
                until = (n_bytes - TAIL_BYTES) // _BLOCK * _BLOCK
                _give_back(fd, until)
                self.trimmed[which] = until

    @staticmethod
    def _take(fd: int) -> str:
        if os.fstat(fd).st_size == 0:
            return ""
        text = _tail(fd)
        os.ftruncate(fd, 0)
        return text


class Printed(io.TextIOWrapper):
    """sys.stdout or sys.stderr of a worker: a class of our own, so that threads can be silenced. See silence."""


def opened(name: str) -> Any:
    """A new stream for sys.stdin, sys.stdout or sys.stderr, by its name; closing it leaves the descriptor open."""
    number = ("stdin", "stdout", "stderr").index(name)
    if number == 0:
        # closing it must not free descriptor 0: the next file a task opens would be its standard input
        return open(0, closefd=False)
    file = open(number, "wb", closefd=False)  # noqa: SIM115  # as above
    # By lines: the last words of a killed process must not stay in a buffer.
    return Printed(file, encoding="utf-8", errors="backslashreplace", line_buffering=True)


_silent: set[threading.Thread] = set()


def silence(threads: Iterable[threading.Thread]) -> None:
    """From now on nothing is shown of what these threads print by sys.stdout and sys.stderr.

    As long as there is no such thread, `write` is that of TextIOWrapper, so printing costs what it costs everywhere.
    """
    _silent.update(threads)
    Printed.write = _write_unless_silent  # type: ignore[method-assign,assignment]


def _write_unless_silent(self: Printed, text: str) -> int:
    return (
        len(text) if threading.current_thread() in _silent else io.TextIOWrapper.write(self, text)
    )


_started: list[Capture] = []


def take_printed() -> tuple[str, str]:
    """What this process printed since the last call: see Capture.take; two empty strings where nothing is caught."""
    return _started[-1].take() if _started else ("", "")


def _tail(fd: int, most: int = TAIL_BYTES) -> str:
    n_bytes = os.fstat(fd).st_size
    dropped = max(0, n_bytes - most)
    text = os.pread(fd, most, dropped).decode(errors="replace")
    return f"... {dropped / 1e6:.1f} MB dropped ...\n{text}" if dropped else text


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(
            OSError, ValueError, AttributeError
        ):  # user code may have closed or replaced it
            stream.flush()
    _libc.fflush(None)  # what C code printed is in a buffer of its own


def _appending_file() -> int:
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("dagnb-output")
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_APPEND)
    return fd


def _give_back(fd: int, until: int) -> None:
    """Punch a hole; a file system that cannot keeps the bytes until the task ends."""
    if sys.platform == "darwin":
        with contextlib.suppress(OSError):
            fcntl.fcntl(fd, _F_PUNCHHOLE, struct.pack("IIqq", 0, 0, 0, until))
    else:
        _libc.fallocate(fd, _PUNCH_HOLE_KEEP_SIZE, ctypes.c_long(0), ctypes.c_long(until))
