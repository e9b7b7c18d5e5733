"""Spans as bytes: the chunks in which workers upload them, and in which the history keeps them.

A short task has five spans, and the store holds those of all tasks of a run. As rows of MessagePack
they took 170 bytes a task, a quarter of what the store holds of a task. As columns of differences,
compressed, they take a tenth, at 3 us a task more.

    byte 0     _LAST if the instance uploads no more, else 0
    the rest   zlib of MessagePack: texts, number of spans, then a column for each field of a span

Tasks and begins are differences from the span before, ends from their begin. Workers, phases and
details are positions in the texts. Times are counted in ticks of 2^-24 s.
Epoch seconds from 1979 on are multiples of that as floats, so they are the same when they are read.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from itertools import accumulate, chain, repeat
from operator import add, attrgetter, mul, sub, truediv
from typing import TypeAlias

import msgpack

from dagnb.trace.trace import Phase, Span

_TICKS = 2**24
"""Ticks in a second."""

_LAST = 1
_HEADS = (b"\0", b"\1")

Row: TypeAlias = tuple[int, str, Phase, float, float, int, int, str]
"""The fields of a span, in their order."""

_FIELDS = attrgetter("task", "worker", "phase", "begin_s", "end_s", "n_bytes", "attempt", "detail")

# Most chunks are a few hundred bytes: higher levels cost time and gain 1 %.
_LEVEL = 1

# By value: a look-up, where Phase(value) calls Python; traces have several spans a task.
_PHASES = {phase.value: phase for phase in Phase}

# Chunks of versions before: rows of MessagePack, nil as the last row of the last chunk. They begin
# with the mark of an array, which is no head.
_OLD_LAST = b"\xc0"


def packed(spans: Iterable[Span], *, is_last: bool = False) -> bytes:
    """Returns spans as one chunk of bytes for the store. is_last: the instance uploads no more."""
    return packed_rows(list(map(_FIELDS, spans)), is_last=is_last)


def packed_rows(rows: Sequence[Row], *, is_last: bool = False) -> bytes:
    """Returns what `packed` does, for the fields of spans."""
    head = _HEADS[is_last]
    if not rows:
        return head
    tasks, workers, phases, begins, ends, sizes, attempts, details = zip(*rows, strict=True)
    # Without a loop of Python: this runs once a batch of tasks, for each of their spans.
    begin_ticks = list(map(round, map(mul, begins, repeat(_TICKS))))
    end_ticks = map(round, map(mul, ends, repeat(_TICKS)))
    texts = dict.fromkeys(chain(workers, phases, details))
    place = dict(zip(texts, range(len(texts)), strict=True)).__getitem__
    columns = (
        list(texts),
        _differences(tasks),
        list(map(place, workers)),
        list(map(place, phases)),
        _differences(begin_ticks),
        list(map(sub, end_ticks, begin_ticks)),
        sizes,
        attempts,
        list(map(place, details)),
    )
    return head + zlib.compress(msgpack.packb(columns), _LEVEL)


def unpacked(chunk: bytes) -> list[Span]:
    """Returns the spans of a chunk."""
    if chunk[:1] not in _HEADS:
        rows = msgpack.unpackb(chunk)
        return [Span(s[0], s[1], _PHASES[s[2]], *s[3:]) for s in rows if s is not None]
    if len(chunk) == 1:
        return []
    columns = msgpack.unpackb(zlib.decompress(memoryview(chunk)[1:]))
    texts, tasks, workers, phases, begins, lengths, sizes, attempts, details = columns
    begin_ticks = list(accumulate(begins))
    end_ticks = map(add, begin_ticks, lengths)
    text = texts.__getitem__
    return list(
        map(
            Span,
            accumulate(tasks),
            map(text, workers),
            map(_PHASES.__getitem__, map(text, phases)),
            map(truediv, begin_ticks, repeat(_TICKS)),
            map(truediv, end_ticks, repeat(_TICKS)),
            sizes,
            attempts,
            map(text, details),
        )
    )


def is_last(chunk: bytes) -> bool:
    """Tells whether this chunk is the last one of its instance."""
    if chunk[:1] in _HEADS:
        return chunk[0] == _LAST
    return chunk.endswith(_OLD_LAST)


def _differences(numbers: list[int] | tuple[int, ...]) -> list[int]:
    """Returns the first number, and for each other its difference from the one before."""
    return [numbers[0], *map(sub, numbers[1:], numbers)]
