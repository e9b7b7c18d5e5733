"""Where a worker process runs, as its supervisor sees it: the shared page, what it prints, its time limit, its rest."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass, field

from dagnb_workers.surroundings.output import Capture
from dagnb_workers.worker.shared_status import SharedStatus

OVERTIME = ((0.0, signal.SIGINT), (1.0, signal.SIGTERM), (2.0, signal.SIGKILL))
"""What a task gets that is still running so many seconds after its time limit."""


@dataclass(slots=True)
class WorkerProcess:
    """One worker process. is_leaving: it was told to end because nothing was left to do.

    _n_warnings: how much of OVERTIME its present attempt has had.
    """

    instance: str
    page: SharedStatus = field(default_factory=SharedStatus.create)
    capture: Capture = field(default_factory=Capture.create)
    is_leaving: bool = False
    _warned: tuple[int, int] = (-1, -1)
    _n_warnings: int = 0
    _idle_since: float | None = None

    @property
    def fds(self) -> tuple[int, int, int]:
        """The descriptors that travel to the worker."""
        return (self.page.fd, self.capture.stdout, self.capture.stderr)

    def close(self) -> None:
        """Give memory and descriptors back on this side."""
        self.page.close()
        self.capture.close()

    def is_at_work(self) -> bool:
        """Whether it has a task, or has not asked for one yet."""
        return not self.page.has_asked() or self.page.read() is not None

    def warning(self) -> signal.Signals | None:
        """The next signal its task must get for running too long, once each; its page is marked before."""
        running = self.page.read()
        if running is None or running.limit_s <= 0:
            return None
        if self._warned != (running.task, running.attempt):
            self._warned, self._n_warnings = (running.task, running.attempt), 0
        overtime_s = time.monotonic() - running.started - running.limit_s
        if self._n_warnings >= len(OVERTIME) or overtime_s < OVERTIME[self._n_warnings][0]:
            return None
        self.page.flag_timeout(running.task, running.attempt)
        self._n_warnings += 1
        return OVERTIME[self._n_warnings - 1][1]

    def rested(self, linger_s: float) -> bool:
        """Whether it has had nothing to do for so long, as far as looks at it tell."""
        if self.is_at_work():
            self._idle_since = None
            return False
        if self._idle_since is None:
            self._idle_since = time.monotonic()
        return time.monotonic() - self._idle_since >= linger_s
