"""Which steps made a run as long as it was: the chain that a plan image draws bold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dagnb.planning.plan import Plan
from dagnb.trace.span import STARTING, Phase
from dagnb.trace.trace import Trace

_NOT_BUSY = (Phase.SUBMIT, *STARTING, Phase.QUEUE, Phase.RETURN)


@dataclass(frozen=True, slots=True)
class Window:
    """When a worker was busy with a step, all its attempts, seconds after submission."""

    begin_s: float
    end_s: float


def windows(trace: Trace) -> dict[int, Window]:
    """step -> its window; steps that nobody began are missing."""
    found: dict[int, Window] = {}
    for span in trace.spans:
        if span.task < 0 or span.phase in _NOT_BUSY:
            continue
        begin, end = span.begin_s - trace.submitted_s, span.end_s - trace.submitted_s
        known = found.get(span.task)
        found[span.task] = Window(min(begin, known.begin_s), max(end, known.end_s)) if known else Window(begin, end)
    return found


def critical_path(plan: Plan, trace: Trace) -> tuple[int, ...]:
    """The critical steps of a plan that ran as the trace says: see critical_steps."""
    return critical_steps([step.upstream for step in plan.steps], plan.sinks, trace)


def critical_steps(upstream: Sequence[Sequence[int]], sinks: Sequence[int], trace: Trace) -> tuple[int, ...]:
    """Steps from the first to the sink that ended last, each begun no sooner because of the one before it.

    That one is the upstream step that ended last, or what its worker did just before if that ended later still.
    """
    busy = windows(trace)
    ends = [step for step in sinks if step in busy]
    if not ends:
        return ()
    before = _before(trace, busy)
    path = [max(ends, key=lambda step: busy[step].end_s)]
    while True:
        here = path[-1]
        causes = [step for step in upstream[here] if step in busy]
        if here in before:
            causes.append(before[here])
        causes = [step for step in causes if busy[step].begin_s < busy[here].begin_s]
        if not causes:
            return tuple(reversed(path))
        path.append(max(causes, key=lambda step: busy[step].end_s))


def _before(trace: Trace, busy: Mapping[int, Window]) -> dict[int, int]:
    """step -> the step its worker ran just before it."""
    found: dict[int, int] = {}
    last: dict[str, int] = {}
    for span in trace.spans:
        if span.phase is Phase.RUN and span.task in busy:
            previous = last.get(span.worker)
            if previous is not None and previous != span.task:
                found[span.task] = previous
            last[span.worker] = span.task
    return found
