"""Classes of errors that can be caught as what a task raised, of which only the names of its classes travel.

A failed task is raised as one of our errors. So that `except KeyError` catches it too, a class is made that is ours and
KeyError. The names come from a worker: nothing is unpickled or imported because of them, and no code of theirs runs.
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


def combined(
    ours: type[E], names: Iterable[str], never: tuple[type[Exception], ...] = ()
) -> type[E]:
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
    builtin = [
        one
        for one in kind.__mro__
        if one.__module__ == "builtins" and issubclass(one, BaseException)
    ]
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
    fields: dict[str, Any] = {
        name: inspect.getattr_static(ours, name) for name in dir(BaseException)
    }
    for name in ("__new__", "__class__", "__dict__", "__init_subclass__", "__subclasshook__"):
        fields.pop(name, None)
    fields |= dict.fromkeys(
        getattr(ours, "__annotations__", ())
    )  # else a property of theirs could take the place
    # Whoever holds an exception asks whether there is one, as futures do: one that is empty is still an error.
    fields |= {"__bool__": lambda self: True}
    fields |= {
        "__module__": ours.__module__,
        "__qualname__": ours.__qualname__,
        "__getattr__": _refuse,
    }
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
