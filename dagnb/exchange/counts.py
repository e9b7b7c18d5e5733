"""How much is going on at a time: sums of what overlaps, as steps of a curve."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from dagnb.exchange.lanes import ticks
from dagnb.trace.span import MOVING, Phase, Span
from dagnb.trace.trace import Trace


def active_workers(trace: Trace) -> list[tuple[int, int]]:
    """(nanoseconds since the submission, workers that are at a task from then on), at each change."""
    weighted = []
    for worker, spans in trace.by_worker.items():
        if worker:
            weighted += [(begin, end, 1) for begin, end in _union(spans, trace.submitted_s)]
    return _curve(weighted)


def moving_bytes(trace: Trace) -> list[tuple[int, int]]:
    """(nanoseconds since the submission, bytes on their way to or from the store from then on), at each change."""
    return _curve(
        (*ticks(s, trace.submitted_s), s.n_bytes) for s in trace.spans if s.phase in MOVING
    )


def _union(spans: Sequence[Span], submitted_s: float) -> list[tuple[int, int]]:
    """The intervals in which a worker is at some task; those that touch are one."""
    merged: list[tuple[int, int]] = []
    busy = (span for span in spans if span.task >= 0 and span.phase is not Phase.QUEUE)
    for begin, end in sorted(ticks(span, submitted_s) for span in busy):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged


def _curve(weighted: Iterable[tuple[int, int, int]]) -> list[tuple[int, int]]:
    """The sum of the weights of what is going on, at each moment it changes; from (begin, end, weight)."""
    changes: dict[int, int] = defaultdict(int)
    for begin, end, weight in weighted:
        changes[begin] += weight
        changes[end] -= weight
    level, steps = 0, []
    for at in sorted(changes):
        if changes[at]:
            level += changes[at]
            steps.append((at, level))
    return steps
