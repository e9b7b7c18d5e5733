"""The spans of one instance until they are uploaded, and its estimate of the store's clock."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from dagnb.protocol.invocation import Invocation
from dagnb.protocol.messages import Offer
from dagnb.trace.chunk import Row, packed_rows
from dagnb.trace.trace import Phase
from dagnb.trace.upload import MOST_HELD, Upload
from dagnb_workers.surroundings.isolation import ImportTime


class TimedAct:
    """The span of one block of code: a context manager that notes it at the end of the block.

    n_bytes: what the block has moved, set by the block. A class instead of a generator, which would
    cost a short task a tenth of its time. Each phase has one, which `begin` starts anew: blocks of
    one phase do not hold each other. Imports of LOAD and RUN are a span of their own, as `Phase`
    says.
    """

    __slots__ = (
        "_attempt",
        "_begin_s",
        "_imported_s",
        "_may_import",
        "_needs_bytes",
        "_phase",
        "_recorder",
        "_task",
        "_worker",
        "n_bytes",
    )

    def __init__(self, recorder: Recorder, phase: Phase) -> None:
        self._recorder, self._phase = recorder, phase
        # Without bytes nothing was downloaded, so there was no such act.
        self._needs_bytes = phase in (Phase.FETCH, Phase.PROGRAM)
        self._may_import = phase in (Phase.LOAD, Phase.RUN)
        self._worker, self._task, self._attempt = "", -1, 1
        self._begin_s, self._imported_s, self.n_bytes = 0.0, 0.0, 0

    def begin(self, worker: str, offer: Offer, begin_s: float) -> Self:
        """Begin another span. Returns this."""
        self._worker, self._task, self._attempt = worker, offer.task, offer.attempt
        self._begin_s, self.n_bytes = begin_s, 0
        self._imported_s = self._recorder.import_time.seconds
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        if self._needs_bytes and not self.n_bytes:
            return
        end_s = self._recorder.now()
        if self._may_import:
            import_s = self._recorder.import_time.seconds - self._imported_s
            if import_s > 0.0:
                self._note_parts(end_s, import_s)
                return
        self._note(self._phase, self._begin_s, end_s, self.n_bytes)

    def _note_parts(self, end_s: float, import_s: float) -> None:
        """Note the act without its imports, and these behind a LOAD or before a RUN."""
        # The imports were measured by another clock.
        import_s = min(import_s, max(0.0, end_s - self._begin_s))
        if self._phase is Phase.LOAD:
            parted_s = end_s - import_s
            self._note(Phase.LOAD, self._begin_s, parted_s, self.n_bytes)
            self._note(Phase.IMPORT, parted_s, end_s, 0)
        else:
            parted_s = self._begin_s + import_s
            self._note(Phase.IMPORT, self._begin_s, parted_s, 0)
            self._note(Phase.RUN, parted_s, end_s, 0)

    def _note(self, phase: Phase, begin_s: float, end_s: float, n_bytes: int) -> None:
        self._recorder.note(self._task, self._worker, phase, begin_s, end_s, n_bytes, self._attempt)


@dataclass(frozen=True, slots=True)
class HeaderRead:
    """The reading of the program's header: begin, end (this machine's clock), bytes."""

    begin_at: float
    end_at: float
    n_bytes: int


class Recorder:
    """Holds spans, chooses those to upload, and converts this machine's times to the store's."""

    def __init__(self, upload: Upload, import_time: ImportTime | None = None) -> None:
        """Begin without spans.

        upload: the strategy that says how long spans may be held. import_time: spent on imports of
        tasks; it grows.
        """
        self._upload = upload
        self.import_time = ImportTime() if import_time is None else import_time
        # Rows, because a short task has a span for each 10 us of its work, and making a Span takes
        # longer than measuring it.
        self._spans: list[Row] = []
        self._since = 0.0  # monotonic seconds at which the oldest held span was noted
        self._open: list[Row] = []
        self._acts = {phase: TimedAct(self, phase) for phase in Phase}
        self._offset_s, self._trip_s = 0.0, math.inf

    def now(self) -> float:
        """Returns epoch seconds by the store's clock."""
        return time.time() + self._offset_s

    def set_clock(self, store_s: float, sent_s: float, received_s: float) -> None:
        """Set the clock by an answer that holds the store's time.

        store_s: the store's time. sent_s, received_s: this machine's time before and after. The
        store's time is taken to be that of the middle between them, by the quickest answer so far:
        the error is at most half a round trip. Source: Cristian 1989, doi:10.1007/BF01784024
        """
        if received_s - sent_s <= self._trip_s:
            self._offset_s = store_s - (sent_s + received_s) / 2
            self._trip_s = received_s - sent_s

    # ---- spans come -----------------------------------------------------------------------------

    def note(
        self,
        task: int,
        worker: str,
        phase: Phase,
        begin_s: float,
        end_s: float,
        n_bytes: int = 0,
        attempt: int = 1,
        detail: str = "",
    ) -> None:
        """Hold a span: see its fields. Imports of a task's LOAD and of its RUN become one span."""
        if not self._spans:
            self._since = time.monotonic()
        elif phase is Phase.IMPORT:
            last = self._spans[-1]
            if (last[0], last[2], last[6]) == (task, phase, attempt) and task >= 0:
                begin_s = last[3]
                del self._spans[-1]
        self._spans.append((task, worker, phase, begin_s, end_s, n_bytes, attempt, detail))

    def hold_open(
        self,
        task: int,
        worker: str,
        phase: Phase,
        begin_s: float,
        n_bytes: int,
        attempt: int,
        detail: str = "",
    ) -> None:
        """Hold a span whose end is not known yet, but not before now.

        A commit lasts until the memory of its task is freed, which is after its reply was read.
        """
        self._open.append((task, worker, phase, begin_s, self.now(), n_bytes, attempt, detail))

    def close(self, *, until_now: bool = True) -> None:
        """End the open spans, now or at the moment at which they were noted."""
        if not self._open:
            return
        now_s = self.now()
        for task, worker, phase, begin_s, noted_s, n_bytes, attempt, detail in self._open:
            end_s = now_s if until_now else noted_s
            self.note(task, worker, phase, begin_s, end_s, n_bytes, attempt, detail)
        self._open = []

    def note_header_read(self, worker: str, header_read: HeaderRead) -> None:
        """Note the reading of the header for the worker that the instance staffs now."""
        begin_s, end_s = self._by_store(header_read.begin_at), self._by_store(header_read.end_at)
        self.note(-1, worker, Phase.PROGRAM, begin_s, end_s, header_read.n_bytes)

    def note_start(
        self,
        worker: str,
        begin_s: float,
        invocation: Invocation,
        header_read: HeaderRead | None,
    ) -> None:
        """Note the phases of a worker's start, which ends now.

        begin_s: when the worker was asked for, by the store's clock; all other times are of this
        machine. header_read: reading of the header meanwhile, which belongs to no phase.

            |- INVOKE -|- CREATE, BOOT, IMPORT -|- REGISTER -|- header -|- REGISTER -|
          begin_s        invocation.phases                                          now

        The first REGISTER begins when the invocation is sent to the container. A process reports no
        phases of a container: its INVOKE lasts until the header is read.
        """
        now_s = self.now()
        acts: list[tuple[Phase, float, float]] = []
        for name, begin_at, end_at in invocation.phases:
            acts.append((Phase(name), self._by_store(begin_at), self._by_store(end_at)))

        sent_s = self._by_store(invocation.sent_at)
        invoke_end_s = now_s
        if header_read is not None:
            read_s = invoke_end_s = self._by_store(header_read.begin_at)
            if invocation.sent_at:
                acts.append((Phase.REGISTER, sent_s, read_s))
            acts.append((Phase.REGISTER, self._by_store(header_read.end_at), now_s))
        elif invocation.sent_at:
            acts.append((Phase.REGISTER, sent_s, now_s))

        if acts:
            invoke_end_s = min(invoke_end_s, acts[0][1])
        # begin_s comes from another process, whose estimate of the store's clock may be ahead.
        acts.insert(0, (Phase.INVOKE, min(begin_s, invoke_end_s), invoke_end_s))
        for phase, act_begin_s, act_end_s in acts:
            self.note(-1, worker, phase, act_begin_s, act_end_s, 0, 1, invocation.start)

    def _by_store(self, local_s: float) -> float:
        return local_s + self._offset_s

    def span(self, worker: str, offer: Offer, phase: Phase, begin_s: float = 0.0) -> TimedAct:
        """Note a span around a block, also when that raises. begin_s: its begin, if not now."""
        return self._acts[phase].begin(worker, offer, begin_s or self.now())

    # ---- spans go -------------------------------------------------------------------------------

    def wait_s(self) -> float:
        """Returns seconds for which the spans may still be held; inf when there are none."""
        if not self._spans:
            return math.inf
        if len(self._spans) >= MOST_HELD:
            return 0.0
        return self._upload.wait_s(len(self._spans), time.monotonic() - self._since)

    @contextlib.contextmanager
    def sending(self, *, everything: bool = False, is_last: bool = False) -> Iterator[bytes]:
        """Yield the spans that are due as one chunk, which the block uploads; b'' for none.

        If the block raises, the spans are held on. everything: whether to take all spans, due or
        not. is_last: mark the chunk as the last one of this instance.
        """
        taken: list[Row] = []
        since = self._since
        if self._spans and (everything or self.wait_s() <= 0.0):
            taken, self._spans = self._spans, []
        try:
            yield packed_rows(taken, is_last=is_last) if taken or is_last else b""
        except BaseException:
            if taken:
                # In front, because spans that were noted meanwhile are younger.
                self._spans, self._since = taken + self._spans, since
            raise
