"""The call that is the same as in an earlier run: told by names of functions and plain arguments, all the way up.

Cheap, and equal in every kernel. It is no proof of equal values, only a good guess: for predictions, not for caching.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import deque
from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dagnb.graph.dag import Dag
    from dagnb.graph.node import Node

_LOOKED_AT = 64
"""items of a long container that are looked at"""
_MOST_PARTS = 1_000
"""parts of all arguments of a call that are looked at"""
_LONGEST = 80
"""characters of a text, bytes of bytes"""
_DEPTH = 6

_TEXTS: tuple[Any, ...] = (str, bytes, bytearray)
_CONTAINERS: tuple[Any, ...] = (dict, list, tuple, set, frozenset, deque)


def lineage(dag: Dag) -> tuple[str, ...]:
    """8 hex digits a task, equal for equal calls on equal inputs; nothing for a DAG without nodes. O(tasks + edges)."""
    found: dict[Node[Any], str] = {}
    for node in dag.nodes:
        told = hashlib.blake2b(node.task.name.encode(), digest_size=4)
        told.update(node.summary)
        for upstream in node.upstream:
            told.update(found[upstream].encode())
        found[node] = told.hexdigest()
    return tuple(found[node] for node in dag.nodes)


def summary(args: tuple[Any, ...], kwargs: dict[str, Any], kind: type[Hashable]) -> bytes:
    """Returns 8 bytes that are equal for equal arguments. kind: of what is told by being there alone. O(1)."""
    told = hashlib.blake2b(digest_size=8)
    walk = _Walk(kind)
    for part in (*walk.parts(args), *walk.parts(kwargs)):
        told.update(part.encode("utf-8", "surrogatepass"))
        told.update(b"\0")
    return told.digest()


class _Walk:
    """Looks at values, each container once, _MOST_PARTS in all. Only methods of built-in types are called."""

    def __init__(self, kind: type[Hashable]) -> None:
        self._kind = kind
        self._n_left = _MOST_PARTS
        self._seen: set[int] = set()

    def parts(self, value: Any, depth: int = _DEPTH) -> Iterator[str]:
        """Texts that tell the value: plain ones whole, others by type and length."""
        self._n_left -= 1
        if self._n_left < 0:
            return
        if isinstance(value, self._kind):
            yield "node"
        elif isinstance(value, range):
            yield from self.parts((value.start, value.stop, value.step), depth)
        elif (plain := _plain(value)) is not None:
            yield plain
        elif depth and id(value) not in self._seen and isinstance(value, _CONTAINERS):
            self._seen.add(id(value))
            yield from self._items(value, depth - 1)
        else:
            yield f"{type(value).__name__}{_shape(value)}"

    def _items(self, value: Any, depth: int) -> Iterator[str]:
        base = next(base for base in _CONTAINERS if isinstance(value, base))
        n_items = base.__len__(value)
        yield f"{type(value).__name__}{n_items}"
        if base in (set, frozenset):
            if n_items <= _LOOKED_AT:  # the first of a larger one are others in every process
                yield from sorted(
                    part for item in base.__iter__(value) for part in self.parts(item, depth)
                )
            return
        items = (
            itertools.chain.from_iterable(dict.items(value))
            if base is dict
            else base.__iter__(value)
        )
        for item in itertools.islice(items, 2 * _LOOKED_AT if base is dict else _LOOKED_AT):
            yield from self.parts(item, depth)


def _plain(value: Any) -> str | None:
    """Text of a number, a text or None, by the methods of the built-in type: a subclass may have other ones."""
    if value is None or isinstance(value, bool):
        return str(value)
    if isinstance(value, int):
        return int.__format__(
            value, "x"
        )  # decimal digits of a large one take long, and Python refuses them
    if isinstance(value, float):
        return float.__repr__(value)
    if isinstance(value, complex):
        return complex.__repr__(value)
    for kind in _TEXTS:
        if isinstance(value, kind):
            return f"{kind.__len__(value)}{kind.__getitem__(value, slice(_LONGEST))!r}"
    return None


def _shape(value: Any) -> str:
    """The shape of an array or a table; '' for what has none, or does not tell it."""
    try:
        shape = getattr(value, "shape", ())
    except Exception:  # noqa: BLE001  # the attribute may be code of the user's, which raises anything
        return ""
    return (
        str(shape) if type(shape) is tuple and all(type(length) is int for length in shape) else ""
    )
