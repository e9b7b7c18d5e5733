"""Which call is the same as in an earlier run: told by names of functions and plain arguments, all the way up.

Cheap, and equal in every kernel. It is no proof of equal values, only a good guess: for predictions, not for caching.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

from dagnb.graph.dag import Dag
from dagnb.graph.task import Node

_LOOKED_AT = 64
"""items of a long container that are looked at"""
_LONGEST = 80
"""characters of a text, bytes of bytes"""
_DEPTH = 6


def lineage(dag: Dag) -> tuple[str, ...]:
    """8 hex digits a task, equal for equal calls on equal inputs; nothing for a DAG without nodes. O(tasks + edges)."""
    if not dag.nodes:
        return ()
    found: dict[Node[Any], str] = {}
    for node in dag.nodes:
        told = hashlib.blake2b(node.task.name.encode(), digest_size=4)
        for part in (*_parts(node.args, found, _DEPTH), *_parts(node.kwargs, found, _DEPTH)):
            told.update(part.encode("utf-8", "surrogatepass"))
            told.update(b"\0")
        found[node] = told.hexdigest()
    return tuple(found[node] for node in dag.nodes)


def _parts(value: Any, known: Mapping[Node[Any], str], depth: int) -> Iterator[str]:
    """Texts that tell the value: plain ones whole, others by type and length."""
    if isinstance(value, Node):
        yield known[value]
    elif isinstance(value, bool | int | float | complex | None):
        yield repr(value)
    elif isinstance(value, str | bytes | bytearray):
        yield f"{len(value)}{value[:_LONGEST]!r}"
    elif depth and isinstance(value, Mapping):
        yield f"{type(value).__name__}{len(value)}"
        for _, (key, item) in zip(range(_LOOKED_AT), value.items(), strict=False):
            yield from _parts(key, known, depth - 1)
            yield from _parts(item, known, depth - 1)
    elif depth and isinstance(value, Sequence):
        yield f"{type(value).__name__}{len(value)}"
        for item in value[:_LOOKED_AT]:
            yield from _parts(item, known, depth - 1)
    elif depth and isinstance(value, Set):
        yield f"{type(value).__name__}{len(value)}"
        yield from sorted(part for item in value for part in _parts(item, known, depth - 1))[:_LOOKED_AT]
    else:
        yield f"{type(value).__name__}{getattr(value, 'shape', '')}"
