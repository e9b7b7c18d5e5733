"""Snapshot of a run: all that is known of it at one moment.

Every view of a run is drawn from snapshots, live or afterwards. A snapshot is made from the one
before it and from what is new, so that a look at a long run costs no more than what happened since.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dagnb.graph.brief import brief
from dagnb.protocol.messages import Observation, RunState, TaskState
from dagnb.protocol.run_description import RunDescription
from dagnb.trace.trace import LATE_S, Span, Trace

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
    n_left: number of instances that have uploaded all their spans.
    """

    description: RunDescription
    seen: Observation
    spans: tuple[Span, ...]
    n_chunks: int
    logs: Mapping[int, str]
    started: Mapping[int, tuple[float, str]]
    n_left: int = 0

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
    # Only starts: other events are seen in the states.
    started = dict(known.started)
    for event in seen.events:
        if event.kind == "start":
            started[event.task] = (event.at, event.worker)

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
    )
