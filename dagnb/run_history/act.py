"""The acts of a platform that a run measured, whatever its functions are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dagnb.graph.resources import Resources
from dagnb.trace.span import STARTING, Phase
from dagnb.trace.starts import worker_starts
from dagnb.trace.trace import Trace

# Transfers, round trips, and the client's own acts.
_PLATFORM_PHASES = frozenset(
    {Phase.FETCH, Phase.STORE, Phase.COMMIT, Phase.SUBMIT, Phase.RETURN, Phase.PROGRAM}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One act of a platform.

    detail: 'cold' or 'warm' for parts of a start, else ''. An INVOKE stands for a whole start.
    n_bytes: transferred; of a COMMIT, those that the task read and returned. seconds: >= 0.
    """

    phase: Phase
    detail: str
    resources: Resources
    n_bytes: int
    seconds: float


def acts(trace: Trace, resources: Sequence[Resources]) -> Iterator[Act]:
    """Yields the acts of a trace: transfers, round trips, starts and their parts.

    resources: of each step, by position.
    """
    resources_of: dict[str, Resources] = {}
    for span in trace.spans:
        if span.task >= 0 and span.worker:
            resources_of[span.worker] = resources[span.task]

    def act(phase: Phase, worker: str, seconds: float, n_bytes: int = 0, detail: str = "") -> Act:
        worker_resources = resources_of.get(worker, Resources())
        return Act(
            phase=phase, detail=detail, resources=worker_resources, n_bytes=n_bytes, seconds=seconds
        )

    held = _held_bytes(trace)
    for span in trace.spans:
        if span.phase not in _PLATFORM_PHASES:
            continue
        # With a task, the span is the fetch of content for that task, which is no part of a start.
        if span.phase is Phase.PROGRAM and span.task >= 0:
            continue
        n_bytes = held.get(span.task, 0) if span.phase is Phase.COMMIT else span.n_bytes
        # Clocks of two machines may disagree by more than the act took.
        yield act(span.phase, span.worker, max(0.0, span.duration_s), n_bytes)

    for start in worker_starts(trace):
        # Reading the program is an act of its own, which the loop above has yielded.
        whole_s = start.total_s - start.acts.get(Phase.PROGRAM, 0.0)
        yield act(Phase.INVOKE, start.worker, whole_s, detail=start.detail)
        for phase, seconds in start.acts.items():
            if phase in STARTING and phase is not Phase.INVOKE:
                yield act(phase, start.worker, seconds, detail=start.detail)


def _held_bytes(trace: Trace) -> dict[int, int]:
    """Returns the bytes that each task read and returned: a commit frees them."""
    held: dict[int, int] = {}
    for span in trace.spans:
        if span.phase in (Phase.LOAD, Phase.DUMP):
            held[span.task] = held.get(span.task, 0) + span.n_bytes
    return held
