"""What a run teaches of the platform it ran on, whatever its functions are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dagnb.graph.resources import Resources
from dagnb.trace.span import STARTING, Phase
from dagnb.trace.starts import worker_starts
from dagnb.trace.trace import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What one act of a platform took. detail: 'cold' or 'warm' of a start; INVOKE stands for the whole of it."""

    phase: Phase
    detail: str
    resources: Resources
    n_bytes: int
    seconds: float


def acts(trace: Trace, resources: Sequence[Resources]) -> Iterator[Act]:
    """What a trace teaches of its platform: starts and their acts, transfers, round trips, the client's own acts."""
    of_worker = {
        span.worker: resources[span.task] for span in trace.spans if span.task >= 0 and span.worker
    }
    held: dict[int, int] = {}  # what a task read and gave, and lets go of when it was handed over
    for span in trace.spans:
        if span.phase in (Phase.LOAD, Phase.DUMP):
            held[span.task] = held.get(span.task, 0) + span.n_bytes
    for span in trace.spans:
        if span.phase is Phase.PROGRAM and span.task >= 0:
            continue  # content that one task needed is no part of a start
        if span.phase in (
            Phase.FETCH,
            Phase.STORE,
            Phase.COMMIT,
            Phase.SUBMIT,
            Phase.RETURN,
            Phase.PROGRAM,
        ):
            where = of_worker.get(span.worker, Resources())
            seconds = max(0.0, span.duration_s)
            n_bytes = held.get(span.task, 0) if span.phase is Phase.COMMIT else span.n_bytes
            yield Act(
                phase=span.phase, detail="", resources=where, n_bytes=n_bytes, seconds=seconds
            )
    for start in worker_starts(trace):
        where = of_worker.get(start.worker, Resources())
        seconds = start.total_s - start.acts.get(Phase.PROGRAM, 0.0)
        yield Act(
            phase=Phase.INVOKE, detail=start.detail, resources=where, n_bytes=0, seconds=seconds
        )
        for phase, seconds in start.acts.items():
            if phase in STARTING and phase is not Phase.INVOKE:
                yield Act(
                    phase=phase, detail=start.detail, resources=where, n_bytes=0, seconds=seconds
                )
