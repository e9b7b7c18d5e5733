"""All that is known of a run at one moment: a snapshot, and numbers of each task and worker.

    Observation, new spans, outputs -> Snapshot   one moment, as the store has it
    its new spans                   -> RunFacts   numbers of each task and each worker

Every view of a run is drawn from these, live or afterwards. A snapshot is made from the one before
it and from what is new, and facts are updated with spans as they arrive, so that a look at a long
run costs no more than what happened since.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dagnb.graph.brief import brief
from dagnb.protocol.messages import Observation, RunState, TaskState
from dagnb.protocol.run_description import RunDescription
from dagnb.trace.lost_attempts import UNRECORDED, with_killed
from dagnb.trace.trace import ACTS, LATE_S, Phase, Span, Trace
from dagnb.views.lanes import start_kind
from dagnb.worker_label import worker_text

MAX_LOG = 2_000
"""characters of a task's output that a view shows: its end"""

_ENDED = frozenset(
    {TaskState.DONE, TaskState.FAILED, TaskState.RETRYING, TaskState.READY, TaskState.CANCELLED}
)
"""states that may follow the end of an attempt; READY does after a lost worker"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One moment of a run.

    seen: the store's answer. spans: as they arrived, in n_chunks chunks. logs: task -> tail of its
    latest output. started: task -> (epoch seconds, worker) of its latest start.
    n_left: number of instances that have uploaded all their spans. ended_badly: a RUN for each
    attempt that was charged, from the events; a worker that died has uploaded none.
    """

    description: RunDescription
    seen: Observation
    spans: tuple[Span, ...]
    n_chunks: int
    logs: Mapping[int, str]
    started: Mapping[int, tuple[float, str]]
    n_left: int = 0
    ended_badly: tuple[Span, ...] = ()

    __repr__ = brief

    @property
    def is_over(self) -> bool:
        """Returns whether the run has ended."""
        return self.seen.state is not RunState.RUNNING

    @property
    def is_settled(self) -> bool:
        """Returns whether the run has ended and no more spans will come.

        That is so when all instances have left, or when it is too late for what they still hold:
        an instance that was killed never leaves.
        """
        is_too_late = self.seen.now - self.seen.finished_at > LATE_S
        return self.is_over and (self.n_left >= self.seen.n_instances or is_too_late)

    @property
    def elapsed_s(self) -> float:
        """Seconds from submission until now, or until the end."""
        until = self.seen.finished_at if self.is_over else self.seen.now
        return max(0.0, until - self.seen.submitted_at)

    @property
    def trace(self) -> Trace:
        """The spans so far; its makespan is final when the run is over."""
        return Trace.of(
            self.spans,
            self.description.names,
            submitted_s=self.seen.submitted_at,
            finished_s=self.seen.finished_at or self.seen.now,
        )

    @property
    def whole_trace(self) -> Trace:
        """The trace with the attempts of workers that died, for pictures of all that happened.

        Costs and replays are made from `trace`, whose spans were measured.
        """
        return with_killed(self.trace, self.ended_badly)

    @property
    def running(self) -> list[int]:
        """Tasks that run now, and whose start is known."""
        # `find` from one to the next: few of very many tasks run at once.
        tasks = []
        task = self.seen.states.find(TaskState.RUNNING)
        while task >= 0:
            if task in self.started:
                tasks.append(task)
            task = self.seen.states.find(TaskState.RUNNING, task + 1)
        return tasks

    @property
    def trace_so_far(self) -> Trace:
        """The whole trace, and while the run goes on, its running tasks up to now."""
        trace = self.whole_trace
        if self.is_over:
            return trace
        spans = list(trace.spans)
        for task in self.running:
            begin_s, worker = self.started[task]
            spans.append(Span(task, worker, Phase.RUN, begin_s, self.seen.now, detail="so far"))
        submitted_s, finished_s = trace.submitted_s, trace.finished_s
        return Trace.of(spans, trace.names, submitted_s=submitted_s, finished_s=finished_s)


def ended(seen: Observation, before: Snapshot | None) -> list[int]:
    """The tasks of which an attempt may have ended since `before`, with new output."""
    if before is None:
        return [task for task, state in enumerate(seen.states) if state in _ENDED]
    tasks = []
    for task, (now, then) in enumerate(zip(seen.states, before.seen.states, strict=True)):
        if now != then and now in _ENDED:
            tasks.append(task)
    return tasks


