"""What belongs to IPython's own shell among the names of a notebook: it cannot leave the process."""

from __future__ import annotations

from types import FunctionType, MethodType

from IPython.core import getipython, interactiveshell
from IPython.core.autocall import ExitAutocall
from IPython.core.display_functions import display
from IPython.core.interactiveshell import InteractiveShell

_FUNCTIONS: dict[object, str] = {
    display: "display",
    getipython.get_ipython: "imported_get_ipython",
    # The `open` of a notebook, which guards the standard streams; older releases have none.
    getattr(interactiveshell, "_modified_open", None): "open",
}


def shell_type() -> type:
    """The class of this process's shell; the common one where there is none."""
    return type(InteractiveShell.instance()) if InteractiveShell.initialized() else InteractiveShell


def stand_in_name(item: object) -> str:
    """The name under which workers have something in the place of this object; '' for what is nothing of the shell."""
    kind = type(item)
    if kind is FunctionType:
        return _FUNCTIONS.get(item, "")
    if isinstance(item, MethodType):
        return "get_ipython" if item.__func__ is InteractiveShell.get_ipython else ""
    if issubclass(kind, InteractiveShell):
        return "shell"
    return "exit" if issubclass(kind, ExitAutocall) else ""
