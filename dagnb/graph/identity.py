"""The lasting identity of a function: a hash of its code, constants and names, with its helpers.

The hash is equal in every kernel, so that the history recognises a function. Bytes of a pickle
differ
between kernels (order of sets, hash seeds), so they identify content that is stored, not a
function.

A change of the texts hashed here makes every function of every history unknown.
"""

from __future__ import annotations

import functools
import hashlib
import types
from collections.abc import Callable, Iterator
from typing import Any, cast

from dagnb.graph.pickling.code import names_and_texts
from dagnb.graph.pickling.reduction import is_generic

# Functions that are hashed: an object may make up another one whenever it is asked.
_MOST_FUNCTIONS = 10_000

# Parts of the constants, defaults and enclosed values of one function that are hashed.
_MOST_PARTS = 100_000

_PLAIN = (int, float, complex, str, bytes, type(None), type(...))
_CONTAINERS = (dict, list, tuple, set, frozenset)


def identity(function: Callable[..., Any]) -> str:
    """Returns 16 hex digits that change with the function's code, defaults, constants or helpers.

    Helpers are functions of the same module or notebook that it calls, and what it encloses; values
    of other globals do not count. O(code).
    """
    digest = hashlib.sha256()
    seen: dict[int, Any] = {}  # keeps the functions alive, so that no id is used twice
    waiting: list[Any] = [function]
    while waiting and len(seen) < _MOST_FUNCTIONS:
        part = waiting.pop()
        try:
            waiting.extend(_feed(part, digest.update, seen))
        # It may hold objects whose attributes raise. The hash serves predictions: a run goes on.
        except Exception:  # noqa: BLE001  # as above
            digest.update(type(part).__name__.encode())
    return digest.hexdigest()[:16]


def _feed(function: Any, put: Callable[[bytes], None], seen: dict[int, Any]) -> list[Any]:
    """Hash one function. Returns the helpers it calls, which are hashed after it."""
    if id(function) in seen:  # a recursion, or two callers of one helper
        return []
    seen[id(function)] = function

    wrapped_functions = _wrapped_functions(function)
    if wrapped_functions and not _is_own_wrapper(function, wrapped_functions[0]):
        return wrapped_functions
    if isinstance(function, functools.partial):
        put(_text((function.args, function.keywords)).encode())
        return [function.func]

    code = getattr(function, "__code__", None)
    if not isinstance(code, types.CodeType):
        put(_name(function).encode())
        method = type(function).__call__  # of an object that is called like a function
        return [method] if isinstance(method, types.FunctionType) else []

    enclosed = dict(_enclosed(function, code))
    parts = (
        _code_text(code),
        function.__defaults__,
        function.__kwdefaults__,
        enclosed,
    )
    put(_text(parts).encode())
    enclosed_functions = [held for held in enclosed.values() if _is_function(held)]
    return [*_helpers(function, code), *enclosed_functions, *wrapped_functions]


def _wrapped_functions(thing: Any) -> list[Any]:
    """Returns the functions inside a decorated one: cached, generic, wrapped, or a task."""
    if is_generic(thing):
        # Sorted: the registry is in the order of registration, which changes when cells run again.
        return [thing.registry[kind] for kind in sorted(thing.registry, key=_name)]
    if isinstance(thing, property):
        return [part for part in (thing.fget, thing.fset, thing.fdel) if part is not None]
    if isinstance(thing, functools.cached_property | functools.partialmethod):
        return [thing.func]
    if isinstance(thing, functools.singledispatchmethod):
        return [thing.dispatcher]
    wrapped = _wrapped(thing)  # of class methods and static methods, too
    return [] if wrapped is None else [wrapped]


def _wrapped(thing: Any) -> Any:
    """Returns the attribute `__wrapped__`; None where an object has none, or would make it up."""
    try:
        attributes = object.__getattribute__(thing, "__dict__")
    except AttributeError:  # it has slots
        attributes = {}
    if "__wrapped__" not in attributes and not hasattr(type(thing), "__wrapped__"):
        return None
    try:
        return getattr(thing, "__wrapped__", None)
    except Exception:  # noqa: BLE001  # a property of the user's; hashes must not stop a run
        return None


