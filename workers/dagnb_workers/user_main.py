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
from types import ModuleType
from typing import Any, NoReturn

from dagnb.errors import GraphError

_NEW_PROCESS = "__mp_main__"
"""the name under which multiprocessing runs the main module in a process that it started anew"""


class UserMain(ModuleType):
    """The module of a worker. It has no file; its spec is how a new process finds this one."""

    def __init__(self) -> None:
        super().__init__("__main__")
        self.__spec__ = ModuleSpec("dagnb_workers.user_main", None)

    def __getattr__(self, name: str) -> Any:
        """The name in the module of the running function."""
        if not name.startswith("__"):
            names = _names[-1] if _names else {}
            if name in names:
                return names[name]
        raise AttributeError(f"module '__main__' has no attribute {name!r}")


_names: list[dict[str, Any]] = []
"""of the running function; here and not in the module, whose own attributes are for the user's"""


def install() -> None:
    """Become the main module of this process."""
    sys.modules["__main__"] = UserMain()


def show(function: Callable[..., Any]) -> None:
    """Let `__main__` have the names of this function's module, and forget what was set there before."""
    _names[:] = [_globals(function)]
    own = vars(sys.modules["__main__"])
    if len(own) > _N_OWN:
        for name in [name for name in own if not name.startswith("__")]:
            del own[name]


_N_OWN = len(vars(UserMain()))


def _globals(function: Callable[..., Any]) -> dict[str, Any]:
    """Those of the function inside: of a decorated one, a method, a partial, an object that can be called."""
    try:
        while isinstance(function, functools.partial):
            function = function.func
        inside = inspect.unwrap(function)
        found = getattr(inside, "__globals__", None) or getattr(type(inside).__call__, "__globals__", None)
    except Exception:  # noqa: BLE001  # an object of the user's own class may raise anything when it is asked
        found = None
    return found if isinstance(found, dict) else {}


def __getattr__(name: str) -> Any:
    """In a process that a task started anew: something in the place of the name."""
    if __name__ != _NEW_PROCESS or name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _Absent(name, (), {})


class _Absent(type):
    """A class in the place of a function or class of the notebook. It can be read from a pickle, and not be used."""

    def __call__(cls, *args: object, **kwargs: object) -> NoReturn:
        """Say that it is not there."""
        raise _error(cls.__name__)

    def __getattr__(cls, name: str) -> NoReturn:
        """Say that it is not there, unless Python itself asks."""
        if name.startswith("__"):
            raise AttributeError(name)
        raise _error(cls.__name__)


def _error(name: str) -> GraphError:
    return GraphError(
        f"'{name}' is a name of the notebook or script, and a process that is started by 'spawn' or 'forkserver' has "
        "neither. Take multiprocessing.get_context('fork') in the task, or put it into a module that can be imported."
    )
