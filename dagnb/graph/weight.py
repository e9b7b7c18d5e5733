"""Roughly how many bytes arguments will be when they are pickled: known before anything is pickled, for predictions."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence, Set
from typing import Any

from dagnb.graph.task import Node

OPAQUE_BYTES = 100
"""of an object that tells nothing about its size"""
LOOKED_AT = 64
"""items of a long container that are weighed; the others count as much on average"""


def weight(value: Any, depth: int = 6) -> int:
    """Bytes of the value, nodes left out, as its own size, its buffer, or its items tell; O(1) for long containers."""
    if isinstance(value, Node):
        return 0
    if isinstance(value, str | bytes | bytearray):
        return len(value) + 8
    if isinstance(value, bool | int | float | complex | None):
        return 9
    n_bytes = getattr(value, "nbytes", None)
    if isinstance(n_bytes, int):
        return n_bytes + OPAQUE_BYTES
    if depth and isinstance(value, Mapping):
        return _items(itertools.chain.from_iterable(value.items()), 2 * len(value), depth)
    if depth and isinstance(value, Sequence | Set) and not isinstance(value, range):
        return _items(iter(value), len(value), depth)
    return OPAQUE_BYTES


def _items(items: Any, n: int, depth: int) -> int:
    seen = list(itertools.islice(items, LOOKED_AT))
    total = sum(weight(item, depth - 1) for item in seen)
    return 8 + (total if n <= len(seen) else total * n // len(seen))
