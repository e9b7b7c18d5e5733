"""The starts of workers in a trace, act by act."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from dagnb.graph.brief import brief
from dagnb.trace.trace import Phase, Span, Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStart:
    """The time from the demand for an instance until it registered as a worker.

    detail: 'cold' or 'warm'. was_woken: the instance existed before, waited for work, and was
    woken.
    acts: phase -> seconds; a gap between two acts is counted to the earlier one. PROGRAM is among
      them if the program was read before the registration.
    """

    worker: str
    detail: str
    was_woken: bool
    begin_s: float
    acts: Mapping[Phase, float]

    __repr__ = brief

    @property
    def total_s(self) -> float:
        """Seconds of all acts."""
        return sum(self.acts.values())


def worker_starts(trace: Trace, *, include_woken: bool = False) -> tuple[WorkerStart, ...]:
    """Returns the starts in order of demand; of simultaneous ones the warm first.

    O(spans log spans). include_woken: also instances that waited for work and were woken.
    """
    by_worker: dict[str, list[list[Span]]] = defaultdict(list)
    for span in sorted(trace.spans, key=lambda span: (span.begin_s, span.end_s)):
        if span.is_start or (span.phase is Phase.PROGRAM and span.task < 0):
            _start_of(span, by_worker[span.worker]).append(span)

    starts = []
    for starts_of_worker in by_worker.values():
        for spans in starts_of_worker:
            start = _worker_start(spans)
            if include_woken or not start.was_woken:
                starts.append(start)
    starts.sort(key=_by_demand)
    return tuple(starts)


def _by_demand(start: WorkerStart) -> tuple[float, bool]:
    # Rounded to a microsecond: equal moments differ a little after floating point sums.
    return round(start.begin_s, 6), start.detail != "warm"


def _start_of(span: Span, starts: list[list[Span]]) -> list[Span]:
    """Returns the start that a span is the next act of; adds a new one if there is none.

    starts: of the same worker. Two instances may start for one worker at a time, because the first
    one was given to another worker meanwhile.
    """
    nearest: list[Span] | None = None
    if span.phase is not Phase.INVOKE:  # each start begins with its own INVOKE
        for spans in starts:
            is_alike = spans[0].detail == span.detail
            if not is_alike or any(act.phase is span.phase for act in spans):
                continue
            gap_s = abs(span.begin_s - spans[-1].end_s)
            if nearest is None or gap_s < abs(span.begin_s - nearest[-1].end_s):
                nearest = spans
    if nearest is None:
        nearest = []
        starts.append(nearest)
    return nearest


def _worker_start(spans: list[Span]) -> WorkerStart:
    ends = [span.begin_s for span in spans[1:]]
    ends.append(max(span.end_s for span in spans))
    acts: dict[Phase, float] = defaultdict(float)
    for span, end in zip(spans, ends, strict=True):
        acts[span.phase] += max(0.0, end - span.begin_s)
    return WorkerStart(
        worker=spans[0].worker,
        detail=spans[0].detail or "cold",
        # A worker that was woken rather than started has one INVOKE span, marked warm.
        was_woken=len(spans) == 1 and spans[0].detail != "cold",
        begin_s=spans[0].begin_s,
        acts=dict(acts),
    )
