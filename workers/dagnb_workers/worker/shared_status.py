"""Memory that a worker shares with its supervisor: its attempt, when that began, its time limit.

The worker writes it up to four times a task, in about a microsecond and without a system call. The
supervisor reads it at any moment, also after the worker died. There is no lock, because a dying
worker would never release it.

    word  0 serial   counts the writes
          1 task     position + 1; 0 while no attempt is at work
          2 attempt
          3 limit    seconds, 0 for none           (a double)
          4 started  by the monotonic clock         (a double)
          5 behind   number of tasks of the batch that wait behind the task
          6 check    hash of words 0 to 5, written last
          7 late     task + 1 and attempt whose time is up, written by the supervisor
    byte 128         name of the worker: its length, then UTF-8

Each word is aligned, so it is never seen half written. A copy whose check word does not match was
taken during a write, and is taken again.
"""

from __future__ import annotations

import mmap
import os
import time
from dataclasses import dataclass

from dagnb_workers.surroundings.output import unnamed_file

_N_BYTES = 4096
_SERIAL, _TASK, _ATTEMPT, _LIMIT, _STARTED, _BEHIND, _CHECK, _LATE = range(8)
_NO_TASK = 0
_READS = 20
_NAME = 128
_NAME_BYTES = 256


@dataclass(frozen=True, slots=True)
class Running:
    """The attempt at work. limit_s: 0 for none. started: by the monotonic clock of the machine.

    n_behind: number of tasks of its batch that wait behind it.
    """

    task: int
    attempt: int
    limit_s: float
    started: float
    n_behind: int


class SharedStatus:
    """Either end of the shared memory. fd: what the other process needs to map it."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._map = mmap.mmap(fd, _N_BYTES)
        self._words = memoryview(self._map).cast("Q")
        self._floats = memoryview(self._map).cast("d")

    @classmethod
    def create(cls) -> SharedStatus:
        """Make new shared memory, all zero; it has no path in a file system."""
        fd = unnamed_file("dagnb-status")
        os.ftruncate(fd, _N_BYTES)
        return cls(fd)

    def close(self) -> None:
        """Release the memory in this process."""
        self._words.release()
        self._floats.release()
        self._map.close()
        os.close(self.fd)

    # ---- the worker's side ----

    def staff(self, worker: str) -> None:
        """Write the name of the plan's worker that this process staffs from now on."""
        name = worker.encode()[: _NAME_BYTES - 1]
        self._map[_NAME : _NAME + 1 + len(name)] = bytes((len(name),)) + name

    def begin(self, task: int, attempt: int, limit_s: float = 0.0, n_behind: int = 0) -> None:
        """Write that this attempt is at work from now on."""
        words, floats, started = self._words, self._floats, time.monotonic()
        words[_SERIAL] = serial = words[_SERIAL] + 1
        words[_TASK], words[_ATTEMPT] = task + 1, attempt
        floats[_LIMIT], floats[_STARTED] = limit_s, started
        words[_BEHIND] = n_behind
        words[_CHECK] = _check(serial, task + 1, attempt, limit_s, started, n_behind)

    def end(self) -> None:
        """Write that no attempt is at work."""
        words, floats = self._words, self._floats
        words[_SERIAL] = serial = words[_SERIAL] + 1
        words[_TASK], words[_BEHIND] = _NO_TASK, 0
        words[_CHECK] = _check(
            serial, _NO_TASK, words[_ATTEMPT], floats[_LIMIT], floats[_STARTED], 0
        )

    def timed_out(self, task: int, attempt: int) -> bool:
        """Returns whether the supervisor called flag_timeout for this attempt."""
        return self._words[_LATE] == _attempt_word(task, attempt)

    # ---- the supervisor's side ----

    def read(self, *, is_dead: bool = False) -> Running | None:
        """Returns the attempt at work, if any; None also while the worker is writing.

        is_dead: the worker has died, so a half-written state is read as it is.
        """
        for _ in range(1 if is_dead else _READS):
            copy = memoryview(bytes(self._words[: _CHECK + 1]))
            words, floats = copy.cast("Q"), copy.cast("d")
            task, attempt = words[_TASK], words[_ATTEMPT]
            limit_s, started = floats[_LIMIT], floats[_STARTED]
            n_behind = words[_BEHIND]
            check = _check(words[_SERIAL], task, attempt, limit_s, started, n_behind)
            if is_dead or words[_CHECK] == check:
                if task == _NO_TASK:
                    return None
                return Running(task - 1, attempt, limit_s, started, n_behind)
        return None

    def staffed(self) -> str:
        """Returns the worker that the process staffs, '' before it has one.

        The name is for people only: one that is just being replaced may be a mixture of two.
        """
        n_bytes = self._map[_NAME]
        return self._map[_NAME + 1 : _NAME + 1 + n_bytes].decode(errors="replace")

    def has_asked(self) -> bool:
        """Returns whether the worker has had an answer from the store, with a task or without."""
        return bool(self._words[_SERIAL])

    def flag_timeout(self, task: int, attempt: int) -> None:
        """Write that the time of this attempt is up. The caller interrupts the attempt next."""
        self._words[_LATE] = _attempt_word(task, attempt)


def _check(
    serial: int, task: int, attempt: int, limit_s: float, started: float, n_behind: int
) -> int:
    """Returns a hash of these fields.

    Worker and supervisor are forked from one interpreter, so their hashes agree.
    """
    return hash((serial, task, attempt, limit_s, started, n_behind)) & 0xFFFF_FFFF_FFFF_FFFF


def _attempt_word(task: int, attempt: int) -> int:
    # task + 1, so that no attempt has the word 0, which new memory holds.
    return (task + 1) << 32 | attempt
