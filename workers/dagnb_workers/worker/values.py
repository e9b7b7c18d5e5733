"""What one instance has at hand, as verified bytes, the longest unused thrown out first.

Bytes, not objects: a task may change its input in place, and the next reader must not see that.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

from dagnb.units import MIB

K = TypeVar("K")

LIMIT_BYTES = 256 * MIB


class Values(Generic[K]):
    """Bytes by key, at most `limit_bytes` of them."""

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        """Nothing at hand."""
        self._limit = limit_bytes
        self._held: OrderedDict[K, bytes] = OrderedDict()
        self._n_bytes = 0

    def keep(self, key: K, data: bytes) -> None:
        """Have it at hand, unless it alone is too large."""
        if key in self._held or len(data) > self._limit:
            return
        self._held[key] = data
        self._n_bytes += len(data)
        while self._n_bytes > self._limit:
            _, dropped = self._held.popitem(last=False)
            self._n_bytes -= len(dropped)

    def find(self, key: K) -> bytes | None:
        """The bytes, or None."""
        found = self._held.get(key)
        if found is not None:
            self._held.move_to_end(key)
        return found
