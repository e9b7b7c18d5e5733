"""Facts of a run: numbers of each task and each worker, updated with spans as they arrive."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from dagnb.graph.brief import brief
from dagnb.trace.trace import STARTING, Phase, Span
from dagnb.views.lanes import start_kind
from dagnb.worker_label import worker_text

MEASURED = (Phase.QUEUE, Phase.FETCH, Phase.LOAD, Phase.RUN, Phase.DUMP, Phase.STORE, Phase.COMMIT)
"""the phases of a task, in the order of `Fact.phases_s`; PHASES in run_state.js must be the same"""

Row = list[int | float | str | None]
"""Data of a task for the browser, by position: task, attempt, worker in words, begin (milliseconds
after submission), the MEASURED phases in milliseconds (None for a phase that did not happen), bytes
read, bytes written. ROW in run_state.js must name the same positions."""


@dataclass(slots=True)
class Fact:
    """The latest attempt of one task.

    begin_s: epoch seconds. phases_s: seconds of each MEASURED phase, None when it did not happen.
    n_read, n_written: bytes.
    """

    attempt: int = 0
    worker: str = ""
    begin_s: float | None = None
    phases_s: list[float | None] = field(default_factory=lambda: [None] * len(MEASURED))
    n_read: int = 0
    n_written: int = 0

    __repr__ = brief

    def add(self, span: Span) -> None:
        """Take in a span of this attempt."""
        position = MEASURED.index(span.phase)
        # A span is negative when the worker's clock was set back meanwhile.
        self.phases_s[position] = (self.phases_s[position] or 0.0) + max(0.0, span.duration_s)

        # A queued task has no worker yet.
        if span.phase is not Phase.QUEUE:
            if self.begin_s is None or span.begin_s < self.begin_s:  # spans may arrive out of order
                self.begin_s = span.begin_s
            self.worker = span.worker
        if span.phase is Phase.FETCH:
            self.n_read += span.n_bytes
        elif span.phase in {Phase.STORE, Phase.COMMIT}:  # small values travel with the commit
            self.n_written += span.n_bytes

    @property
    def run_s(self) -> float | None:
        """Seconds that the function ran; None when it did not."""
        return self.phases_s[MEASURED.index(Phase.RUN)]


class RunFacts:
    """The facts of all tasks and workers of a run."""

    def __init__(self, submitted_s: float) -> None:
        """Begin without any facts. submitted_s: epoch seconds."""
        self._submitted_s = submitted_s
        self.of: dict[int, Fact] = {}
        self.starts: dict[str, tuple[str, float]] = {}
        """worker -> "cold" or "warm" for its latest start, and the seconds that it took"""

    def add(self, spans: Iterable[Span]) -> set[int]:
        """Take in spans. Returns the tasks whose facts changed."""
        touched = set()
        for span in spans:
            if span.phase in STARTING:
                self._add_start(span)
            elif span.task >= 0 and span.phase in MEASURED:
                fact = self.of.get(span.task)
                if fact is None or span.attempt > fact.attempt:
                    fact = self.of[span.task] = Fact(attempt=span.attempt)
                if span.attempt == fact.attempt:  # spans of an older attempt may arrive late
                    fact.add(span)
                    touched.add(span.task)
        return touched

    def _add_start(self, span: Span) -> None:
        so_far_s = 0.0
        # An INVOKE span begins another start: seconds known before it are of an earlier one.
        if span.phase is not Phase.INVOKE and span.worker in self.starts:
            so_far_s = self.starts[span.worker][1]
        self.starts[span.worker] = (start_kind(span), so_far_s + max(0.0, span.duration_s))

    def row(self, task: int) -> Row:
        """The row of a task that has facts."""
        fact = self.of[task]
        worker = worker_text(fact.worker)
        begin = _ms(fact.begin_s, self._submitted_s)
        phases = map(_ms, fact.phases_s)
        return [task, fact.attempt, worker, begin, *phases, fact.n_read, fact.n_written]


def _ms(seconds: float | None, since_s: float = 0.0) -> int | float | None:
    """Milliseconds since a moment, as fine as readers need: hundredths below 100, else whole."""
    if seconds is None:
        return None
    ms = (seconds - since_s) * 1e3
    return round(ms) if ms >= 100 else round(ms, 2)
