"""Explains the makespan of a run: its critical path, and the makespan cut by reasons.

Both functions go back in time from the sink that ended last:

    critical_steps   from each step to the one that kept it from beginning sooner: the upstream step
                     that ended last, or the step that its worker ran just before, whichever is
                     later
    explained        from each step to the upstream step that ended last; the stretch between the
                     two ends is cut into segments, each with a reason

    upstream ends        the step runs                  the step ends
         |--- busy worker ---|-- input --|---- run ----|- upload -|
         |     (QUEUE)          (FETCH, LOAD)  (RUN)    (DUMP, STORE)

Pictures draw the critical steps bold. The shares of the reasons say what could make a run shorter:
more workers, smaller values, warm starts.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby, pairwise
from operator import itemgetter

from dagnb.graph.brief import brief
from dagnb.planning.plan import Plan
from dagnb.trace.lost_attempts import LostAttempts
from dagnb.trace.trace import Phase, Span, Trace


@dataclass(frozen=True, slots=True)
class Window:
    """The time in which a worker was busy with a step, all attempts; seconds after submission."""

    begin_s: float
    end_s: float


def windows(trace: Trace) -> dict[int, Window]:
    """Returns step -> its window; steps that never began are missing."""
    busy: dict[int, Window] = {}
    for span in trace.spans:
        if span.task < 0 or span.phase is Phase.QUEUE:
            continue
        begin, end = span.begin_s - trace.submitted_s, span.end_s - trace.submitted_s
        known = busy.get(span.task)
        if known is not None:
            begin, end = min(begin, known.begin_s), max(end, known.end_s)
        busy[span.task] = Window(begin, end)
    return busy


def critical_path(plan: Plan, trace: Trace) -> tuple[int, ...]:
    """Returns the critical steps of a plan that ran as the trace says; see critical_steps."""
    return critical_steps([step.upstream for step in plan.steps], plan.sinks, trace)


def critical_steps(
    upstream: Sequence[Sequence[int]], sinks: Sequence[int], trace: Trace
) -> tuple[int, ...]:
    """Returns steps up to the sink that ended last; each held up the next one."""
    busy = windows(trace)
    ended = [step for step in sinks if step in busy]
    if not ended:
        return ()

    before = _previous_on_worker(trace, busy)
    step = max(ended, key=lambda step: busy[step].end_s)
    path = [step]
    while True:
        causes = [*upstream[step]]
        if step in before:
            causes.append(before[step])
        # Only steps that began sooner: two steps with several attempts on one worker can each come
        # before the other, and the loop would never end.
        begin_s = busy[step].begin_s
        causes = [cause for cause in causes if cause in busy and busy[cause].begin_s < begin_s]
        if not causes:
            return tuple(reversed(path))
        step = max(causes, key=lambda cause: busy[cause].end_s)
        path.append(step)


def _previous_on_worker(trace: Trace, busy: Mapping[int, Window]) -> dict[int, int]:
    """Returns step -> the step that its worker ran just before it."""
    before: dict[int, int] = {}
    last: dict[str, int] = {}
    for span in trace.spans:
        if span.phase is Phase.RUN and span.task in busy:
            previous = last.get(span.worker)
            if previous is not None and previous != span.task:
                before[span.task] = previous
            last[span.worker] = span.task
    return before


class Reason(StrEnum):
    """The reason for a stretch of the makespan.

    RUN: the function of a task ran.
    INPUT: values were fetched and unpickled.
    WORKER: the task was ready, but the workers were busy with others.
    START: its worker started, read the description of the run, or imported modules.
    UPLOAD: the result was pickled and stored.
    HANDOVER: one task was marked as done, and a worker learnt of the next.
    FAILED: an attempt ran that came to nothing.
    BACK_OFF: the pause after such an attempt, until the task was ready again.
    OTHER: unknown.
    """

    RUN = "run"
    INPUT = "input"
    WORKER = "busy worker"
    START = "start-up"
    UPLOAD = "upload"
    HANDOVER = "hand-over"
    FAILED = "failed attempt"
    BACK_OFF = "back-off"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of the makespan, seconds after submission, and the reason for it.

    task: the step that ran, or that was waited for; -1 if unknown.
    """

    task: int
    cause: Reason
    begin_s: float
    end_s: float

    @property
    def duration_s(self) -> float:
        """Seconds, > 0."""
        return self.end_s - self.begin_s


