"""What is known of a failed attempt of a task, as data: the errors key holds it, pictures and errors tell it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

_SHOWN = 200
"""characters of an error that its repr shows"""


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

    def __repr__(self) -> str:
        return f"<{_cut(self.file)}, line {self.line}, in {_cut(self.function)}>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """An exception that another was raised from, or while handling it, or one that is part of a group."""

    how: Literal["cause", "context", "part"]
    type: str
    message: str
    frames: tuple[Frame, ...] = ()
    notes: tuple[str, ...] = ()
    causes: tuple[Cause, ...] = ()

    def __repr__(self) -> str:
        return f"<{self.how}: {_cut(headline(self.type, self.message))}>"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskError:
    """Why one attempt of one task failed, as the errors key holds it.

    `type` is the exception's name, or for a death without exception: "WorkerDied", "TimeLimit", "LeaseLost".
    mro: the exception's class and its bases, as catchable.class_names gives them. traceback: Python's text.
    causes: what it was raised from or while handling, and the parts of an exception group.
    """

    task: str
    attempt: int
    worker: str
    type: str
    message: str
    mro: tuple[str, ...] = ()
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

    def __repr__(self) -> str:
        return f"<{_cut(self.line())}>"

    def text(self) -> str:
        """Python's own text; empty where it only repeats the message."""
        text = "".join(self.traceback).rstrip()
        return text if "Traceback (" in text or '  File "' in text else ""

    def line(self) -> str:
        """One line for lists and logs."""
        told = headline(self.type, self.message)
        return f"task '{self.task}' attempt {self.attempt} on {self.worker}: {told}"


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def headline(kind: str, message: str) -> str:
    """The type of an exception and its message, as Python writes them: the type alone where there is no message.

    >>> headline("KeyError", "'x'"), headline("KeyboardInterrupt", "")
    ("KeyError: 'x'", 'KeyboardInterrupt')
    """
    return f"{kind}: {message}" if message.strip() else kind


def reason_of(error: BaseException) -> str:
    """The message of an exception, or its type where it has none, as part of a sentence: without a full stop."""
    return without_stop(_message(error).strip()) or type(error).__name__


def raised_text(error: BaseException) -> str:
    """The type of an exception and its message, as headline; the type alone where the message cannot be asked for."""
    return headline(type(error).__name__, _message(error))


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException:  # noqa: BLE001  # the class is the user's: its __str__ may raise anything
        return ""


def without_stop(text: str) -> str:
    """The text without the full stop at its end; an ellipsis stays.

    >>> without_stop("no such file."), without_stop("write timeout_s=...")
    ('no such file', 'write timeout_s=...')
    """
    return text[:-1] if text.endswith(".") and not text.endswith("..") else text


def sentence(text: str) -> str:
    """The text with a full stop at its end, unless it has one.

    >>> sentence("no such file"), sentence("no such file."), sentence("write timeout_s=...")
    ('no such file.', 'no such file.', 'write timeout_s=...')
    """
    return text if text.endswith(".") else f"{text}."


_TOLD = 5
"""so many failures are told of at most"""


def first_failure(errors: Sequence[TaskError]) -> str:
    """Which task failed first, of what, and how many others did."""
    first = errors[0]
    more = (
        f" (and {len(errors) - 1} more). This is the first that failed" if len(errors) > 1 else ""
    )
    raised = sentence(without_stop(headline(first.type, first.message[:2_000])) + more)
    return (
        f"task '{first.task}' failed after {first.attempt} attempt(s) on {first.worker}: {raised}"
    )


def details(errors: Sequence[TaskError]) -> list[str]:
    """A paragraph for each of the first failures: the user's own lines, and what was printed; '' is left out."""
    parts = []
    for error in errors[:_TOLD]:
        told = [error.line()[:2_000]] if len(errors) > 1 else []
        told += [_end(error.text(), 8_000)] if error.text() else []
        tails = (("stderr", error.stderr_tail), ("stdout", error.stdout_tail))
        told += [f"{name}:\n{_end(tail.rstrip(), 2_000)}" for name, tail in tails if tail.strip()]
        parts.append("\n".join(told))
    if len(errors) > _TOLD:
        parts.append(f"and {len(errors) - _TOLD} more failed")
    return [part for part in parts if part]


def _end(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"... {text[-limit:]}"
