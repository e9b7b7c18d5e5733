"""Exception classes of dagnb's and of the user's at once: `except KeyError` catches a failed task.

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
import sys
from abc import ABCMeta
from collections.abc import Iterable
from types import ModuleType
from typing import Any, TypeVar, cast
from weakref import WeakValueDictionary

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
