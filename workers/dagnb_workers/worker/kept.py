"""Results that a worker keeps for the next tasks of its batch, instead of storing them.

The reader must not notice that its input was kept. So it gets

    the object itself     if it cannot be changed (a number but for NaN, a text), or if it is an
                          array of numbers that owns its memory and that nothing else refers to: no
                          one can see a change of it
    an object of its own  otherwise, unpickled from bytes that were made when the task ended

Every result is pickled or known to be picklable, kept or not: a task whose result cannot be pickled
fails in either case. protocol/worker.py decides which results are kept.
"""

from __future__ import annotations

import cmath
import sys
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dagnb.graph.payload import decode_value, encode_value, value_parts

MOST_BYTES = 512 * 1024 * 1024
"""Bytes of results that a worker keeps at a time, at most. Others are stored."""

_IMMUTABLE = (int, float, complex, str, bytes, bool, type(None))


def _is_constant(value: object) -> bool:
    """Returns whether no one can tell this object from an equal one, but by `is`."""
    if type(value) in (float, complex):
        # Containers compare objects before values, so `x in [x]` tells one NaN from another.
        return not cmath.isnan(value)  # type: ignore[arg-type]  # mypy does not narrow by type()
    return type(value) in _IMMUTABLE


@dataclass(slots=True)
class Result:
    """A value that a function returned. The worker refers to it through this object alone.

    So the number of references to the value shows whether the user's code has one, too.
    """

    value: Any

    def is_unshared_array(self) -> bool:
        """Returns whether the value is a plain array of numbers to which nothing else refers."""
        array_type = getattr(sys.modules.get("numpy"), "ndarray", None)
        if array_type is None or type(self.value) is not array_type:
            return False
        # One reference is that of this object, the other that of the call itself.
        if sys.getrefcount(self.value) > 2 or weakref.getweakrefcount(self.value):
            return False
        flags = self.value.flags
        # Unpickled arrays can be written to, and their memory has no gaps.
        is_plain = flags.owndata and flags.writeable and flags.forc
        dtype = self.value.dtype
        # Fields can be renamed in place, also for those who share the dtype.
        is_simple = not dtype.hasobject and dtype.fields is None and dtype.metadata is None
        return bool(is_plain and is_simple)


@dataclass(slots=True)
class KeptValue:
    """One kept result: the object itself, or its bytes.

    reader: the task that reads it. n_bytes: of the result.
    """

    reader: int
    n_bytes: int
    result: Result | None
    pickled: bytes = b""

    def __len__(self) -> int:
        """Returns the number of bytes to unpickle."""
        return len(self.pickled)

    def value(self) -> Any:
        """Returns the value for the reader. To be called once."""
        if self.result is None:
            return decode_value(self.pickled)
        # The worker may hold the other task's result a little longer. The value is the reader's.
        value, self.result.value = self.result.value, None
        return value

    def parts(self) -> Sequence[bytes | memoryview]:
        """Returns what encode_value gives for the value."""
        if self.result is None:
            parts = value_parts(self.pickled)
            n_header = len(self.pickled) - sum(map(len, parts))
            return [self.pickled[:n_header], *parts]
        return encode_value(self.result.value, "?")


class KeptValues:
    """The results that one worker keeps, by task."""

    def __init__(self) -> None:
        self._values: dict[int, KeptValue] = {}
        self._n_bytes = 0

    def keep(self, task: int, reader: int, result: Result) -> KeptValue | None:
        """Keep a result for its reader. Returns None, and keeps nothing, where room is short.

        Raises UnserialisableError.
        """
        parts: Sequence[bytes | memoryview] = ()
        if result.is_unshared_array():
            n_bytes = result.value.nbytes
        else:
            parts = encode_value(result.value, "?")
            n_bytes = sum(map(len, parts))
        if self._n_bytes + n_bytes > MOST_BYTES:
            return None
        kept = KeptValue(reader, n_bytes, result)
        if parts and not _is_constant(result.value):
            kept = KeptValue(reader, n_bytes, None, b"".join(parts))
            # The worker holds the result while the reader runs, and would hold the memory.
            result.value = None
        self._values[task] = kept
        self._n_bytes += n_bytes
        return kept

    def take(self, task: int) -> KeptValue | None:
        """Remove and return the result of a task, None where none is kept."""
        kept = self._values.pop(task, None)
        if kept is not None:
            self._n_bytes -= kept.n_bytes
        return kept

    def take_all(self, tasks: Iterable[int]) -> dict[int, KeptValue]:
        """Remove and return the results of these tasks that are kept, by task."""
        taken = {}
        for task in tasks:
            kept = self.take(task)
            if kept is not None:
                taken[task] = kept
        return taken

    def drop_but_for(self, readers: Iterable[int]) -> None:
        """Forget results that none of these tasks reads."""
        if not self._values:
            return
        wanted = set(readers)
        for task, kept in list(self._values.items()):
            if kept.reader not in wanted:
                self.take(task)
