"""Objects of the notebook's own process, and those that replace them on a worker.

The shell of IPython cannot be pickled, but many functions use `get_ipython`, `!command` and
`display`. The notebook package recognises objects of the shell, and the worker package has what
replaces them; both are found by name.
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

# Finds at least the names that `_DOLLAR` of dagnb_workers.surroundings.shell replaces.
_DOLLAR = re.compile(r"\$(\w+)")

# name of a stand-in that holds data -> how to take the data from the original.
_COPIES: dict[str, Callable[[Any], Any]] = {"lines": list, "text": str}


def stand_in(item: Any) -> tuple[Any, ...] | None:
    """Returns the reduction that makes the stand-in for an object of the shell, or None."""
    if name := name_of(item):
        replacement = registry.find("stand-in", name)
        if name in _COPIES:
            return replacement, (_COPIES[name](item),)
        return _itself, (replacement,)
    # `run = get_ipython().system`, kept in a global
    if type(item) is MethodType and name_of(item.__self__):
        return getattr, (item.__self__, item.__name__)
    return None


def name_of(item: Any) -> str:
    """Returns the name of the stand-in for an object, '' where it is nothing of the shell."""
    if not _is_notebook():  # the common case of scripts and workers, which have no such arm
        return ""
    name: str = _of_notebook("ipython")(item)
    return name


def plain_table() -> dict[Any, Any]:
    """Returns the `dispatch_table` of a plain pickler, with the types of the shell.

    The shell itself is refused, so that the pickler does not first try all that it holds; pickling
    by value then replaces it.
    """
    if not _is_notebook():
        return copyreg.dispatch_table
    table: dict[Any, Any] = dict(copyreg.dispatch_table)
    for kind, name in _of_notebook("types")().items():
        table[kind] = _refuse if name == "shell" else stand_in
    return table


def _is_notebook() -> bool:
    """Returns whether there may be a shell of IPython in this process."""
    return "IPython.core.interactiveshell" in sys.modules


def _refuse(shell: object) -> NoReturn:
    raise pickle.PicklingError("the notebook's shell stays in its process")


@functools.cache
def _of_notebook(name: str) -> Callable[..., Any]:
    hook: Callable[..., Any] = registry.find("notebook", name)
    return hook


# Pickles name this function and _set_with_names, so their names stay.
def _itself(thing: Any) -> Any:
    return thing


def with_names(function: FunctionType, reduced: tuple[Any, ...]) -> tuple[Any, ...]:
    """Add to the reduction of a function the globals that its code does not name.

    IPython puts `display` and `get_ipython` among the builtins, and `!command` reads variables that
    are named within a string.
    """
    hidden = dict(_hidden(function))
    if not hidden:
        return reduced
    *parts, state, items, pairs, setter = reduced
    return (*parts, (setter, state, hidden), items, pairs, _set_with_names)


def _set_with_names(function: FunctionType, state: tuple[Any, Any, dict[str, Any]]) -> None:
    setter, inner, names = state
    setter(function, inner)
    for name, value in names.items():
        # Functions of one module share their globals: what is there already is newer.
        function.__globals__.setdefault(name, value)


def _hidden(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Yields globals and builtins of the shell that a function uses without naming globals."""
    space = function.__globals__
    names, texts = names_and_texts(function.__code__)
    for name in sorted(names - space.keys()):
        if name_of(getattr(builtins, name, None)):
            yield name, getattr(builtins, name)
    if "get_ipython" in names and names & SHELL_CALLS:
        expanded: set[str] = set()
        for text in texts:
            expanded.update(_names_expanded(text))
        for name in sorted(expanded & space.keys() - names):
            yield name, space[name]


def _names_expanded(text: str) -> Iterator[str]:
    """Yields the names that IPython looks up for a command: `$name`, and in `{expression}`."""
    yield from _DOLLAR.findall(text)
    try:
        fields = list(string.Formatter().parse(text))
    except ValueError:  # a single brace: then IPython expands nothing
        return
    for _, expression, after_colon, _ in fields:
        if not expression:
            continue
        if after_colon:  # `{rows[1:]}` has no format: the colon is part of the expression
            expression = f"{expression}:{after_colon}"
        try:
            tree = ast.parse(expression.strip(), mode="eval")
        except SyntaxError:
            continue
        yield from (node.id for node in ast.walk(tree) if isinstance(node, ast.Name))
