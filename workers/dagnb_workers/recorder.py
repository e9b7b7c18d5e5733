"""The spans of one instance until a commit takes them along, and the store's clock as well as it is known here."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from typing import Any

import msgpack

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
        self._offset_s = 0.0

    def now(self) -> float:
        """Epoch seconds of the store."""
        return time.time() + self._offset_s

    def set_clock(self, store_s: float, sent_s: float, received_s: float) -> None:
        """The store said store_s between our sent_s and received_s: take the middle."""
        self._offset_s = store_s - (sent_s + received_s) / 2

    def note(self, span: Span) -> None:
        """Keep a span."""
        self._spans.append(astuple(span))

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
