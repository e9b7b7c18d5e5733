"""What one instance has at hand: results it made or fetched, as verified bytes, the oldest thrown out first.

Bytes, not objects: a task may change its input in place, and the next reader must not see that.
"""

from __future__ import annotations

from collections import OrderedDict

from dagnb.protocol.messages import Address
from dagnb.units import MIB

LIMIT_BYTES = 256 * MIB


class Values:
    """At most LIMIT_BYTES of sealed results by (task, token)."""

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        """Nothing at hand."""
        self._limit = limit_bytes
        self._held: OrderedDict[tuple[int, str], bytes] = OrderedDict()
        self._n_bytes = 0

    def keep(self, task: int, address: Address, sealed: bytes) -> None:
        """Have it at hand, unless it alone is too large."""
        key = (task, address.token)
        if key in self._held or len(sealed) > self._limit:
            return
        self._held[key] = sealed
        self._n_bytes += len(sealed)
        while self._n_bytes > self._limit:
            _, dropped = self._held.popitem(last=False)
            self._n_bytes -= len(dropped)

    def find(self, task: int, address: Address) -> bytes | None:
        """The sealed result, or None."""
        found = self._held.get((task, address.token))
        if found is not None:
            self._held.move_to_end((task, address.token))
        return found
