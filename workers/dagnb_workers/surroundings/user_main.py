"""`__main__` as tasks see it: names of the notebook or script, as the running function sees them.

Functions and classes of `__main__` are sent to a worker by value. But if a task starts processes of
its own, pickle refers to them by name. There are three kinds of process:

    worker                       sys.modules["__main__"] is a UserMain: pickle finds the objects
    process that a task forked   inherits it
    process that a task started  has no notebook: multiprocessing runs this file as its main module,
      anew ("spawn")             where every name gives a stand-in

A stand-in can be unpickled, but its use raises an error with the cure. Without stand-ins such a
process would end while it unpickles its work, and a pool would start new ones for ever.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import FunctionType, ModuleType
from typing import Any, NoReturn

from dagnb.errors import GraphError

Call = tuple[tuple[Any, ...], dict[str, Any]]
"""positional and keyword arguments"""

_NEW_PROCESS = "__mp_main__"
"""name under which multiprocessing runs the main module in a process that it started anew"""


class UserMain(ModuleType):
    """The main module of a worker. It has no file; by its spec a new process finds this file."""

    # Slots keep these out of the module's own dictionary, which is the user's.
    __slots__ = ("_function", "_given", "_n_own", "_shown")

    def __init__(self) -> None:
        super().__init__("__main__")
        self.__spec__ = ModuleSpec(__name__, None)
        self._function: Callable[..., Any] | None = None
        self._shown: dict[str, Any] = {}
        self._given: list[FunctionType] = []
        self._n_own = len(vars(self))

    def show(self, function: Callable[..., Any], call: Call) -> None:
        """Show the names of this function's module; forget names that an earlier task set."""
        if function is not self._function:
            self._function, self._shown = function, _globals(function)
        # No other arguments: large ones must be freed when the task ends, not when the next begins.
        given = (*call[0], *call[1].values())
        self._given = [value for value in given if isinstance(value, FunctionType)]

        own = vars(self)
        if len(own) > self._n_own:
            for name in list(own):
                if not name.startswith("__"):
                    del own[name]

    def __getattr__(self, name: str) -> Any:
        """Returns a name of the function's module, or a function or class that came by value."""
        if not name.startswith("__"):
            if name in self._shown:
                return self._shown[name]
            items: list[Any] = [*self._given, *_classes_of_main()]
            # The latest definition wins, as it does in a notebook whose cell was run again.
            for item in reversed(items):
                if item.__module__ == "__main__" and item.__qualname__ == name:
                    return item
        raise AttributeError(f"module '__main__' has no attribute {name!r}")


def install() -> UserMain:
    """Make a UserMain the main module of this process."""
    sys.modules["__main__"] = main = UserMain()
    return main


def _globals(function: Callable[..., Any]) -> dict[str, Any]:
    """Returns the globals of a function, also of one in a decorator, a partial or an object."""
    try:
        while isinstance(function, functools.partial):
            function = function.func

        inside = inspect.unwrap(function)
        names = getattr(inside, "__globals__", None)
        if not names:
            names = getattr(type(inside).__call__, "__globals__", None)
    except Exception:  # noqa: BLE001  # a class of the user's may raise anything
        return {}
    return names if isinstance(names, dict) else {}


def _classes_of_main() -> list[type]:
    """Returns the classes of the notebook or script, older ones first.

    They include classes that came with a value and have no name in the function's module.
    """
    of_main: list[type] = []
    pending: list[type] = [object]
    seen = set(pending)
    while pending:
        subclasses: list[type] = type.__subclasses__(pending.pop())
        for each in subclasses:
            if each in seen:  # it has several bases
                continue
            seen.add(each)
            pending.append(each)
            if each.__module__ == "__main__":
                of_main.append(each)
    return of_main


# ---- in a process that a task started anew ----


def __getattr__(name: str) -> Any:
    """Returns a stand-in for the name, where this file is the main module."""
    if __name__ != _NEW_PROCESS or name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    refusals = dict.fromkeys(_USES, _refuse)
    return _Absent(name, (), {**refusals, **_READING, "__getattr__": _refuse_attribute})


class _Absent(type):
    """The stand-in for a class or function of the notebook: it can be unpickled, but not used."""

    def __call__(cls, *args: object, **kwargs: object) -> Any:
        """Refuse the call, unless unpickling makes an object."""
        if sys._getframe(1).f_globals.get("__name__") in _READERS:
            return _made(cls)
        raise _error(cls.__name__)

    def __getattr__(cls, name: str) -> NoReturn:
        """Refuse, see _refuse_attribute."""
        _refuse_attribute(cls, name)


_READERS = {
    "multiprocessing.connection",
    "multiprocessing.queues",
    "multiprocessing.spawn",
    "pickle",
}
"""modules that unpickle: an error in them would end the process, and a pool would start another"""

_USES = (
    "__str__",
    "__repr__",
    "__eq__",
    "__hash__",
    "__bool__",
    "__len__",
    "__iter__",
    "__getitem__",
)
"""some special methods, which Python looks up on the class, not by `__getattr__`"""


def _made(cls: type, *args: object, **kwargs: object) -> object:
    return object.__new__(cls)


def _ignore(instance: object, *args: object) -> None:
    """Drop what unpickling puts into the object."""


_READING = {
    "__new__": _made,
    "__setstate__": _ignore,
    "__setitem__": _ignore,
    "append": _ignore,
    "extend": _ignore,
}
"""the methods by which unpickling makes and fills an object"""


def _refuse(instance: object, *args: object) -> NoReturn:
    raise _error(type(instance).__name__)


def _refuse_attribute(item: object, name: str) -> NoReturn:
    """Refuse the attribute, but let Python look for special methods, as unpickling does."""
    if name.startswith("__"):
        raise AttributeError(name)
    raise _error((item if isinstance(item, type) else type(item)).__name__)


def _error(name: str) -> GraphError:
    return GraphError(
        f"'{name}' is a name of the notebook or script, and a process that is started by 'spawn' "
        "or 'forkserver' has neither. Take multiprocessing.get_context('fork') in the task, or put "
        "it into a module that can be imported."
    )
