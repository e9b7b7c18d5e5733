"""The record of one failed attempt of a task: its fields, its JSON, and its texts for people.

Workers, supervisors and the agent write the record with `TaskError.to_json`; the store keeps the
text under (task, attempt) in the errors key; clients read it with `TaskError.from_json`. Both
directions are in this file, so a new field is added in one place. Records of older and newer
versions are read, too: a missing or null field has its default, an unknown field is ignored.
"""

from __future__ import annotations

import json
import linecache
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from dagnb.worker_label import worker_text

OWN_PACKAGES = frozenset({"dagnb", "dagnb_kernel_ext", "dagnb_planners", "dagnb_workers"})
"""The packages of dagnb. Tracebacks hide their frames, and workers have them installed."""

WORKER_DIED = "WorkerDied"
TIME_LIMIT = "TimeLimit"
LEASE_LOST = "LeaseLost"
"""Values of `TaskError.type` for a failure that is no exception of the user's function."""

_SHOWN = 200
"""Characters of an error that its repr shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One line of a remote traceback; columns are 0-based character offsets, None where unknown.

    file: as people call it, 'Cell In[4]' or a path. source: the line with its indent.
    is_library: the file is installed code. before, after: neighbouring lines of the same function.
    times: number of identical frames in a row, as a recursion gives them.
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

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Frame:
        """Returns the frame of a JSON object; looks up a missing source line in this process."""
        frame = cls(**_known_fields(cls, data))
        if frame.source:
            return frame
        # A worker without the text of a cell writes no source; the notebook's own process has it.
        return replace(frame, source=linecache.getline(frame.file, frame.line).rstrip())

    def __repr__(self) -> str:
        return f"<{_cut(self.file)}, line {self.line}, in {_cut(self.function)}>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """An exception behind another one.

    how: 'cause' (`raise ... from`), 'context' (raised while handling it) or 'part' (of a group).
    """

    how: Literal["cause", "context", "part"]
    type: str
    message: str
    frames: tuple[Frame, ...] = ()
    notes: tuple[str, ...] = ()
    causes: tuple[Cause, ...] = ()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Cause:
        """Returns the cause of a parsed JSON object, with the causes below it."""
        return cls(**_known_fields(cls, data))

    def __repr__(self) -> str:
        return f"<{self.how}: {_cut(headline(self.type, self.message))}>"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskError:
    """One failed attempt of a task, as the errors key of the store holds it.

    task, attempt, final: are not part of the JSON; the reader knows them from the key and from the
    task's state.
    worker: its name, or the id of the instance if it staffed no worker yet.
    type: name of the exception's class, or WORKER_DIED, TIME_LIMIT, LEASE_LOST.
    mro: the exception's class and its bases, as catchable.class_names gives them.
    traceback: the lines that Python would have printed.
    causes: exceptions it was raised from or while handling, and the parts of an exception group.
    exit_code, signal: of a process that died; None where unknown.
    at: moment of the failure, epoch seconds.
    """

    task: str = ""
    attempt: int = 0
    worker: str = ""
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

    def to_json(self) -> str:
        """Returns the text for the errors key. Fields that hold their default are left out."""
        written = asdict(self)
        for field in fields(self):
            is_default = written[field.name] == field.default
            if is_default or field.name in ("task", "attempt", "final"):
                del written[field.name]
        return json.dumps(written)

    @classmethod
    def from_json(cls, text: str, *, task: str, attempt: int, final: bool = False) -> TaskError:
        """Returns the error that to_json wrote; the arguments are the fields it leaves out."""
        known = _known_fields(cls, json.loads(text))
        return cls(**known | {"task": task, "attempt": attempt, "final": final})

    def __repr__(self) -> str:
        return f"<{_cut(self.line())}>"

    def text(self) -> str:
        """Returns the traceback as Python prints it; '' where it only repeats the message."""
        text = "".join(self.traceback).rstrip()
        if "Traceback (" in text or '  File "' in text:
            return text
        return ""

    def line(self) -> str:
        """Returns one line for lists and logs."""
        raised = headline(self.type, self.message)
        return f"task '{self.task}' attempt {self.attempt} on {worker_text(self.worker)}: {raised}"


def _known_fields(kind: type, data: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the constructor arguments that a JSON object holds; null counts as missing."""
    known: dict[str, Any] = {}
    for field in fields(kind):
        value = data.get(field.name)
        if value is None:
            continue
        if field.name == "frames":
            value = map(Frame.from_json, value)
        elif field.name == "causes":
            value = map(Cause.from_json, value)
        # JSON has no tuples, and the records are frozen and hashable.
        known[field.name] = value if isinstance(value, str | int | float) else tuple(value)
    return known


def headline(kind: str, message: str) -> str:
    """Returns the type of an exception and its message, as Python prints them.

    >>> headline("KeyError", "'x'"), headline("KeyboardInterrupt", "")
    ("KeyError: 'x'", 'KeyboardInterrupt')
    """
    return f"{kind}: {message}" if message.strip() else kind


def reason_of(error: BaseException) -> str:
    """Returns the message of an exception as part of a sentence; its type if it has no message."""
    return without_stop(_message(error).strip()) or type(error).__name__


def raised_text(error: BaseException) -> str:
    """Returns the headline of an exception; its type alone if its message cannot be read."""
    return headline(type(error).__name__, _message(error))


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException:  # noqa: BLE001  # the class is the user's: its __str__ may raise anything
        return ""


def without_stop(text: str) -> str:
    """Returns the text without the full stop at its end; an ellipsis stays.

    >>> without_stop("no such file."), without_stop("write timeout_s=...")
    ('no such file', 'write timeout_s=...')
    """
    if text.endswith(".."):
        return text
    return text.removesuffix(".")


def sentence(text: str) -> str:
    """Returns the text with a full stop at its end.

    >>> sentence("no such file"), sentence("no such file."), sentence("write timeout_s=...")
    ('no such file.', 'no such file.', 'write timeout_s=...')
    """
    return text if text.endswith(".") else f"{text}."


_DETAILED = 5
"""Failures that an error message describes in full; the others are counted."""


def first_failure(errors: Sequence[TaskError]) -> str:
    """Returns a sentence about the first failure, which also counts the others."""
    first = errors[0]
    # An exception's message may end with a full stop, or in an ellipsis, or with neither.
    raised = without_stop(headline(first.type, first.message[:2_000]))
    if len(errors) > 1:
        raised += f" (and {len(errors) - 1} more). This is the first that failed"
    worker = worker_text(first.worker)
    where = f"task '{first.task}' failed after {first.attempt} attempt(s) on {worker}"
    return f"{where}: {sentence(raised)}"


def details(errors: Sequence[TaskError]) -> list[str]:
    """Returns a paragraph for each of the first failures: its traceback, and what it printed."""
    paragraphs = []
    for error in errors[:_DETAILED]:
        lines = []
        if len(errors) > 1:
            lines.append(error.line()[:2_000])
        if text := error.text():
            lines.append(_end(text, 8_000))
        for name, tail in (("stderr", error.stderr_tail), ("stdout", error.stdout_tail)):
            if tail.strip():
                lines.append(f"{name}:\n{_end(tail.rstrip(), 2_000)}")
        if lines:
            paragraphs.append("\n".join(lines))

    if len(errors) > _DETAILED:
        paragraphs.append(f"and {len(errors) - _DETAILED} more failed")
    return paragraphs


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _end(text: str, limit: int) -> str:
    # A traceback and an output say most at their ends.
    return text if len(text) <= limit else f"... {text[-limit:]}"
