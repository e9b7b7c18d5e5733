"""The lasting identity of a function: of its code, constants and names, recursively; equal in every kernel.

Bytes of a pickle differ between kernels (order of sets, hash seeds), so they identify a transport, not a function.
"""

from __future__ import annotations

import functools
import hashlib
import types
from collections.abc import Callable, Iterator
from typing import Any

from dagnb.graph.pickling.code import names_and_texts
from dagnb.graph.pickling.reduction import is_generic

_PLAIN = (int, float, complex, str, bytes, type(None), type(...))


def identity(function: Callable[..., Any]) -> str:
    """16 hex digits that change when the function's code, defaults, constants or called helpers change. O(code).

    Helpers from the same module or notebook count in, and what the function encloses; values of other globals do not.
    """
    digest = hashlib.sha256()
    seen: dict[int, Any] = {}  # the functions themselves, so that no other takes the id of one
    waiting: list[Any] = [function]
    while waiting:
        waiting.extend(_feed(waiting.pop(), digest.update, seen))
    return digest.hexdigest()[:16]


def _feed(function: Any, put: Callable[[bytes], None], seen: dict[int, Any]) -> list[Any]:
    """Put one function. Returns the helpers it calls."""
    if id(function) in seen:
        return []
    seen[id(function)] = function
    behind = _behind(function)
    if behind and not _is_own_wrapper(function, behind[0]):
        return behind
    if isinstance(function, functools.partial):
        put(_told((function.args, function.keywords)).encode())
        return [function.func]
    code = getattr(function, "__code__", None)
    if not isinstance(code, types.CodeType):
        put(_name(function).encode())
        method = type(function).__call__  # of an object that is called like a function
        return [method] if isinstance(method, types.FunctionType) else []
    enclosed = dict(_enclosed(function, code))
    put(
        _told((_told_code(code), function.__defaults__, function.__kwdefaults__, enclosed)).encode()
    )
    return [
        *_helpers(function, code),
        *(held for held in enclosed.values() if _is_function(held)),
        *behind,
    ]


def _behind(thing: Any) -> list[Any]:
    """The functions for which a decorated function stands: cached, generic, wrapped, of a task, of a property."""
    if is_generic(thing):
        return [thing.registry[kind] for kind in sorted(thing.registry, key=_name)]
    if isinstance(thing, property):
        return [part for part in (thing.fget, thing.fset, thing.fdel) if part is not None]
    if isinstance(thing, functools.cached_property | functools.partialmethod):
        return [thing.func]
    if isinstance(thing, functools.singledispatchmethod):
        return [thing.dispatcher]
    wrapped = getattr(thing, "__wrapped__", None)  # of class methods and static methods, too
    return [] if wrapped is None else [wrapped]


def _is_own_wrapper(function: Any, wrapped: Any) -> bool:
    """Returns whether the wrapper was written beside what it wraps: then its code counts. A library's does not."""
    if not isinstance(function, types.FunctionType) or is_generic(function):
        return False
    return function.__globals__.get("__name__") == getattr(wrapped, "__module__", None)


def _is_function(thing: Any) -> bool:
    return isinstance(thing, types.FunctionType) or bool(_behind(thing))


def _helpers(function: Any, code: types.CodeType) -> Iterator[Any]:
    """The functions of its own module that a function uses, decorated or not, and those of classes."""
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
    for name, cell in zip(
        code.co_freevars, getattr(function, "__closure__", None) or (), strict=False
    ):
        try:
            held = cell.cell_contents
        except ValueError:  # not filled yet: a function that encloses what is defined after it
            continue
        yield name, held


def _told_code(code: types.CodeType) -> str:
    """The code without its place: no file, no line numbers."""
    names = (
        code.co_names,
        code.co_varnames,
        code.co_freevars,
        code.co_argcount,
        code.co_kwonlyargcount,
    )
    return repr((code.co_code, code.co_exceptiontable, names, _told(code.co_consts)))


def _told(value: object) -> str:
    """Text of a constant: equal in every kernel, whatever the order of its sets; of other objects their type alone."""
    if isinstance(value, types.CodeType):
        return _told_code(value)
    if type(value) is bool or isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, set | frozenset):
        return f"{{{','.join(sorted(map(_told, value)))}}}"
    if isinstance(value, tuple | list):
        return f"[{','.join(map(_told, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{_told(key)}:{_told(held)}' for key, held in value.items())}}}"
    return _name(value)


def _name(thing: object) -> str:
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{getattr(named, '__module__', '')}.{named.__qualname__}"
