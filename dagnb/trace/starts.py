"""Instances that came to a worker, found in a trace: started for it, or only woken, act by act."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from dagnb.graph.brief import brief
from dagnb.trace.span import STARTING, Phase, Span
from dagnb.trace.trace import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStart:
    """From the demand until registered. detail: 'cold' or 'warm'. is_start: not one that was there and was only woken.

    acts: phase -> seconds; what lies between two counts to the earlier one. PROGRAM is among them where the program was
    read on the way.
    """

    worker: str
    detail: str
    is_start: bool
    begin_s: float
    acts: Mapping[Phase, float]

    __repr__ = brief

    @property
    def total_s(self) -> float:
        """All acts."""
        return sum(self.acts.values())


def comings(trace: Trace) -> tuple[WorkerStart, ...]:
    """In order of demand; of those at once, warm ones first. O(spans log spans)."""
    by_worker: dict[str, list[list[Span]]] = defaultdict(list)
    for span in sorted(trace.spans, key=lambda span: (span.begin_s, span.end_s)):
        if span.phase in STARTING or (span.phase is Phase.PROGRAM and span.task < 0):
            _goes_on(by_worker[span.worker], span).append(span)
    found = (spans for of_worker in by_worker.values() for spans in of_worker)
    ordered = sorted(
        found, key=lambda spans: (round(spans[0].begin_s, 6), spans[0].detail != "warm")
    )
    return tuple(map(_coming, ordered))


def starts(trace: Trace) -> tuple[WorkerStart, ...]:
    """The comings that were starts."""
    return tuple(coming for coming in comings(trace) if coming.is_start)


def _goes_on(comings: list[list[Span]], span: Span) -> list[Span]:
    """The coming that the span is the next act of: two instances may come to one worker, one lent away.

    Of those alike, the one whose last act ended nearest before; a new one where there is none.
    """
    if span.phase is not Phase.INVOKE:
        alike = [
            spans
            for spans in comings
            if spans[0].detail == span.detail and all(one.phase is not span.phase for one in spans)
        ]
        if alike:
            return min(alike, key=lambda spans: abs(span.begin_s - spans[-1].end_s))
    comings.append([])
    return comings[-1]


def _coming(spans: list[Span]) -> WorkerStart:
    """Whoever was only woken left a warm INVOKE and nothing else."""
    ends = [span.begin_s for span in spans[1:]] + [max(span.end_s for span in spans)]
    acts: dict[Phase, float] = defaultdict(float)
    for span, end in zip(spans, ends, strict=True):
        acts[span.phase] += max(0.0, end - span.begin_s)
    return WorkerStart(
        worker=spans[0].worker,
        detail=spans[0].detail or "cold",
        is_start=len(spans) > 1 or spans[0].detail == "cold",
        begin_s=spans[0].begin_s,
        acts=dict(acts),
    )
