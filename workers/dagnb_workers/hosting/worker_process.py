"""A worker process as its supervisor sees it: shared status, output, time limit, memory.

Workers send no messages to their supervisor. It reads memory that a worker shares with it, files
that the worker prints to, and counters of the kernel. So it also notices a task that blocks
everything in its process, or kills it.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from dagnb_workers.surroundings.output import Capture
from dagnb_workers.worker.shared_status import SharedStatus

# (seconds after its time limit, signal that a task gets then if it still runs)
OVERTIME = ((0.0, signal.SIGINT), (1.0, signal.SIGTERM), (2.0, signal.SIGKILL))

_MACHINE = (Path("/proc/vmstat"),)
_CONTAINER = (
    Path("/sys/fs/cgroup/memory.events"),  # version 2 of cgroups
    Path("/sys/fs/cgroup/memory/memory.oom_control"),  # version 1
)
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))

# Without a limit, version 1 of cgroups shows a number of about this size.
_NO_LIMIT = 1 << 60


@dataclass(slots=True)
class WorkerProcess:
    """One worker process. is_leaving: whether it was killed because it was idle.

    _signalled: (task, attempt) that the overtime signals were for; _n_signals: how many it got.
    """

    instance: str
    status: SharedStatus = field(default_factory=SharedStatus.create)
    capture: Capture = field(default_factory=Capture.create)
    is_leaving: bool = False
    _signalled: tuple[int, int] = (-1, -1)
    _n_signals: int = 0
    _idle_since: float | None = None

    @property
    def fds(self) -> tuple[int, int, int]:
        """The descriptors that travel to the worker: shared status, stdout, stderr."""
        return (self.status.fd, self.capture.stdout, self.capture.stderr)

    def close(self) -> None:
        """Release memory and descriptors on this side."""
        self.status.close()
        self.capture.close()

    def is_busy(self) -> bool:
        """Returns whether the worker has a task, or has not had an answer of the store yet."""
        return not self.status.has_asked() or self.status.read() is not None

    def overtime_signal(self) -> signal.Signals | None:
        """Returns the next signal for a task that runs too long, each signal once; None for none.

        Marks the attempt in the shared status first, so that the worker can tell this interrupt
        from one of the user's.
        """
        running = self.status.read()
        if running is None or running.limit_s <= 0:
            return None

        attempt = (running.task, running.attempt)
        if self._signalled != attempt:
            self._signalled, self._n_signals = attempt, 0
        if self._n_signals >= len(OVERTIME):
            return None

        after_s, number = OVERTIME[self._n_signals]
        if time.monotonic() - running.started - running.limit_s < after_s:
            return None
        self.status.flag_timeout(running.task, running.attempt)
        self._n_signals += 1
        return number

    def has_lingered(self, linger_s: float) -> bool:
        """Returns whether each call of the last `linger_s` seconds has found the worker idle."""
        if self.is_busy():
            self._idle_since = None
            return False
        if self._idle_since is None:
            self._idle_since = time.monotonic()
        return time.monotonic() - self._idle_since >= linger_s


def count_oom_kills(*, in_container: bool) -> int:
    """Returns how many processes of this container or machine the kernel killed for lack of memory.

    The count only grows. 0 where the kernel does not say.
    """
    for line in _lines(_CONTAINER if in_container else _MACHINE):
        if line.startswith("oom_kill "):
            return int(line.split()[1])
    return 0


def container_limit() -> int | None:
    """Returns the bytes that all processes of this container may use; None without a limit."""
    for line in _lines(_LIMITS):
        if line.isdigit() and int(line) < _NO_LIMIT:
            return int(line)
    return None


def _lines(files: Iterable[Path]) -> Iterable[str]:
    for file in files:
        with contextlib.suppress(OSError):
            yield from file.read_text().splitlines()
