"""The record of one failed attempt of a task: its fields, its JSON, and its texts for people.

Workers, supervisors and the agent write the record with `TaskError.to_json`; the store keeps the
text under (task, attempt) in the errors key; clients read it with `TaskError.from_json`. Both
directions are in this file, so a new field is added in one place. Records of older and newer
versions are read, too: a missing or null field has its default, an unknown field is ignored.

`except KeyError` catches a failed task
---------------------------------------
The exception itself is not sent to the client: its class may not exist here, and unpickling it
would run foreign code. Only the names of its class and bases are sent (`class_names`, in a worker).
In the client, `combined(TaskFailedError, names)` makes a subclass of TaskFailedError and of the
first named class that is already loaded:

    TaskFailedError   KeyError
            |             |
            +------+------+
                   |
            TaskFailedError       the class of the error that run.result() raises

No module is imported, and no constructor or method of the user's class runs. Otherwise a failed
task could execute code in the notebook just by naming a class.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import linecache
import sys
from abc import ABCMeta
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from types import ModuleType
from typing import Any, Literal, TypeVar, cast
from weakref import WeakValueDictionary

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


def read_errors(
    texts: Mapping[tuple[int, int], str], names: Sequence[str], failed: Collection[int]
) -> list[TaskError]:
    """Returns the failed attempts by time; this process adds source lines of notebook cells.

    texts: (task, attempt) -> JSON. names: of all tasks. failed: tasks that are not tried again.
    """
    last: dict[int, int] = {}
    for task, attempt in texts:
        last[task] = max(attempt, last.get(task, 0))
    errors = []
    for (task, attempt), text in texts.items():
        final = last[task] == attempt and task in failed
        errors.append(TaskError.from_json(text, task=names[task], attempt=attempt, final=final))
    return sorted(errors, key=lambda error: (error.at, error.task, error.attempt))


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


E = TypeVar("E", bound=Exception)

_MOST_CLASSES = 50
"""Names that a worker sends at most, for a class with very many bases."""

_NEVER_COMBINED = (
    StopIteration,  # Python makes a RuntimeError of these two when a coroutine raises them
    StopAsyncIteration,
    SyntaxError,  # Python and IPython print its fields in place of the message
    BaseExceptionGroup,  # has parts, which `except*` takes out and puts together anew
)


def class_names(kind: type[BaseException]) -> list[str]:
    """Returns the class and its bases as 'module:qualified.name', the class itself first."""
    bases = kind.__mro__[:-1]  # the last one is `object`
    return [f"{base.__module__}:{base.__qualname__}" for base in bases[:_MOST_CLASSES]]


def combined(
    ours: type[E], names: Iterable[str], never: tuple[type[Exception], ...] = ()
) -> type[E]:
    """Returns a subclass of `ours` and of the first named class that this process has loaded.

    names: of a class and its bases, as class_names gives them. never: classes that are passed over.
    Returns `ours` itself if no named class is loaded, or none can be combined with it.
    """
    for name in names:
        theirs = _loaded_class(name)
        if theirs is None:
            continue
        if issubclass(ours, theirs):
            break  # the names that follow are more general still, such as Exception
        if issubclass(theirs, (*_NEVER_COMBINED, *never)):
            continue
        if type(theirs) not in {type, ABCMeta}:
            continue  # another metaclass is code of the user's, which would run

        both = _combined.get((ours, theirs)) or _subclass(ours, theirs)
        if both is not None:
            return cast("type[E]", both)
    return ours


def blank(kind: type[E]) -> E:
    """Returns an instance without fields; no constructor of the combined classes runs.

    Raises TypeError if Python refuses to make one.
    """
    # Python accepts only the `__new__` of the base class that lays out the memory, and there is no
    # way to ask which one that is: each built-in base is tried.
    for base in kind.__mro__:
        if base.__module__ == "builtins" and issubclass(base, BaseException):
            with contextlib.suppress(TypeError):
                return base.__new__(kind)
    raise TypeError(f"no built-in base of {kind} can make an instance of it")


_combined: WeakValueDictionary[tuple[type, type], type] = WeakValueDictionary()
"""Combined classes by their two bases: equal failures have the same class."""


def _loaded_class(name: str) -> type[Exception] | None:
    """Returns the exception class of this name; None if it would have to be imported."""
    module_name, _, path = name.partition(":")
    module = sys.modules.get(module_name)
    if not issubclass(type(module), ModuleType):
        return None
    # getattr would call the __getattr__ of the module, and import a module that loads lazily.
    names = object.__getattribute__(module, "__dict__")
    known: Any = None
    for part in path.split("."):
        known = names.get(part)
        if not issubclass(type(known), type):
            return None
        names = type.__getattribute__(known, "__dict__")
    return known if issubclass(known, Exception) else None


def _subclass(ours: type[Exception], theirs: type[Exception]) -> type[Exception] | None:
    """Returns a class with both bases; None if Python cannot combine them."""
    # Printing, comparing, copying and setting a field shall do what they do with an error of ours:
    # the methods of the other class may rely on fields that only its own constructor sets.
    fields: dict[str, Any] = {
        name: inspect.getattr_static(ours, name) for name in dir(BaseException)
    }
    for name in ("__new__", "__class__", "__dict__", "__init_subclass__", "__subclasshook__"):
        fields.pop(name, None)
    # Our fields are class attributes, too: else a property of the other class would shadow them.
    fields |= dict.fromkeys(getattr(ours, "__annotations__", ()))
    # Futures test `if exception:`. A class with a length of 0 would make the failure look like a
    # success.
    fields |= {"__bool__": lambda self: True}
    fields |= {
        "__module__": ours.__module__,
        "__qualname__": ours.__qualname__,
        "__getattr__": _refuse,
    }
    metaclass: Any = type(theirs)
    try:
        both: type[Exception] = metaclass(ours.__name__, (ours, theirs), fields)
        blank(both)
    except TypeError:
        return None
    _combined[ours, theirs] = both
    return both


def _refuse(self: Exception, name: str) -> Any:
    """Explains why a field of the user's exception class is missing."""
    raise AttributeError(
        f"this error has no {name!r}: fields of the task's own exception stay with the worker. "
        "Its message, traceback and output are in .errors. "
        "If you need more, put it into the message, or return it as the task's value."
    )
