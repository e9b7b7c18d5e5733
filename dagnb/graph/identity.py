"""The lasting identity of a function: of its code, constants and names, recursively; equal in every kernel.

Bytes of a pickle differ between kernels (order of sets, hash seeds), so they identify a transport, not a function.
"""

from __future__ import annotations

import functools
import hashlib
import types
from collections.abc import Callable, Iterator
from typing import Any

_PLAIN = (int, float, complex, str, bytes, type(None), type(...))


def identity(function: Callable[..., Any]) -> str:
    """16 hex digits that change when the function's code, defaults, constants or called helpers change. O(code).

    Helpers from the same module or notebook count in, and what the function encloses; values of other globals do not.
    """
    digest = hashlib.sha256()
    seen: set[int] = set()
    waiting: list[Any] = [function]
    while waiting:
        waiting.extend(_feed(waiting.pop(), digest.update, seen))
    return digest.hexdigest()[:16]


def _feed(function: Any, put: Callable[[bytes], None], seen: set[int]) -> list[Any]:
    """Put one function. Returns the helpers it calls."""
    function = getattr(function, "__wrapped__", function)
    if isinstance(function, functools.partial):
        put(_told((function.args, function.keywords)).encode())
        return [function.func]
    code = getattr(function, "__code__", None)
    if not isinstance(code, types.CodeType):
        put(_name(function).encode())
        method = type(function).__call__  # of an object that is called like a function
        return [method] if isinstance(method, types.FunctionType) else []
    if id(code) in seen:
        return []
    seen.add(id(code))
    enclosed = dict(_enclosed(function, code))
    put(_told((_told_code(code), function.__defaults__, function.__kwdefaults__, enclosed)).encode())
    return [*_helpers(function, code), *(held for held in enclosed.values() if isinstance(held, types.FunctionType))]


def _helpers(function: Any, code: types.CodeType) -> Iterator[types.FunctionType]:
    for name in sorted(set(_names(code))):
        helper = getattr(function, "__globals__", {}).get(name)
        helper = getattr(helper, "__wrapped__", helper)
        if isinstance(helper, types.FunctionType) and helper.__module__ == function.__module__:
            yield helper


def _names(code: types.CodeType) -> Iterator[str]:
    """Names the code looks up, also within comprehensions, lambdas and inner functions."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _enclosed(function: Any, code: types.CodeType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(code.co_freevars, getattr(function, "__closure__", None) or (), strict=False):
        try:
            held = cell.cell_contents
        except ValueError:  # not filled yet: a function that encloses what is defined after it
            continue
        yield name, getattr(held, "__wrapped__", held)


def _told_code(code: types.CodeType) -> str:
    """The code without its place: no file, no line numbers."""
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_argcount, code.co_kwonlyargcount)
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