def joined(
    before: Snapshot | None,
    seen: Observation,
    spans: Sequence[Span],
    logs: Mapping[int, str],
    *,
    n_chunks: int,
    n_left: int = 0,
) -> Snapshot:
    """The snapshot that follows `before`: what it held, and what is new.

    seen: an observation with the cursor of `before`, so that its events are those since then.
    """
    known = before or Snapshot(
        description=RunDescription.read(seen.meta),
        seen=seen,
        spans=(),
        n_chunks=0,
        logs={},
        started={},
    )
    # Starts and bad ends: other events are seen in the states.
    started = dict(known.started)
    ended_badly = list(known.ended_badly)
    n_charged = Counter(span.task for span in ended_badly) if seen.events else Counter()
    for event in seen.events:
        if event.kind == "start":
            started[event.task] = (event.at, event.worker)
        elif event.kind in ("retry", "fail") and event.task in started:
            n_charged[event.task] += 1
            begin_s, worker = started[event.task]
            attempt = n_charged[event.task]
            ended_badly.append(_killed(event.task, worker, begin_s, event.at, attempt))

    printed = dict(known.logs)
    for task, text in logs.items():
        if text:
            # One character more than twice the limit, so that a view can say that there was more.
            printed[task] = text[-2 * MAX_LOG - 1 :]
    return Snapshot(
        description=known.description,
        seen=seen,
        spans=known.spans + tuple(spans),
        n_chunks=known.n_chunks + n_chunks,
        logs=printed,
        started=started,
        n_left=known.n_left + n_left,
        ended_badly=tuple(ended_badly),
    )


def _killed(task: int, worker: str, begin_s: float, end_s: float, attempt: int) -> Span:
    return Span(task, worker, Phase.RUN, begin_s, end_s, attempt=attempt, detail=UNRECORDED)


# ---- numbers of tasks and workers ----

MEASURED = (Phase.QUEUE, *ACTS)
"""the phases of a task, in the order of `Fact.phases_s`; PHASES in run_state.js must be the same"""

Row = list[int | float | str | None]
"""Data of a task for the browser, by position: task, attempt, worker in words, begin (milliseconds
after submission), the MEASURED phases in milliseconds (None for a phase that did not happen), bytes
read, bytes written. ROW in run_state.js must name the same positions."""


@dataclass(slots=True)
class Fact:
    """The latest attempt of one task.

    begin_s: epoch seconds. phases_s: seconds of each MEASURED phase, None when it did not happen.
    n_read, n_written: bytes.
    """

    attempt: int = 0
    worker: str = ""
    begin_s: float | None = None
    phases_s: list[float | None] = field(default_factory=lambda: [None] * len(MEASURED))
    n_read: int = 0
    n_written: int = 0

    __repr__ = brief

    def add(self, span: Span) -> None:
        """Take in a span of this attempt."""
        position = MEASURED.index(span.phase)
        # A span is negative when the worker's clock was set back meanwhile.
        self.phases_s[position] = (self.phases_s[position] or 0.0) + max(0.0, span.duration_s)

        # A queued task has no worker yet.
        if span.phase is not Phase.QUEUE:
            if self.begin_s is None or span.begin_s < self.begin_s:  # spans may arrive out of order
                self.begin_s = span.begin_s
            self.worker = span.worker
        if span.phase is Phase.FETCH:
            self.n_read += span.n_bytes
        elif span.phase in {Phase.STORE, Phase.COMMIT}:  # small values travel with the commit
            self.n_written += span.n_bytes

    @property
    def run_s(self) -> float | None:
        """Seconds that the function ran; None when it did not."""
        return self.phases_s[MEASURED.index(Phase.RUN)]


class RunFacts:
    """The facts of all tasks and workers of a run."""

    def __init__(self, submitted_s: float) -> None:
        """Begin without any facts. submitted_s: epoch seconds."""
        self._submitted_s = submitted_s
        self.of: dict[int, Fact] = {}
        self.starts: dict[str, tuple[str, float]] = {}
        """worker -> "cold" or "warm" for its latest start, and the seconds that it took"""

    def add(self, spans: Iterable[Span]) -> set[int]:
        """Take in spans. Returns the tasks whose facts changed."""
        touched = set()
        for span in spans:
            if span.is_start:
                self._add_start(span)
            elif span.task >= 0 and span.phase in MEASURED:
                fact = self.of.get(span.task)
                if fact is None or span.attempt > fact.attempt:
                    fact = self.of[span.task] = Fact(attempt=span.attempt)
                if span.attempt == fact.attempt:  # spans of an older attempt may arrive late
                    fact.add(span)
                    touched.add(span.task)
        return touched

    def _add_start(self, span: Span) -> None:
        so_far_s = 0.0
        # An INVOKE span begins another start: seconds known before it are of an earlier one.
        if span.phase is not Phase.INVOKE and span.worker in self.starts:
            so_far_s = self.starts[span.worker][1]
        self.starts[span.worker] = (start_kind(span), so_far_s + max(0.0, span.duration_s))

    def row(self, task: int) -> Row:
        """The row of a task that has facts."""
        fact = self.of[task]
        worker = worker_text(fact.worker)
        begin = _ms(fact.begin_s, self._submitted_s)
        phases = map(_ms, fact.phases_s)
        return [task, fact.attempt, worker, begin, *phases, fact.n_read, fact.n_written]


def _ms(seconds: float | None, since_s: float = 0.0) -> int | float | None:
    """Milliseconds since a moment, as fine as readers need: hundredths below 100, else whole."""
    if seconds is None:
        return None
    ms = (seconds - since_s) * 1e3
    return round(ms) if ms >= 100 else round(ms, 2)