_REASONS = {
    Phase.RUN: Reason.RUN,
    Phase.DUMP: Reason.UPLOAD,
    Phase.STORE: Reason.UPLOAD,
    Phase.FETCH: Reason.INPUT,
    Phase.LOAD: Reason.INPUT,
    Phase.PROGRAM: Reason.START,
    Phase.IMPORT: Reason.START,
    Phase.COMMIT: Reason.HANDOVER,
}
"""Reasons by the act of a step. Where several acts overlap, the first one here counts."""
_PRECEDENCE = {phase: position for position, phase in enumerate(_REASONS)}


@dataclass(frozen=True, slots=True)
class Link:
    """One step of the chain that made a run as long as it was: its neighbouring segments.

    task: -1 if unknown. The links of a run begin at 0, have no gaps, and end with the makespan.
    """

    task: int
    segments: tuple[Segment, ...]

    __repr__ = brief

    @property
    def begin_s(self) -> float:
        """Seconds after submission: the end of the link before."""
        return self.segments[0].begin_s

    @property
    def end_s(self) -> float:
        """Seconds after submission."""
        return self.segments[-1].end_s

    @property
    def duration_s(self) -> float:
        """Seconds of the makespan, > 0."""
        return self.end_s - self.begin_s


def links(segments: Iterable[Segment]) -> tuple[Link, ...]:
    """Returns the chain of steps that these segments of `explained` belong to, in order."""
    grouped = groupby(segments, key=lambda segment: segment.task)
    return tuple(Link(task, tuple(own)) for task, own in grouped)


def explained(
    upstream: Sequence[Sequence[int]], sinks: Sequence[int], trace: Trace
) -> tuple[Segment, ...]:
    """Returns the makespan as segments from 0 to its end, without gaps. O(spans log spans).

    Unlike critical_steps, a task that waited for a busy worker is a segment of its own: these
    segments say how much more workers could save.
    """
    busy, acts = windows(trace), _Acts.of(trace)
    end = trace.makespan_s
    segments: list[Segment] = []  # the last first
    for step, last in _upwards(upstream, sinks, busy):
        if end <= 0:
            break
        begin = 0.0
        if last is not None:
            # A value that was computed again may end after the step that read it first.
            begin = min(end, max(0.0, busy[last].end_s))
        segments += reversed(_cut(step, begin, end, acts, has_upstream=last is not None))
        end = begin
    if end > 0:
        segments.append(Segment(-1, Reason.OTHER, 0.0, end))
    return tuple(reversed(segments))


def _upwards(
    upstream: Sequence[Sequence[int]], sinks: Sequence[int], busy: Mapping[int, Window]
) -> Iterator[tuple[int, int | None]]:
    """Yields the sink that ended last and its upstream step that ended last, then from that one.

    The second of a pair is None for the step where the chain begins.
    """
    ended = [step for step in sinks if step in busy]
    step = max(ended, key=lambda step: busy[step].end_s, default=None)
    while step is not None:
        begin_s = busy[step].begin_s
        before = [up for up in upstream[step] if up in busy and busy[up].begin_s < begin_s]
        last = max(before, key=lambda up: busy[up].end_s, default=None)
        yield step, last
        step = last


def chain_steps(
    upstream: Sequence[Sequence[int]], sinks: Sequence[int], trace: Trace
) -> tuple[int, ...]:
    """Returns the steps that `explained` goes through, first to last: each reads the one before."""
    steps = [step for step, _ in _upwards(upstream, sinks, windows(trace))]
    return tuple(reversed(steps))


def shares(segments: Iterable[Segment]) -> dict[Reason, float]:
    """Returns reason -> share of the makespan, 0 to 1, largest first; empty for no segments."""
    totals: dict[Reason, float] = defaultdict(float)
    for segment in segments:
        totals[segment.cause] += segment.duration_s
    whole = sum(totals.values())
    largest_first = sorted(totals, key=lambda reason: (-totals[reason], reason))
    return {reason: totals[reason] / whole for reason in largest_first}


