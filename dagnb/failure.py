"""What is known of a failed attempt of a task, as data: the errors key holds it, pictures and errors tell it."""

from __future__ import annotations

import contextlib
import inspect
import sys
from abc import ABCMeta
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal, TypeVar, cast
from weakref import WeakValueDictionary


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
    mro: the exception's class and its bases, as class_names gives them. traceback: Python's text.
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

    def text(self) -> str:
        """Python's own text; empty where it only repeats the message."""
        text = "".join(self.traceback).rstrip()
        return text if "Traceback (" in text or '  File "' in text else ""

    def line(self) -> str:
        """One line for lists and logs."""
        return f"task '{self.task}' attempt {self.attempt} on {self.worker}: {self.type}: {self.message}"


_SHOWN = 5
"""so many failures are told of at most"""


def headline(errors: Sequence[TaskError]) -> str:
    """Which task failed first, of what, and how many others did."""
    first = errors[0]
    more = f" (and {len(errors) - 1} more). This is the first that failed" if len(errors) > 1 else ""
    message = first.message[:2_000].rstrip(".")
    return (
        f"task '{first.task}' failed after {first.attempt} attempt(s) on {first.worker}: {first.type}: {message}{more}."
    )


def details(errors: Sequence[TaskError]) -> list[str]:
    """A paragraph for each of the first failures: the user's own lines, and what was printed; '' is left out."""
    parts = []
    for error in errors[:_SHOWN]:
        told = [error.line()[:2_000]] if len(errors) > 1 else []
        told += [_end(error.text(), 8_000)] if error.text() else []
        tails = (("stderr", error.stderr_tail), ("stdout", error.stdout_tail))
        told += [f"{name}:\n{_end(tail.rstrip(), 2_000)}" for name, tail in tails if tail.strip()]
        parts.append("\n".join(told))
    if len(errors) > _SHOWN:
        parts.append(f"and {len(errors) - _SHOWN} more failed")
    return [part for part in parts if part]


def _end(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"... {text[-limit:]}"


# ---- the class of the exception, of which only names travel -----------------------------------------------------

E = TypeVar("E", bound=Exception)

_MOST_CLASSES = 50

_NEVER_COMBINED = (
    StopIteration,  # Python makes a RuntimeError of these two when a coroutine raises them
    StopAsyncIteration,
    SyntaxError,  # Python and IPython print its fields in place of the message
    BaseExceptionGroup,  # has parts, which `except*` takes out and puts together anew
)


def class_names(kind: type[BaseException]) -> list[str]:
    """The class and its bases as 'module:qualified.name', the class itself first."""
    names = [f"{one.__module__}:{one.__qualname__}" for one in kind.__mro__ if one is not object]
    return names[:_MOST_CLASSES]


def combined(ours: type[E], names: Iterable[str], never: tuple[type[Exception], ...] = ()) -> type[E]:
    """A class that is `ours` and the first of the named classes that this process knows, so that both can be caught.

    `ours` itself when none of them is known, or none can be combined with it; subclasses of `never` are not.
    Names alone decide: nothing is unpickled or imported, and no code of the named class runs.
    """
    for theirs in filter(None, map(_known_class, names)):
        if issubclass(ours, theirs):
            break  # only the general classes are left, such as Exception
        if not issubclass(theirs, (*_NEVER_COMBINED, *never)) and type(theirs) in {type, ABCMeta}:
            made = _made.get((ours, theirs)) or _subclass(ours, theirs)
            if made is not None:
                return cast("type[E]", made)
    return ours


def blank(kind: type[E]) -> E:
    """A new instance whose fields are not set, without the constructors of the classes it was combined of.

    Raises TypeError when Python refuses that.
    """
    # Python accepts only the `__new__` of the base that lays out the memory; which one that is, it does not tell.
    builtin = [one for one in kind.__mro__ if one.__module__ == "builtins" and issubclass(one, BaseException)]
    for base in builtin:
        with contextlib.suppress(TypeError):
            return base.__new__(kind)
    raise TypeError(f"{kind} cannot be made by any of {builtin}")


_made: WeakValueDictionary[tuple[type, type], type] = WeakValueDictionary()
"""classes by what they were combined of, so that equal failures have the same class"""


def _known_class(name: str) -> type[Exception] | None:
    """The exception class of this name, unless it would have to be imported."""
    module_name, _, path = name.partition(":")
    module = sys.modules.get(module_name)
    if not issubclass(type(module), ModuleType):
        return None
    # Not by getattr: it would call the __getattr__ of a module, and import a module that is loaded lazily.
    names = object.__getattribute__(module, "__dict__")
    found: Any = None
    for part in path.split("."):
        found = names.get(part)
        if not issubclass(type(found), type):
            return None
        names = type.__getattribute__(found, "__dict__")
    return found if issubclass(found, Exception) else None


def _subclass(ours: type[Exception], theirs: type[Exception]) -> type[Exception] | None:
    """None where Python cannot combine them."""
    # Whatever Python does with an exception (print, compare, copy, set a field), it shall do as with one of ours:
    # the methods of their class may rely on fields that only its own constructor sets.
    fields: dict[str, Any] = {name: inspect.getattr_static(ours, name) for name in dir(BaseException)}
    for name in ("__new__", "__class__", "__dict__", "__init_subclass__", "__subclasshook__"):
        fields.pop(name, None)
    fields |= dict.fromkeys(getattr(ours, "__annotations__", ()))  # else a property of theirs could take the place
    fields |= {"__module__": ours.__module__, "__qualname__": ours.__qualname__, "__getattr__": _refuse}
    metaclass: Any = type(theirs)
    try:
        made: type[Exception] = metaclass(ours.__name__, (ours, theirs), fields)
        blank(made)
    except TypeError:
        return None
    _made[ours, theirs] = made
    return made


def _refuse(self: Exception, name: str) -> Any:
    raise AttributeError(
        f"{name!r} is not here: an exception's own fields stay with the worker. Its message, lines and output are in "
        ".errors; what else the caller needs, the task can write into the message or return as its value."
    )
