"""Objects of the notebook's own process that a function uses, and those that take their place on a worker.

The shell of IPython cannot leave its process, but `get_ipython`, `!command` and `display` stand in many functions. The
arm of notebooks knows what is of the shell, that of workers what they have instead; both are found by name.
"""

from __future__ import annotations

import ast
import builtins
import copyreg
import functools
import pickle
import re
import string
import sys
from collections.abc import Callable, Iterator
from types import FunctionType, MethodType
from typing import Any, NoReturn

from dagnb import registry
from dagnb.graph.pickling.code import names_and_texts

SHELL_CALLS = frozenset({"system", "getoutput", "run_line_magic", "run_cell_magic"})
"""methods of the shell that IPython calls for `!command` and `%magic`"""

_DOLLAR = re.compile(r"\$(\w+)")
"""finds at least the names that the other one replaces, see `_DOLLAR` of dagnb_workers.surroundings.shell"""


_COPIES: dict[str, Callable[[Any], Any]] = {"lines": list, "text": str}
"""name of a stand-in that is made anew -> what it is made of"""


def stand_in(item: Any) -> tuple[Any, ...] | None:
    """Returns how workers make what they have in the place of this object of the shell; None for all else."""
    if name := name_of(item):
        made = registry.find("stand-in", name)
        return (made, (_COPIES[name](item),)) if name in _COPIES else (_itself, (made,))
    if type(item) is MethodType and name_of(item.__self__):
        return getattr, (item.__self__, item.__name__)
    return None


def name_of(item: Any) -> str:
    """The name of what takes the place of this object on a worker, '' where it is nothing of the shell."""
    if not _is_notebook():
        return ""
    found: str = _of_notebook("ipython")(item)
    return found


def plain_table() -> dict[Any, Any]:
    """The `dispatch_table` for a plain pickler: the shell is refused before all that it holds is tried."""
    if not _is_notebook():
        return copyreg.dispatch_table
    ours = {
        kind: _refuse if name == "shell" else stand_in
        for kind, name in _of_notebook("types")().items()
    }
    return {**copyreg.dispatch_table, **ours}


def _is_notebook() -> bool:
    """Returns whether there may be a shell of IPython in this process."""
    return "IPython.core.interactiveshell" in sys.modules


def _refuse(shell: object) -> NoReturn:
    raise pickle.PicklingError("the notebook's shell stays in its process")


@functools.cache
def _of_notebook(name: str) -> Callable[..., Any]:
    found: Callable[..., Any] = registry.find("notebook", name)
    return found


def _itself(thing: Any) -> Any:
    return thing


def with_names(function: FunctionType, reduced: tuple[Any, ...]) -> tuple[Any, ...]:
    """The reduction of a function, with the globals that its code does not show.

    IPython puts `display` and `get_ipython` among the builtins, and `!command` reads variables named within a string.
    """
    found = dict(_hidden(function))
    if not found:
        return reduced
    *parts, state, items, pairs, setter = reduced
    return (*parts, (setter, state, found), items, pairs, _set_with_names)


def _set_with_names(function: FunctionType, state: tuple[Any, Any, dict[str, Any]]) -> None:
    setter, inner, names = state
    setter(function, inner)
    for name, value in names.items():
        function.__globals__.setdefault(name, value)


def _hidden(function: FunctionType) -> Iterator[tuple[str, Any]]:
    space = function.__globals__
    names, texts = names_and_texts(function.__code__)
    for name in sorted(names - space.keys()):
        if name_of(getattr(builtins, name, None)):
            yield name, getattr(builtins, name)
    if "get_ipython" in names and names & SHELL_CALLS:
        expanded = {name for text in texts for name in _names_expanded(text)}
        for name in sorted(expanded & space.keys() - names):
            yield name, space[name]


def _names_expanded(text: str) -> Iterator[str]:
    """The names that IPython would look up for a command of this text: of `$name`, and in `{expression}`."""
    yield from _DOLLAR.findall(text)
    try:
        fields = [
            f"{field}:{rest}" if rest else field
            for _, field, rest, _ in string.Formatter().parse(text)
            if field
        ]
    except ValueError:  # a single brace: then IPython expands nothing
        return
    for field in fields:
        try:
            tree = ast.parse(field.strip(), mode="eval")
        except SyntaxError:
            continue
        yield from (node.id for node in ast.walk(tree) if isinstance(node, ast.Name))
