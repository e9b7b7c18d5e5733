"""The spans of one instance until they are uploaded, and the store's clock as well as it is known here."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from dagnb.protocol.invocation import Invocation
from dagnb.protocol.messages import Offer
from dagnb.trace.span import Phase, Span, packed
from dagnb.trace.upload import MOST_HELD, Upload


@dataclass(slots=True)
class Moved:
    """How many bytes an open span has moved so far."""

    n_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Opened:
    """The program's header was read: when, by this machine's clock, and how many bytes."""

    begin_at: float
    end_at: float
    n_bytes: int


class Recorder:
    """Spans and clock."""

    def __init__(self, upload: Upload) -> None:
        """upload: how long spans are held."""
        self._upload = upload
        self._spans: list[Span] = []
        self._since = 0.0
        self._open: list[Span] = []
        self._offset_s, self._trip_s = 0.0, math.inf

    def now(self) -> float:
        """Epoch seconds of the store."""
        return time.time() + self._offset_s

    def set_clock(self, store_s: float, sent_s: float, received_s: float) -> None:
        """The store said store_s between our sent_s and received_s: take the middle, of the quickest answer so far."""
        if received_s - sent_s <= self._trip_s:
            self._offset_s, self._trip_s = store_s - (sent_s + received_s) / 2, received_s - sent_s

    # ---- spans come -----------------------------------------------------------------------------------------------

    def note(self, span: Span) -> None:
        """Hold a span."""
        if not self._spans:
            self._since = time.monotonic()
        self._spans.append(span)

    def hold_open(self, span: Span) -> None:
        """Hold a span whose end is not known yet: a hand-over lasts until what the task held is let go."""
        self._open.append(span)

    def close(self, *, until_now: bool = True) -> None:
        """What was held open has ended, now or when it was noted."""
        now_s = self.now()
        for span in self._open:
            self.note(replace(span, end_s=now_s) if until_now else span)
        self._open = []

    def note_opened(self, worker: str, opened: Opened) -> None:
        """The header was read, by whoever staffs this worker now."""
        begin_s, end_s = opened.begin_at + self._offset_s, opened.end_at + self._offset_s
        self.note(Span(-1, worker, Phase.PROGRAM, begin_s, end_s, opened.n_bytes))

    def note_start(
        self, worker: str, begin_s: float, invocation: Invocation, opened: Opened | None
    ) -> None:
        """A worker has started, now: asked for at begin_s of the store's clock; all else is of this machine's.

        opened: the header was read on the way, which is no part of any phase of the start.
        """
        now_s, detail = self.now(), invocation.start
        acts = [
            (Phase(name), begin + self._offset_s, end + self._offset_s)
            for name, begin, end in invocation.phases
        ]
        told_s = invocation.told_at + self._offset_s if invocation.told_at else None
        if opened is not None:
            begin, end = opened.begin_at + self._offset_s, opened.end_at + self._offset_s
            if told_s is not None:
                acts.append((Phase.REGISTER, told_s, begin))
            acts.append((Phase.REGISTER, end, now_s))
        elif told_s is not None:
            acts.append((Phase.REGISTER, told_s, now_s))
        acted_s = now_s if not acts else acts[0][1] if opened is None else min(acts[0][1], begin)
        for phase, begin, end in [(Phase.INVOKE, min(begin_s, acted_s), acted_s), *acts]:
            self.note(Span(-1, worker, phase, begin, end, 0, 1, detail))

    @contextlib.contextmanager
    def span(
        self, worker: str, offer: Offer, phase: Phase, begin_s: float = 0.0
    ) -> Iterator[Moved]:
        """A span around the block, also when that raises; what should have moved bytes and did not leaves none.

        begin_s: when it began, if not now.
        """
        moved, begin_s = Moved(), begin_s or self.now()
        try:
            yield moved
        finally:
            if moved.n_bytes or phase not in {Phase.FETCH, Phase.PROGRAM}:
                self.note(
                    Span(
                        offer.task, worker, phase, begin_s, self.now(), moved.n_bytes, offer.attempt
                    )
                )

    # ---- spans go -------------------------------------------------------------------------------------------------

    def wait_s(self) -> float:
        """So long the spans held here may still be held; inf when there are none."""
        if not self._spans:
            return math.inf
        if len(self._spans) >= MOST_HELD:
            return 0.0
        return self._upload.wait_s(len(self._spans), time.monotonic() - self._since)

    @contextlib.contextmanager
    def sending(self, *, everything: bool = False, is_last: bool = False) -> Iterator[bytes]:
        """The spans that are due as one chunk, b'' for none, for a block that uploads them; if it raises, they stay.

        everything: all of them, due or not. is_last: the chunk says that no more will come.
        """
        taken: list[Span] = []
        since = self._since
        if self._spans and (everything or self.wait_s() <= 0.0):
            taken, self._spans = self._spans, []
        try:
            yield packed(taken, is_last=is_last) if taken or is_last else b""
        except BaseException:
            if taken:
                self._spans, self._since = taken + self._spans, since
            raise
