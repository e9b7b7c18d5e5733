"""What each task and each worker did, in a few numbers, read from spans as they arrive."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from dagnb.graph.brief import brief
from dagnb.trace.span import STARTING, Phase, Span

MEASURED = (Phase.QUEUE, Phase.FETCH, Phase.LOAD, Phase.RUN, Phase.DUMP, Phase.STORE, Phase.COMMIT)
"""the phases of a task, in the order of `Row.phases_s`"""

Row = list[int | float | str | None]
"""For the browser: task, attempt, worker, begin (milliseconds after submission), the MEASURED phases in milliseconds
(None: there was none), bytes read, bytes written"""


@dataclass(slots=True)
class Fact:
    """The latest attempt of one task. phases_s: one a MEASURED phase, None when it did not happen."""

    attempt: int = 0
    worker: str = ""
    begin_s: float | None = None
    phases_s: list[float | None] = field(default_factory=lambda: [None] * len(MEASURED))
    n_read: int = 0
    n_written: int = 0

    __repr__ = brief

    def add(self, span: Span) -> None:
        """Take in a span of this attempt."""
        place = MEASURED.index(span.phase)
        self.phases_s[place] = (self.phases_s[place] or 0.0) + max(0.0, span.duration_s)
        if span.phase is not Phase.QUEUE:
            self.begin_s = span.begin_s if self.begin_s is None else min(self.begin_s, span.begin_s)
            self.worker = span.worker
        if span.phase is Phase.FETCH:
            self.n_read += span.n_bytes
        elif span.phase in {Phase.STORE, Phase.COMMIT}:
            self.n_written += span.n_bytes

    @property
    def run_s(self) -> float | None:
        """How long the function ran."""
        return self.phases_s[MEASURED.index(Phase.RUN)]


class RunFacts:
    """Of all tasks and workers. Times are seconds after submission."""

    def __init__(self, submitted_s: float) -> None:
        """Nothing is known yet."""
        self._zero_s = submitted_s
        self.of: dict[int, Fact] = {}
        self.starts: dict[str, tuple[str, float]] = {}
        """worker -> how its latest start was, "cold" or "warm", and how many seconds it took"""

    def add(self, spans: Iterable[Span]) -> set[int]:
        """Take in spans. Returns the tasks they were about."""
        touched = set()
        for span in spans:
            if span.phase in STARTING:
                _, so_far_s = (
                    self.starts.get(span.worker, ("", 0.0))
                    if span.phase is not Phase.INVOKE
                    else ("", 0.0)
                )
                took_s = so_far_s + max(0.0, span.duration_s)
                self.starts[span.worker] = ("cold" if "cold" in span.detail else "warm", took_s)
            elif span.task >= 0 and span.phase in MEASURED:
                fact = self.of.get(span.task)
                if fact is None or span.attempt > fact.attempt:
                    fact = self.of[span.task] = Fact(attempt=span.attempt)
                if span.attempt == fact.attempt:
                    fact.add(span)
                    touched.add(span.task)
        return touched

    def row(self, task: int) -> Row:
        """The row of a task of which something is known."""
        fact = self.of[task]
        begin = None if fact.begin_s is None else _ms(fact.begin_s - self._zero_s)
        phases = [None if seconds is None else _ms(seconds) for seconds in fact.phases_s]
        return [task, fact.attempt, fact.worker, begin, *phases, fact.n_read, fact.n_written]


def _ms(seconds: float) -> int | float:
    """Milliseconds, no finer than a reader cares for: whole from 100 on, hundredths below."""
    ms = seconds * 1e3
    return round(ms) if ms >= 100 else round(ms, 2)
