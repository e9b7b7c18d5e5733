"""What made a run as long as it was: the chain of steps that pictures draw bold, and the makespan cut by reasons."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from dagnb.planning.plan import Plan
from dagnb.trace.span import STARTING, Phase, Span
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
        found[span.task] = (
            Window(min(begin, known.begin_s), max(end, known.end_s))
            if known
            else Window(begin, end)
        )
    return found


def critical_path(plan: Plan, trace: Trace) -> tuple[int, ...]:
    """The critical steps of a plan that ran as the trace says: see critical_steps."""
    return critical_steps([step.upstream for step in plan.steps], plan.sinks, trace)


def critical_steps(
    upstream: Sequence[Sequence[int]], sinks: Sequence[int], trace: Trace
) -> tuple[int, ...]:
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


class Reason(StrEnum):
    """What a stretch of the makespan went into.

    INPUT: values were fetched and unpickled. WORKER: the task was ready, its worker busy with others. START: its worker
    started, or read what describes the run. UPLOAD: the result was pickled and stored. HANDOVER: one task was marked
    done, and whoever takes the next was told. OTHER: the pause after a failed attempt, or nobody knows.
    """

    RUN = "run"
    INPUT = "input"
    WORKER = "busy worker"
    START = "start-up"
    UPLOAD = "upload"
    HANDOVER = "hand-over"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of the makespan, seconds after submission, and why the run was no further at its end.

    task: the step that ran, or was waited for; -1 where nobody knows which.
    """

    task: int
    cause: Reason
    begin_s: float
    end_s: float

    @property
    def duration_s(self) -> float:
        """Seconds, > 0."""
        return self.end_s - self.begin_s


_OWN = {
    Phase.RUN: Reason.RUN,
    Phase.DUMP: Reason.UPLOAD,
    Phase.STORE: Reason.UPLOAD,
    Phase.FETCH: Reason.INPUT,
    Phase.LOAD: Reason.INPUT,
    Phase.PROGRAM: Reason.START,
    Phase.COMMIT: Reason.HANDOVER,
}
"""what an act of the step itself says; where several overlap, the first here"""
_ORDER = {phase: place for place, phase in enumerate(_OWN)}


def explained(
    upstream: Sequence[Sequence[int]], sinks: Sequence[int], trace: Trace
) -> tuple[Segment, ...]:
    """The makespan, cut by what held the run up: back from the sink that ended last, over the inputs it waited for.

    The segments follow one another without gaps from 0 to the makespan. Unlike critical_steps, a task that waited for
    a busy worker is a segment of its own, which says how much more workers could save. O(spans log spans).
    """
    busy, acts = windows(trace), _Acts.of(trace)
    cursor = trace.makespan_s
    ends = [step for step in sinks if step in busy]
    here = max(ends, key=lambda step: busy[step].end_s) if ends else None
    found: list[Segment] = []
    while here is not None and cursor > 0:
        before = [u for u in upstream[here] if u in busy and busy[u].begin_s < busy[here].begin_s]
        last = max(before, key=lambda step: busy[step].end_s) if before else None
        begin = min(cursor, max(0.0, busy[last].end_s)) if last is not None else 0.0
        found += reversed(_cut(here, begin, cursor, acts, is_told=last is not None))
        cursor, here = begin, last
    if cursor > 0:
        found.append(Segment(-1, Reason.OTHER, 0.0, cursor))
    return tuple(reversed(found))


def shares(segments: Iterable[Segment]) -> dict[Reason, float]:
    """reason -> its share of the makespan, 0 to 1, the largest first; nothing for a run without any length."""
    totals: dict[Reason, float] = defaultdict(float)
    for segment in segments:
        totals[segment.cause] += segment.duration_s
    whole = sum(totals.values())
    return {
        reason: totals[reason] / whole for reason in sorted(totals, key=lambda r: (-totals[r], r))
    }


@dataclass(frozen=True, slots=True)
class _Acts:
    """Spans by step and by worker, the waiting of tasks apart; times are seconds after submission."""

    of_step: Mapping[int, Sequence[Span]]
    of_worker: Mapping[str, Sequence[Span]]
    begins: Mapping[str, Sequence[float]]
    zero_s: float

    @classmethod
    def of(cls, trace: Trace) -> _Acts:
        of_step: dict[int, list[Span]] = defaultdict(list)
        of_worker: dict[str, list[Span]] = defaultdict(list)
        for span in trace.spans:
            if span.task >= 0:
                of_step[span.task].append(span)
            if span.phase is not Phase.QUEUE and span.worker:
                of_worker[span.worker].append(span)
        begins = {worker: [span.begin_s for span in spans] for worker, spans in of_worker.items()}
        return cls(of_step, of_worker, begins, trace.submitted_s)

    def place(self, span: Span) -> tuple[float, float]:
        """When it was."""
        return span.begin_s - self.zero_s, span.end_s - self.zero_s

    def during(self, worker: str, begin_s: float, end_s: float) -> Iterator[Span]:
        """What the worker did between two moments, by begin; it does one thing after the other."""
        spans, begins = self.of_worker.get(worker, ()), self.begins.get(worker, ())
        first = max(0, bisect_left(begins, begin_s + self.zero_s) - 1)
        yield from spans[first : bisect_left(begins, end_s + self.zero_s)]


def _cut(step: int, begin: float, end: float, acts: _Acts, *, is_told: bool) -> list[Segment]:
    """One step's part of the makespan, ascending. is_told: something handed the step over at its begin."""
    spans = acts.of_step.get(step, ())
    places = [(span, *acts.place(span)) for span in spans]
    own = [place for place in places if place[0].phase in _OWN]
    first = min((lo for _, lo, _ in own), default=end)
    found: list[tuple[Reason, float, float]] = []
    edges = {begin, end, *(min(end, max(begin, edge)) for place in places for edge in place[1:])}
    for lo, hi in pairwise(sorted(edges)):
        here = [span.phase for span, b, e in places if b <= lo and hi <= e]
        done = [phase for phase in here if phase in _OWN]
        if done:
            found.append((_OWN[min(done, key=lambda phase: _ORDER[phase])], lo, hi))
            continue
        told = (
            Reason.HANDOVER if hi <= first and (is_told or len(own) < len(places)) else Reason.OTHER
        )
        idle = Reason.WORKER if here else told  # ready, and nobody took it: they were all busy
        found += _waited(step, own[0][0].worker if own else "", lo, hi, acts, idle)
    return _joined(step, found)


def _waited(
    step: int, worker: str, begin: float, end: float, acts: _Acts, idle: Reason
) -> Iterator[tuple[Reason, float, float]]:
    """What a step waited for while it did nothing itself. idle: what it was where its worker rested."""
    at = begin
    for span in acts.during(worker, begin, end):
        lo, hi = acts.place(span)
        if hi <= at or span.task == step:
            continue
        is_start = span.phase in STARTING or (span.phase is Phase.PROGRAM and span.task < 0)
        reason = Reason.START if is_start else Reason.WORKER
        if at < lo:
            yield (
                (reason if is_start else idle),
                at,
                lo,
            )  # before a start: a place for it was waited for
        yield reason, max(at, lo), min(end, hi)
        at = min(end, hi)
    if at < end:
        yield idle, at, end


def _joined(step: int, parts: Iterable[tuple[Reason, float, float]]) -> list[Segment]:
    """Neighbours of one reason as one."""
    found: list[Segment] = []
    for reason, begin, end in parts:
        if found and found[-1].cause is reason:
            found[-1] = Segment(step, reason, found[-1].begin_s, end)
        elif begin < end:
            found.append(Segment(step, reason, begin, end))
    return found
