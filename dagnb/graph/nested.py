"""The only walk over nested arguments: list, tuple, set, frozenset, dict and dataclass, to any depth.

Everything else is a leaf. A container without a wanted leaf is returned as it is, not copied; one that holds a
wanted leaf is copied, so that changing the user's list later changes nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from dagnb.errors import GraphError

_PLAIN = frozenset({int, float, str, bytes, bool, type(None), complex, range, bytearray})


def leaves(value: object, kind: type) -> list[Any]:
    """The leaves of a kind, in reading order; a leaf in two places twice, a container in two places once. O(size).

    Raises GraphError when there are leaves, and a container holds itself: it could not be copied.
    """
    found: list[Any] = []
    loop: object = None
    inside: set[int] = set()
    seen: dict[int, object] = {}
    stack: list[tuple[object, bool]] = [(value, False)]
    while stack:
        item, leaving = stack.pop()
        if leaving:
            inside.discard(id(item))
            continue
        if isinstance(item, kind):
            found.append(item)
            continue
        if type(item) in _PLAIN:
            continue
        children = _children(item)
        if children is None:
            continue
        if id(item) in inside:
            loop = item
        if id(item) in seen:
            continue
        seen[id(item)] = item
        inside.add(id(item))
        stack.append((item, True))
        stack.extend((child, False) for child in reversed(children))
    if found and loop is not None:
        raise GraphError(
            f"a {type(loop).__name__} among the arguments holds itself, and a node is among them. "
            "Pass it without the loop."
        )
    return found


def rebuild(value: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """The value with each leaf of a kind replaced; containers without one are shared, those with one are copied.

    A container in two places is copied once and stands in both again. O(size).
    """
    try:
        return _rebuilt(value, kind, change, {})[0]
    except RecursionError:
        raise GraphError(
            "the arguments are nested too deep to copy. Flatten them to fewer than about 300 levels."
        ) from None


_Done = dict[int, tuple[Any, tuple[Any, bool]]]
"""id of a container -> the container, kept so that no other takes its id, and what became of it"""


def _rebuilt(value: Any, kind: type, change: Callable[[Any], Any], done: _Done) -> tuple[Any, bool]:
    """The new value, and whether a leaf of the kind was met."""
    if isinstance(value, kind):
        return change(value), True
    if type(value) in _PLAIN:
        return value, False
    if id(value) not in done:
        done[id(value)] = (value, _copied(value, kind, change, done))
    return done[id(value)][1]


def _copied(value: Any, kind: type, change: Callable[[Any], Any], done: _Done) -> tuple[Any, bool]:
    if isinstance(value, dict):
        pairs = [(_rebuilt(k, kind, change, done), _rebuilt(v, kind, change, done)) for k, v in value.items()]
        if not any(key[1] or held[1] for key, held in pairs):
            return value, False
        return _dict_like(value, [(key[0], held[0]) for key, held in pairs]), True
    if isinstance(value, list | tuple | set | frozenset):
        items = [_rebuilt(item, kind, change, done) for item in value]
        if not any(met for _, met in items):
            return value, False
        return _sequence_like(value, [item for item, _ in items]), True
    if is_dataclass(value) and not isinstance(value, type):
        return _dataclass_like(value, kind, change, done)
    return value, False


def _children(item: object) -> list[object] | None:
    if isinstance(item, dict):
        return [part for pair in item.items() for part in pair]
    if isinstance(item, list | tuple | set | frozenset):
        return list(item)
    if is_dataclass(item) and not isinstance(item, type):
        return list(_values(item))
    return None


def _values(item: Any) -> Iterator[object]:
    for field in fields(item):
        if hasattr(item, field.name):
            yield getattr(item, field.name)


def _dict_like(old: dict[Any, Any], pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    if type(old) is dict:
        return dict(pairs)
    new = copy.copy(old)
    new.clear()
    new.update(pairs)
    return new


def _sequence_like(old: Any, items: list[Any]) -> Any:
    if isinstance(old, tuple) and hasattr(old, "_fields"):
        return type(old)(*items)
    return type(old)(items)


def _dataclass_like(old: Any, kind: type, change: Callable[[Any], Any], done: _Done) -> tuple[Any, bool]:
    new = old
    for field in fields(old):
        if not hasattr(old, field.name):
            continue
        after, met = _rebuilt(getattr(old, field.name), kind, change, done)
        if met:
            if new is old:
                new = copy.copy(old)
            object.__setattr__(new, field.name, after)
    return new, new is not old
