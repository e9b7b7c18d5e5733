"""The lasting identity of a function: of its code, constants and names, recursively; equal in every kernel.

Bytes of a pickle differ between kernels (order of sets, hash seeds), so they identify a transport, not a function.
"""

from __future__ import annotations

import hashlib
import types
from collections.abc import Callable
from typing import Any

_DEPTH = 8


def identity(function: Callable[..., Any]) -> str:
    """16 hex digits that change when the function's code, defaults, constants or called helpers change. O(code).

    Helpers from the same module or notebook count in; values of other globals do not.
    """
    digest = hashlib.sha256()
    _feed(function, digest.update, set(), 0)
    return digest.hexdigest()[:16]


def _feed(function: Any, put: Callable[[bytes], None], seen: set[int], depth: int) -> None:
    function = getattr(function, "__wrapped__", function)
    code = getattr(function, "__code__", None)
    if not isinstance(code, types.CodeType):
        name = getattr(function, "__qualname__", type(function).__name__)
        put(f"{getattr(function, '__module__', '')}.{name}".encode())
        return
    if id(code) in seen or depth > _DEPTH:
        return
    seen.add(id(code))
    _feed_code(code, put)
    put(repr(getattr(function, "__defaults__", None)).encode())
    for name in sorted(code.co_names):
        helper = getattr(function, "__globals__", {}).get(name)
        helper = getattr(helper, "__wrapped__", helper)
        if isinstance(helper, types.FunctionType) and helper.__module__ == function.__module__:
            put(name.encode())
            _feed(helper, put, seen, depth + 1)


def _feed_code(code: types.CodeType, put: Callable[[bytes], None]) -> None:
    put(code.co_code)
    put(repr((code.co_names, code.co_varnames, code.co_freevars, code.co_argcount, code.co_kwonlyargcount)).encode())
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            _feed_code(constant, put)
        elif isinstance(constant, frozenset):
            put(repr(sorted(map(repr, constant))).encode())
        else:
            put(repr(constant).encode())