def _is_own_wrapper(function: Any, wrapped: Any) -> bool:
    """Returns whether a wrapper has the module of what it wraps: then its code counts, too.

    The code of a library's wrapper, such as one of functools, does not.
    """
    if not isinstance(function, types.FunctionType) or is_generic(function):
        return False
    return function.__globals__.get("__name__") == getattr(wrapped, "__module__", None)


def _is_function(thing: Any) -> bool:
    return isinstance(thing, types.FunctionType) or bool(_wrapped_functions(thing))


def _helpers(function: Any, code: types.CodeType) -> Iterator[Any]:
    """Yields the functions of its own module that a function uses, and those of classes there."""
    names, _ = names_and_texts(code)
    for name in sorted(names):
        helper = getattr(function, "__globals__", {}).get(name)
        if getattr(helper, "__module__", None) != function.__module__:
            continue
        if isinstance(helper, type):
            yield from (held for _, held in sorted(vars(helper).items()) if _is_function(held))
        elif _is_function(helper):
            yield helper


def _enclosed(function: Any, code: types.CodeType) -> Iterator[tuple[str, Any]]:
    cells = getattr(function, "__closure__", None) or ()
    # Not strict: a callable object may carry code without the cells that belong to it.
    for name, cell in zip(code.co_freevars, cells, strict=False):
        try:
            held = cell.cell_contents
        except ValueError:  # not filled yet: a function that encloses what is defined after it
            continue
        yield name, held


def _code_text(code: types.CodeType) -> str:
    """Returns the text of code without file and lines, so that moving a cell changes nothing."""
    names = (
        code.co_names,
        code.co_varnames,
        code.co_freevars,
        code.co_argcount,
        code.co_kwonlyargcount,
    )
    return repr((code.co_code, code.co_exceptiontable, names, _text(code.co_consts)))


def _text(value: object) -> str:
    """Returns the text of a constant, equal in every kernel; the type's name of other objects."""
    return _Text().of(value)


class _Text:
    """Writes the text of one value: _MOST_PARTS parts at most, and no container within itself.

    Containers of classes of the user's are read by the methods of the built-in type.
    """

    def __init__(self) -> None:
        self._n_left = _MOST_PARTS
        self._around: set[int] = set()

    def of(self, value: object) -> str:
        """Returns the text of a part."""
        self._n_left -= 1
        kind = type(value)
        if kind is types.CodeType:
            return _code_text(cast("types.CodeType", value))
        if kind is bool or issubclass(kind, _PLAIN):
            return repr(value)
        if not issubclass(kind, _CONTAINERS):
            return _name(value)
        if self._n_left < 0 or id(value) in self._around:
            return kind.__name__

        self._around.add(id(value))
        text = self._of_container(value, kind)
        self._around.discard(id(value))
        return text

    def _of_container(self, value: Any, kind: type) -> str:
        base: Any = next(base for base in _CONTAINERS if issubclass(kind, base))
        if base is dict:
            items = []
            for key, held in dict.items(value):
                items.append(f"{self.of(key)}:{self.of(held)}")
            return f"{{{','.join(items)}}}"
        texts = list(map(self.of, base.__iter__(value)))
        if base in (set, frozenset):  # in an order of its own in every process
            return f"{{{','.join(sorted(texts))}}}"
        return f"[{','.join(texts)}]"


def _name(thing: object) -> str:
    """Returns the full name of a function or class; of another object that of its type."""
    try:
        name, module = thing.__qualname__, getattr(thing, "__module__", "")  # type: ignore[attr-defined]  # most have none
    # Attributes may be code of the user's, which may raise, or give anything.
    except Exception:  # noqa: BLE001  # as above
        name = None
    if not isinstance(name, str):
        name, module = type(thing).__qualname__, type(thing).__module__
    return f"{module}.{name}"
