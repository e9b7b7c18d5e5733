"""Objects of IPython's shell among the names of a notebook: they cannot leave the process."""

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
"""what `x = !command` gives"""


def types() -> dict[type, str]:
    """The exact classes of which objects are replaced, as far as plain pickle must know them: class -> name."""
    shell = (
        type(InteractiveShell.instance()) if InteractiveShell.initialized() else InteractiveShell
    )
    return {shell: "shell", **_OUTPUTS}


def stand_in_name(item: object) -> str:
    """The name under which workers have something in the place of this object; '' for what is nothing of the shell."""
    kind = type(item)
    if kind is FunctionType:
        return _FUNCTIONS.get(item, "")
    if isinstance(item, MethodType):
        return "get_ipython" if item.__func__ is InteractiveShell.get_ipython else ""
    if kind in _OUTPUTS:
        return _OUTPUTS[kind]
    if issubclass(kind, InteractiveShell):
        return "shell"
    return "exit" if issubclass(kind, ExitAutocall) else ""
