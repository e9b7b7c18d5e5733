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
from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dagnb.graph.dag import Dag

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

# Libraries whose arrays and tables know their shape, so that asking costs nothing.
_ARRAYS = frozenset({"cupy", "jax", "jaxlib", "numpy", "pandas", "polars", "scipy", "torch"})


def lineage(dag: Dag) -> tuple[str, ...]:
    """Returns 8 hex digits per task, equal for equal calls on equal inputs. O(tasks + edges).

    Nothing for a DAG without nodes.
    """
    hashes: list[str] = []
    for node, call in zip(dag.nodes, dag.calls, strict=False):
        text = call.function.encode() + node.summary
        if call.upstream:
            # The order of call.upstream is that of node.upstream.
            text += "".join([hashes[u] for u in call.upstream]).encode()
        hashes.append(hashlib.blake2b(text, digest_size=4).hexdigest())
    return tuple(hashes)


def summary(args: tuple[Any, ...], kwargs: dict[str, Any], kind: type[Hashable]) -> bytes:
    """Returns 8 bytes that are equal for equal arguments. O(1), by the limits above.

    kind: class of the nodes; of a node only its presence counts. Raises nothing.
    """
    texts = _plain_texts(args, kwargs)
    if texts is None:
        walk = _Walk(kind)
        try:
            walk.add(args, _DEPTH)
            walk.add(kwargs, _DEPTH)
        # Another thread may change a container meanwhile, and a metaclass is code of the user's. A
        # hash of half of the arguments only predicts worse; an error would refuse the call.
        except Exception:  # noqa: BLE001  # as above
            walk.texts.append("...")
        texts = walk.texts
    texts.append("")  # each part ends with a zero, so that "ab", "c" and "a", "bc" differ
    # Lone surrogates occur in names of files that are not UTF-8.
    text = "\0".join(texts).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=8).digest()


def _plain_texts(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[str] | None:
    """Returns the texts of a _Walk over arguments that are all plain; None for others.

    Most calls have a few plain arguments, and the walk takes twice as long.
    """
    if len(args) > _LOOKED_AT or len(kwargs) > _LOOKED_AT:
        return None
    texts = [f"tuple{len(args)}"]
    for value in args:
        text = _plain(value, type(value))
        if text is None:
            return None
        texts.append(text)
    texts.append(f"dict{len(kwargs)}")
    for value in itertools.chain.from_iterable(kwargs.items()) if kwargs else ():
        text = _plain(value, type(value))
        if text is None:
            return None
        texts.append(text)
    return texts


class _Walk:
    """Looks at values, each container once, _MOST_PARTS in all.

    Only methods of built-in types are called: those of a subclass are the user's code, which may be
    slow, raise, or change the value. Even isinstance would call such code, to read `__class__`.

    texts: describe the values so far: plain ones whole, others by type and length.
    """

    def __init__(self, kind: type[Hashable]) -> None:
        self.texts: list[str] = []
        self._kind = kind
        self._n_left = _MOST_PARTS
        self._seen: set[int] = set()

    def add(self, value: Any, depth: int) -> None:
        """Look at a value and its parts, down to this depth."""
        self._n_left -= 1
        if self._n_left < 0:
            return
        kind = type(value)
        plain = _plain(value, kind)
        if plain is not None:
            self.texts.append(plain)
        elif issubclass(kind, self._kind):
            self.texts.append("node")
        elif kind is range and depth:
            self.texts.append("tuple3")
            for number in (value.start, value.stop, value.step):
                self.add(number, depth - 1)
        elif depth and id(value) not in self._seen and issubclass(kind, _CONTAINERS):
            self._seen.add(id(value))  # a container may hold itself
            self._add_items(value, kind, depth - 1)
        else:
            self.texts.append(f"{kind.__name__}{_shape(value, kind)}")

    def _add_items(self, value: Any, kind: type, depth: int) -> None:
        base = next(base for base in _CONTAINERS if issubclass(kind, base))
        n_items = base.__len__(value)
        self.texts.append(f"{kind.__name__}{n_items}")

        if base in (set, frozenset):
            # Each process orders a set differently, so of a large one only the size counts.
            if n_items <= _LOOKED_AT:
                begin = len(self.texts)
                for item in base.__iter__(value):
                    self.add(item, depth)
                self.texts[begin:] = sorted(self.texts[begin:])
            return

        items: Iterable[Any] = base.__iter__(value)
        most = _LOOKED_AT
        if base is dict:
            items = itertools.chain.from_iterable(dict.items(value))
            most = 2 * _LOOKED_AT  # keys and values
        for item in itertools.islice(items, most):
            self.add(item, depth)


def _plain(value: Any, kind: type) -> str | None:
    """Returns the text of a number, a text or None; None for all else."""
    if kind is int:  # the most frequent one
        return f"{value:x}"
    if value is None or kind is bool:
        return str(value)
    if issubclass(kind, int):
        # Hexadecimal: decimal digits of a large one take long, and Python refuses them.
        return int.__format__(value, "x")
    if issubclass(kind, float):
        return float.__repr__(value)
    if issubclass(kind, complex):
        return complex.__repr__(value)
    for base in _TEXTS:
        if issubclass(kind, base):
            return f"{base.__len__(value)}{base.__getitem__(value, slice(_LONGEST))!r}"
    return None


def _shape(value: Any, kind: type) -> str:
    """Returns the shape of an array or a table of a well-known library; '()' for all else."""
    # In another class the attribute may be code that takes long, such as a query of a database.
    module = kind.__module__
    if module.partition(".")[0] not in _ARRAYS:
        return "()"
    shape = getattr(value, "shape", ())
    is_shape = type(shape) is tuple and all(type(length) is int for length in shape)
    return str(shape) if is_shape else ""
