"""Hashes of calls, by which a call of an earlier run is recognised.

A hash covers the names of functions and the plain arguments of the call and of all its ancestors.
It is cheap, and equal in every kernel. Equal hashes are no proof that values are equal, only a good
guess: they serve predictions, not caching. The history stores these hashes, so their texts stay as
they are.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dagnb.graph.dag import Dag
    from dagnb.graph.node import Node

# Items of a long container that are looked at.
_LOOKED_AT = 64

# Parts of all arguments of a call that are looked at.
_MOST_PARTS = 1_000

# Characters of a text, bytes of bytes.
_LONGEST = 80

# Containers within containers that are looked at.
_DEPTH = 6

_TEXTS: tuple[Any, ...] = (str, bytes, bytearray)
_CONTAINERS: tuple[Any, ...] = (dict, list, tuple, set, frozenset, deque)


def lineage(dag: Dag) -> tuple[str, ...]:
    """Returns 8 hex digits per task, equal for equal calls on equal inputs. O(tasks + edges).

    Nothing for a DAG without nodes.
    """
    hashes: dict[Node[Any], str] = {}
    for node in dag.nodes:
        digest = hashlib.blake2b(node.task.name.encode(), digest_size=4)
        digest.update(node.summary)
        for upstream in node.upstream:
            digest.update(hashes[upstream].encode())
        hashes[node] = digest.hexdigest()
    return tuple(hashes[node] for node in dag.nodes)


def summary(args: tuple[Any, ...], kwargs: dict[str, Any], kind: type[Hashable]) -> bytes:
    """Returns 8 bytes that are equal for equal arguments. O(1), by the limits above.

    kind: class of the nodes; of a node only its presence counts.
    """
    digest = hashlib.blake2b(digest_size=8)
    walk = _Walk(kind)
    for part in (*walk.parts(args), *walk.parts(kwargs)):
        # Lone surrogates occur in names of files that are not UTF-8.
        digest.update(part.encode("utf-8", "surrogatepass"))
        digest.update(b"\0")  # so that "ab", "c" and "a", "bc" differ
    return digest.digest()


class _Walk:
    """Looks at values, each container once, _MOST_PARTS in all.

    Only methods of built-in types are called: those of a subclass are the user's code, which may be
    slow, raise, or change the value.
    """

    def __init__(self, kind: type[Hashable]) -> None:
        self._kind = kind
        self._n_left = _MOST_PARTS
        self._seen: set[int] = set()

    def parts(self, value: Any, depth: int = _DEPTH) -> Iterator[str]:
        """Yields texts that describe a value: plain ones whole, others by type and length."""
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
            self._seen.add(id(value))  # a container may hold itself
            yield from self._items(value, depth - 1)
        else:
            yield f"{type(value).__name__}{_shape(value)}"

    def _items(self, value: Any, depth: int) -> Iterator[str]:
        base = next(base for base in _CONTAINERS if isinstance(value, base))
        n_items = base.__len__(value)
        yield f"{type(value).__name__}{n_items}"

        if base in (set, frozenset):
            # Each process orders a set differently, so of a large one only the size counts.
            if n_items <= _LOOKED_AT:
                texts: list[str] = []
                for item in base.__iter__(value):
                    texts += self.parts(item, depth)
                yield from sorted(texts)
            return

        items: Iterable[Any] = base.__iter__(value)
        most = _LOOKED_AT
        if base is dict:
            items = itertools.chain.from_iterable(dict.items(value))
            most = 2 * _LOOKED_AT  # keys and values
        for item in itertools.islice(items, most):
            yield from self.parts(item, depth)


def _plain(value: Any) -> str | None:
    """Returns the text of a number, a text or None; None for all else."""
    if value is None or isinstance(value, bool):
        return str(value)
    if isinstance(value, int):
        # Hexadecimal: decimal digits of a large one take long, and Python refuses them.
        return int.__format__(value, "x")
    if isinstance(value, float):
        return float.__repr__(value)
    if isinstance(value, complex):
        return complex.__repr__(value)
    for kind in _TEXTS:
        if isinstance(value, kind):
            return f"{kind.__len__(value)}{kind.__getitem__(value, slice(_LONGEST))!r}"
    return None


def _shape(value: Any) -> str:
    """Returns the shape of an array or a table; '' for what has none."""
    try:
        shape = getattr(value, "shape", ())
    # The attribute may be code of the user's, which may raise anything.
    except Exception:  # noqa: BLE001  # as above
        return ""
    is_shape = type(shape) is tuple and all(type(length) is int for length in shape)
    return str(shape) if is_shape else ""