@dataclass(frozen=True, slots=True)
class _Acts:
    """Spans by step and by worker; `interval` converts their times to seconds after submission.

    of_worker: without QUEUE, in which the task waits and not the worker. begins: begin_s of each
    span in of_worker. zero_s: the submission, as spans have it.
    """

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

    def interval(self, span: Span) -> tuple[float, float]:
        """Returns begin and end of a span."""
        return span.begin_s - self.zero_s, span.end_s - self.zero_s

    def during(self, worker: str, begin_s: float, end_s: float) -> Iterator[Span]:
        """Yields the spans of a worker that may overlap an interval, by begin."""
        spans, begins = self.of_worker.get(worker, ()), self.begins.get(worker, ())
        # The search begins one span earlier, which may last into the interval. A worker does one
        # thing at a time, so no span before that one can.
        first = max(0, bisect_left(begins, begin_s + self.zero_s) - 1)
        yield from spans[first : bisect_left(begins, end_s + self.zero_s)]


def _cut(step: int, begin: float, end: float, acts: _Acts, *, has_upstream: bool) -> list[Segment]:
    """Returns one step's part of the makespan as segments, ascending.

    has_upstream: an upstream step ended at `begin`, and handed over to this one.
    """
    intervals = [(span, *acts.interval(span)) for span in acts.of_step.get(step, ())]
    own = [(span, span_begin) for span, span_begin, _ in intervals if span.phase in _REASONS]
    own_begin = min((span_begin for _, span_begin in own), default=end)
    worker = own[0][0].worker if own else ""
    was_queued = len(own) < len(intervals)

    lost = LostAttempts.of(span for span, _, _ in intervals)
    edges = {begin, end}
    for _, *span_edges in intervals:
        edges |= {min(end, max(begin, edge)) for edge in span_edges}

    parts: list[tuple[Reason, float, float]] = []
    for low, high in pairwise(sorted(edges)):
        during = [span for span, lo, hi in intervals if lo <= low and high <= hi]
        acting = [span for span in during if span.phase in _REASONS]
        if acting:
            act = min(acting, key=lambda span: _PRECEDENCE[span.phase])
            reason = Reason.FAILED if lost.has(act) else _REASONS[act.phase]
            parts.append((reason, low, high))
            continue
        if not during and _is_back_off(low, intervals, lost):
            parts.append((Reason.BACK_OFF, low, high))
            continue
        idle = Reason.OTHER
        if during:
            idle = Reason.WORKER  # ready (QUEUE), and all workers were busy
        elif high <= own_begin and (has_upstream or was_queued):
            idle = Reason.HANDOVER
        parts += _waited(step, worker, low, high, acts, idle)
    return _joined(step, parts)


def _is_back_off(
    low: float, intervals: Sequence[tuple[Span, float, float]], lost: LostAttempts
) -> bool:
    """Returns whether a moment lies between a lost attempt and the next attempt."""
    before = [(end, span) for span, _, end in intervals if end <= low]
    if not before or len(before) == len(intervals):
        return False
    _, latest = max(before, key=itemgetter(0))
    return latest.phase in _REASONS and lost.has(latest)


def _waited(
    step: int, worker: str, begin: float, end: float, acts: _Acts, idle: Reason
) -> Iterator[tuple[Reason, float, float]]:
    """Yields what a step waited for while it had no act of its own.

    idle: the reason for the time in which its worker did nothing.
    """
    until = begin
    for span in acts.during(worker, begin, end):
        low, high = acts.interval(span)
        if high <= until or span.task == step:
            continue
        is_start = span.is_start or (span.phase is Phase.PROGRAM and span.task < 0)
        reason = Reason.START if is_start else Reason.WORKER
        if until < low:
            # Before a start, the step waited for room in which the worker could start.
            yield reason if is_start else idle, until, low
        yield reason, max(until, low), min(end, high)
        until = min(end, high)
    if until < end:
        yield idle, until, end


def _joined(step: int, parts: Iterable[tuple[Reason, float, float]]) -> list[Segment]:
    """Returns segments; neighbours with the same reason become one."""
    segments: list[Segment] = []
    for reason, begin, end in parts:
        if segments and segments[-1].cause is reason:
            segments[-1] = Segment(step, reason, segments[-1].begin_s, end)
        elif begin < end:
            segments.append(Segment(step, reason, begin, end))
    return segments
