"""Objects of IPython's shell among the names of a notebook, and the names of their stand-ins.

These objects cannot be pickled, but a task may refer to them, as `display` or `get_ipython()`.
Workers have stand-ins instead. Objects are recognised by identity or exact class, not by name: a
user's own `display` is not replaced.
"""

from __future__ import annotations

from types import FunctionType, MethodType

from IPython.core import getipython, interactiveshell
from IPython.core.autocall import ExitAutocall
from IPython.core.display_functions import display
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.text import LSString, SList

_FUNCTIONS: dict[object, str] = {
    display: "display",
    getipython.get_ipython: "imported_get_ipython",
    # The `open` of a notebook, which guards the standard streams; older releases have none.
    getattr(interactiveshell, "_modified_open", None): "open",
}


_OUTPUTS: dict[type, str] = {SList: "lines", LSString: "text"}
"""classes of the value of `x = !command`"""


def types() -> dict[type, str]:
    """Exact class -> name of its stand-in, for classes that plain pickle would take by value."""
    shell = InteractiveShell
    if InteractiveShell.initialized():  # `instance()` would create one
        shell = type(InteractiveShell.instance())
    return {shell: "shell", **_OUTPUTS}


def stand_in_name(item: object) -> str:
    """The name of an object's stand-in on workers; '' for objects that are not the shell's."""
    kind = type(item)
    if kind is FunctionType:
        return _FUNCTIONS.get(item, "")
    if isinstance(item, MethodType):
        return "get_ipython" if item.__func__ is InteractiveShell.get_ipython else ""
    if kind in _OUTPUTS:
        return _OUTPUTS[kind]
    if issubclass(kind, InteractiveShell):
        return "shell"
    if issubclass(kind, ExitAutocall):
        return "exit"
    return ""
