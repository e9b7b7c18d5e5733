"""`__main__` as tasks see it: the notebook's or script's own names, those of the function that is running.

Functions and classes of `__main__` travel to a worker by value, but pickle, in a task that starts processes of its own,
writes them down by name. With this module in the place of `__main__` it finds the very same objects, and so do
processes that the task forks. A process that is started anew has no notebook: multiprocessing has it run this file as
its main module, where all names stand for what is not there, so that using one says so. Without that it would end while
it reads what it is to do, and a pool would start such processes for ever.
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
from dagnb_workers.worker.watch import Call

_NEW_PROCESS = "__mp_main__"
"""the name under which multiprocessing runs the main module in a process that it started anew"""


class UserMain(ModuleType):
    """The module of a worker. It has no file; its spec is how a new process finds this one."""

    __slots__ = (
        "_given",
        "_n_own",
        "_shown",
    )  # not in the module's own dictionary, which is the user's

    def __init__(self) -> None:
        super().__init__("__main__")
        self.__spec__ = ModuleSpec(__name__, None)
        self._shown: dict[str, Any] = {}
        self._given: list[Any] = []
        self._n_own = len(vars(self))

    def show(self, function: Callable[..., Any], call: Call) -> None:
        """Have the names of this function's module from now on, and forget what was set here before."""
        self._shown, self._given = _globals(function), [*call[0], *call[1].values()]
        own = vars(self)
        if len(own) > self._n_own:
            for name in [name for name in own if not name.startswith("__")]:
                del own[name]

    def __getattr__(self, name: str) -> Any:
        """The name in the module of the running function, or of a function or class that came as a value."""
        if not name.startswith("__"):
            if name in self._shown:
                return self._shown[name]
            found = [
                value for value in self._given if isinstance(value, FunctionType)
            ] + _classes_of_main()
            for item in reversed(found):
                if item.__module__ == "__main__" and item.__qualname__ == name:
                    return item
        raise AttributeError(f"module '__main__' has no attribute {name!r}")


def install() -> UserMain:
    """Become the main module of this process."""
    sys.modules["__main__"] = made = UserMain()
    return made


def _globals(function: Callable[..., Any]) -> dict[str, Any]:
    """Those of the function inside: of a decorated one, a method, a partial, an object that can be called."""
    try:
        while isinstance(function, functools.partial):
            function = function.func
        inside = inspect.unwrap(function)
        found = getattr(inside, "__globals__", None) or getattr(
            type(inside).__call__, "__globals__", None
        )
    except Exception:  # noqa: BLE001  # an object of the user's own class may raise anything when it is asked
        found = None
    return found if isinstance(found, dict) else {}


def _classes_of_main() -> list[type]:
    """Classes of the notebook or script. One that came with a value may be no name of the function's module."""
    found: list[type] = []
    waiting: list[type] = [object]
    seen = set(waiting)
    while waiting:
        below: list[type] = type.__subclasses__(waiting.pop())
        new = [one for one in below if one not in seen]
        seen.update(new)
        waiting += new
        found += [one for one in new if one.__module__ == "__main__"]
    return found


def __getattr__(name: str) -> Any:
    """In a process that a task started anew: something in the place of the name."""
    if __name__ != _NEW_PROCESS or name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _Absent(
        name, (), {**dict.fromkeys(_USES, _refuse), **_READING, "__getattr__": _refuse_attribute}
    )


class _Absent(type):
    """A class in the place of a function or class of the notebook. It can be read from a pickle, and not be used."""

    def __call__(cls, *args: object, **kwargs: object) -> Any:
        """Say that it is not there, unless it is a pickle that makes an object."""
        if sys._getframe(1).f_globals.get("__name__") in _READERS:
            return _made(cls)
        raise _error(cls.__name__)

    def __getattr__(cls, name: str) -> NoReturn:
        """Refuses, see _refuse_attribute."""
        _refuse_attribute(cls, name)


_READERS = {
    "multiprocessing.connection",
    "multiprocessing.queues",
    "multiprocessing.spawn",
    "pickle",
}
"""Where an error would end the process: a pool would then start the next one, for ever"""

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
"""A few of the ways to use an object for which it is not asked for an attribute"""


def _made(cls: type, *args: object, **kwargs: object) -> object:
    return object.__new__(cls)


def _taken(instance: object, *args: object) -> None:
    """Whatever the object is filled with."""


_READING = {
    "__new__": _made,
    "__setstate__": _taken,
    "__setitem__": _taken,
    "append": _taken,
    "extend": _taken,
}
"""By what a pickle makes and fills an object"""


def _refuse(instance: object, *args: object) -> NoReturn:
    raise _error(type(instance).__name__)


def _refuse_attribute(item: object, name: str) -> NoReturn:
    """Say that it is not there, unless it is Python that asks, as while it reads a pickle."""
    if name.startswith("__"):
        raise AttributeError(name)
    raise _error((item if isinstance(item, type) else type(item)).__name__)


def _error(name: str) -> GraphError:
    return GraphError(
        f"'{name}' is a name of the notebook or script, and a process that is started by 'spawn' or 'forkserver' has "
        "neither. Take multiprocessing.get_context('fork') in the task, or put it into a module that can be imported."
    )
