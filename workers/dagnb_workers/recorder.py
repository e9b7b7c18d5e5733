"""The spans of one instance until a commit takes them along, and the store's clock as well as it is known here."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from typing import Any

import msgpack

from dagnb.protocol.invocation import Invocation
from dagnb.protocol.messages import Offer
from dagnb.trace.span import Phase, Span


@dataclass(slots=True)
class Moved:
    """How many bytes an open span has moved so far."""

    n_bytes: int = 0


class Recorder:
    """Spans and clock."""

    def __init__(self) -> None:
        self._spans: list[tuple[Any, ...]] = []
        self._offset_s, self._trip_s = 0.0, math.inf

    def now(self) -> float:
        """Epoch seconds of the store."""
        return time.time() + self._offset_s

    def set_clock(self, store_s: float, sent_s: float, received_s: float) -> None:
        """The store said store_s between our sent_s and received_s: take the middle, of the quickest answer so far."""
        if received_s - sent_s <= self._trip_s:
            self._offset_s, self._trip_s = store_s - (sent_s + received_s) / 2, received_s - sent_s

    def note(self, span: Span) -> None:
        """Keep a span."""
        self._spans.append(astuple(span))

    def note_start(self, worker: str, begin_s: float, invocation: Invocation) -> None:
        """A worker has started, now: asked for at begin_s of the store's clock; all else is of this machine's."""
        now_s, detail = self.now(), invocation.start
        acts = [(Phase(name), begin + self._offset_s, end + self._offset_s) for name, begin, end in invocation.phases]
        if invocation.told_at:
            acts.append((Phase.REGISTER, invocation.told_at + self._offset_s, now_s))
        acted_s = acts[0][1] if acts else now_s
        for phase, begin, end in [(Phase.INVOKE, min(begin_s, acted_s), acted_s), *acts]:
            self.note(Span(-1, worker, phase, begin, end, 0, 1, detail))

    @contextlib.contextmanager
    def span(self, worker: str, offer: Offer, phase: Phase) -> Iterator[Moved]:
        """A span around the block; a fetch that moved nothing leaves none."""
        moved, begin_s = Moved(), self.now()
        yield moved
        if moved.n_bytes or phase is not Phase.FETCH:
            self.note(Span(offer.task, worker, phase, begin_s, self.now(), moved.n_bytes, offer.attempt))

    def take(self) -> bytes:
        """The spans so far as one chunk, which are then gone from here; b'' for none."""
        if not self._spans:
            return b""
        packed: bytes = msgpack.packb(self._spans)
        self._spans = []
        return packed
