"""The acts of a platform in a trace: transfers, round trips, starts of workers, imports.

They are the evidence for the costs of a platform, whatever the functions are that run on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dagnb.graph.resources import Resources
from dagnb.trace.starts import WorkerStart, worker_starts
from dagnb.trace.trace import STARTING, Phase, Trace

# Transfers, round trips, and the client's own acts.
_PLATFORM_PHASES = frozenset(
    {Phase.FETCH, Phase.STORE, Phase.COMMIT, Phase.SUBMIT, Phase.RETURN, Phase.PROGRAM}
)


AGENT_GONE = "agent gone"
"""the detail of a cold start for which the agent had to be started, too"""

KINDS_OF_START = ("cold", "warm", AGENT_GONE)
"""the details of the parts of starts"""

# Starts that are asked for so soon after the submission are those of a run's first workers.
_FIRST_S = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One act of a platform.

    detail: 'cold', 'warm' or AGENT_GONE for parts of a start; the lasting hash of a function, for
    what its tasks imported; else ''. An INVOKE stands for a whole start.
    n_bytes: transferred; of a COMMIT, those that the task read and returned. seconds: >= 0.
    """

    phase: Phase
    detail: str
    resources: Resources
    n_bytes: int
    seconds: float

    @property
    def imports_for(self) -> str:
        """The function whose tasks imported; '' for all other acts."""
        if self.phase is not Phase.IMPORT or self.detail in KINDS_OF_START:
            return ""
        return self.detail

    @property
    def kind(self) -> tuple[Phase, str]:
        """The phase, and whether a start was cold: acts of one kind are stored up to ACTS."""
        # The functions of a notebook are new ones after each change, so they are no kinds.
        return self.phase, "" if self.imports_for else self.detail


def acts(
    trace: Trace, resources: Sequence[Resources], *, is_agent_gone: bool = False
) -> Iterator[Act]:
    """Yields the acts of a trace: transfers, round trips, starts and their parts.

    resources: of each step, by position. is_agent_gone: whether the agent was started for the run.
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
        detail = start.detail
        is_first = start.begin_s <= trace.submitted_s + _FIRST_S
        if is_agent_gone and is_first and detail == "cold":
            detail = AGENT_GONE
        for phase, seconds in _start_parts(start):
            yield act(phase, start.worker, seconds, detail=detail)


def _start_parts(start: WorkerStart) -> Iterator[tuple[Phase, float]]:
    """Yields INVOKE with the seconds of the whole start, then its other parts."""
    # Reading the program is an act of its own.
    yield Phase.INVOKE, start.total_s - start.acts.get(Phase.PROGRAM, 0.0)
    for phase, seconds in start.acts.items():
        if phase in STARTING and phase is not Phase.INVOKE:
            yield phase, seconds


def import_acts(trace: Trace, functions: Sequence[str]) -> Iterator[Act]:
    """Yields an act for each function: seconds of its imports in a worker that calls it, the mean.

    Of two functions that need one package, the one that a worker calls first imports it: means over
    the workers add up to what a worker imports. No acts if no task imported anything. If one did,
    a function without imports has an act of 0 s: another one has imported what it needs.

    functions: lasting hash of each step's function, by position; none where they are unknown.
    """
    seconds: dict[str, float] = {}
    workers: dict[str, set[str]] = {}
    for span in trace.spans:
        if not 0 <= span.task < len(functions) or not functions[span.task]:
            continue
        function = functions[span.task]
        if span.phase is Phase.IMPORT:
            seconds[function] = seconds.get(function, 0.0) + max(0.0, span.duration_s)
        elif span.phase is Phase.RUN:
            workers.setdefault(function, set()).add(span.worker)
    if not seconds:
        return
    for function, callers in workers.items():
        yield Act(
            phase=Phase.IMPORT,
            detail=function,
            resources=Resources(),
            n_bytes=0,
            seconds=seconds.get(function, 0.0) / len(callers),
        )


def _held_bytes(trace: Trace) -> dict[int, int]:
    """Returns the bytes that each task read and returned: a commit frees them."""
    held: dict[int, int] = {}
    for span in trace.spans:
        if span.phase in (Phase.LOAD, Phase.DUMP):
            held[span.task] = held.get(span.task, 0) + span.n_bytes
    return held
