"""The states of tasks and runs, what a reply tells an instance to do, and which budget a death is charged to."""

from __future__ import annotations

from enum import StrEnum


class TaskState(StrEnum):
    """State of a task; the value is the byte that stands for it in the store."""

    WAITING = "W"
    READY = "R"
    RUNNING = "X"
    RETRYING = "B"
    DONE = "D"
    FAILED = "F"
    SKIPPED = "S"
    CANCELLED = "C"

    @property
    def word(self) -> str:
        """The word people see: 'waiting', 'running', ..."""
        return self.name.lower()


class RunState(StrEnum):
    """State of a run; all but RUNNING are final."""

    RUNNING = "running"
    OK = "ok"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DEADLINE = "deadline"


class Status(StrEnum):
    """What a reply tells an instance to do.

    TASKS: run the offers. IDLE: nothing is ready, wait for a hint and register again. STOP: the run is over, leave.
    FENCED: your lease was taken away; register again. REFUSED: somebody else staffs that worker. NO_BLOB: store the
    named results again, then complete again.
    """

    TASKS = "tasks"
    IDLE = "idle"
    STOP = "stop"
    FENCED = "fenced"
    REFUSED = "refused"
    NO_BLOB = "noblob"


class Charge(StrEnum):
    """Which budget an ended attempt is charged to: the user's retries, crashes, or lost leases."""

    EXCEPTION = "exception"
    CRASH = "crash"
    LOSS = "loss"
