"""What a run teaches of the platform it ran on, whatever its functions are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dagnb.graph.resources import Resources
from dagnb.trace.span import STARTING, Phase
from dagnb.trace.trace import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What one act of a platform took. detail: 'cold' or 'warm' of a start, whose phase is INVOKE for all its acts."""

    phase: Phase
    detail: str
    resources: Resources
    n_bytes: int
    seconds: float


def acts(trace: Trace, resources: Sequence[Resources]) -> Iterator[Act]:
    """What a trace teaches of its platform: starts as a whole, transfers, round trips, the client's own acts."""
    of_worker = {span.worker: resources[span.task] for span in trace.spans if span.task >= 0 and span.worker}
    held: dict[int, int] = {}  # what a task read and gave, and lets go of when it was handed over
    for span in trace.spans:
        if span.phase in (Phase.LOAD, Phase.DUMP):
            held[span.task] = held.get(span.task, 0) + span.n_bytes
    begun: dict[str, list[float]] = {}
    details: dict[str, str] = {}
    for span in trace.spans:
        if span.phase in STARTING:
            begun.setdefault(span.worker, []).extend((span.begin_s, span.end_s))
            details.setdefault(span.worker, span.detail)
        elif span.phase in (Phase.FETCH, Phase.STORE, Phase.COMMIT, Phase.SUBMIT, Phase.RETURN, Phase.PROGRAM):
            where = of_worker.get(span.worker, Resources())
            seconds = max(0.0, span.duration_s)
            n_bytes = held.get(span.task, 0) if span.phase is Phase.COMMIT else span.n_bytes
            yield Act(phase=span.phase, detail="", resources=where, n_bytes=n_bytes, seconds=seconds)
    for worker, moments in begun.items():
        where = of_worker.get(worker, Resources())
        seconds = max(moments) - min(moments)
        yield Act(phase=Phase.INVOKE, detail=details[worker], resources=where, n_bytes=0, seconds=seconds)
