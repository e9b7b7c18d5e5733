"""What is known of a failed attempt of a task, as data: the errors key holds it, pictures and errors tell it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One line of a remote traceback; columns are 0-based character offsets, None where unknown.

    file: as people call it, 'Cell In[4]' or a path. source: the line with its indent. is_library: installed code.
    before, after: its neighbours in the same function. times: how often it came in a row.
    """

    file: str
    line: int
    function: str
    source: str = ""
    end_line: int | None = None
    column: int | None = None
    end_column: int | None = None
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    is_library: bool = False
    times: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """An exception that another was raised from, or while handling it, or one that is part of a group."""

    how: Literal["cause", "context", "part"]
    type: str
    message: str
    frames: tuple[Frame, ...] = ()
    notes: tuple[str, ...] = ()
    causes: tuple[Cause, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskError:
    """Why one attempt of one task failed, as the errors key holds it.

    `type` is the exception's name, or for a death without exception: "WorkerDied", "TimeLimit", "LeaseLost".
    causes: what it was raised from or while handling, and the parts of an exception group. traceback: Python's text.
    """

    task: str
    attempt: int
    worker: str
    type: str
    message: str
    frames: tuple[Frame, ...] = ()
    notes: tuple[str, ...] = ()
    causes: tuple[Cause, ...] = ()
    traceback: tuple[str, ...] = ()
    stderr_tail: str = ""
    stdout_tail: str = ""
    exit_code: int | None = None
    signal: int | None = None
    at: float = 0.0
    final: bool = False

    def text(self) -> str:
        """Python's own text; empty where it only repeats the message."""
        text = "".join(self.traceback).rstrip()
        return text if "Traceback (" in text or '  File "' in text else ""

    def line(self) -> str:
        """One line for lists and logs."""
        return f"task '{self.task}' attempt {self.attempt} on {self.worker}: {self.type}: {self.message}"
