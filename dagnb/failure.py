"""The record of one failed attempt of a task: its fields, its JSON, and its texts for people.

Workers, supervisors and the agent write the record with `TaskError.to_json`; the store keeps the text under
(task, attempt) in the errors key; clients read it with `TaskError.from_json`. Both directions are in this file,
so a new field is added in one place. Records of older and newer versions are read, too: a missing or null field
has its default, an unknown field is ignored.
"""

from __future__ import annotations

import json
import linecache
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

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

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Frame:
        """Returns the frame of a parsed JSON object. A missing source line is looked up in this process."""
        frame = cls(**_known_fields(cls, data))
        if frame.source:
            return frame
        # A worker that died could not read the text of a cell; the notebook's own process has it.
        return replace(frame, source=linecache.getline(frame.file, frame.line).rstrip())

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

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Cause:
        """Returns the cause of a parsed JSON object, with the causes below it."""
        return cls(**_known_fields(cls, data))

    def __repr__(self) -> str:
        return f"<{self.how}: {_cut(headline(self.type, self.message))}>"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskError:
    """One failed attempt of a task, as the errors key of the store holds it.

    task, attempt, final: are not part of the JSON; the reader knows them from the key and from the task's state.
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
            if is_default or field.name in _OF_THE_READER:
                del written[field.name]
        return json.dumps(written)

    @classmethod
    def from_json(cls, text: str, *, task: str, attempt: int, final: bool = False) -> TaskError:
        """Returns the error that to_json wrote, with what the key and the state of the task say."""
        known = _known_fields(cls, json.loads(text))
        return cls(**known | {"task": task, "attempt": attempt, "final": final})

    def __repr__(self) -> str:
        return f"<{_cut(self.line())}>"

    def text(self) -> str:
        """Python's own text; empty where it only repeats the message."""
        text = "".join(self.traceback).rstrip()
        return text if "Traceback (" in text or '  File "' in text else ""

    def line(self) -> str:
        """One line for lists and logs."""
        raised = headline(self.type, self.message)
        return f"task '{self.task}' attempt {self.attempt} on {self.worker}: {raised}"


_OF_THE_READER = frozenset({"task", "attempt", "final"})


def _known_fields(kind: type, data: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the constructor arguments of a record that a JSON object holds; null counts as missing."""
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
        known[field.name] = value if isinstance(value, _SCALARS) else tuple(value)
    return known


_SCALARS = (str, int, float)


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
