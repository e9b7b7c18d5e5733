"""All that is known of a run at one moment: what every view of a run is drawn from, live or afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dagnb.graph.brief import brief
from dagnb.protocol.messages import Observation, RunState, TaskState
from dagnb.protocol.run_description import RunDescription
from dagnb.trace.span import Span
from dagnb.trace.trace import Trace

MAX_LOG = 2_000
"""characters of a task's output that a view shows: its end"""

LATE_S = 2.0
"""so long after the end of a run spans are waited for: workers upload what they hold when they leave"""

_ENDED = frozenset(
    {TaskState.DONE, TaskState.FAILED, TaskState.RETRYING, TaskState.READY, TaskState.CANCELLED}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One moment of a run. spans: as they arrived, in n_chunks chunks. logs: task -> tail of what it printed last.

    started: task -> (epoch seconds, worker) of its latest start. n_left: instances that have uploaded all their spans.
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
        """Whether nothing more will happen."""
        return self.seen.state is not RunState.RUNNING

    @property
    def is_settled(self) -> bool:
        """Whether the run is over and no more spans will come: all who took part have left, or it is too late."""
        return self.is_over and (self.n_left >= self.seen.n_instances or self._late_s > LATE_S)

    @property
    def _late_s(self) -> float:
        return self.seen.now - self.seen.finished_at

    @property
    def elapsed_s(self) -> float:
        """From submission until now, or until the end."""
        return max(
            0.0, (self.seen.finished_at if self.is_over else self.seen.now) - self.seen.submitted_at
        )

    @property
    def trace(self) -> Trace:
        """The spans so far; its makespan is final when the run is."""
        finished = self.seen.finished_at or self.seen.now
        return Trace.of(
            self.spans,
            self.description.names,
            submitted_s=self.seen.submitted_at,
            finished_s=finished,
        )


def ended(seen: Observation, before: Snapshot | None) -> list[int]:
    """The tasks of which an attempt may have ended since: these may have printed something."""
    if before is None:
        return [task for task, state in enumerate(seen.states) if state in _ENDED]
    pairs = enumerate(zip(seen.states, before.seen.states, strict=True))
    return [task for task, (now, then) in pairs if now != then and now in _ENDED]


def joined(
    before: Snapshot | None,
    seen: Observation,
    spans: Sequence[Span],
    logs: Mapping[int, str],
    *,
    n_chunks: int,
    n_left: int = 0,
) -> Snapshot:
    """The moment after `before`: what was known and what is new. seen: a look with the cursor of `before`."""
    started = {
        event.task: (event.at, event.worker) for event in seen.events if event.kind == "start"
    }
    printed = {task: text[-2 * MAX_LOG - 1 :] for task, text in logs.items() if text}
    then = before or Snapshot(
        description=RunDescription.read(seen.meta),
        seen=seen,
        spans=(),
        n_chunks=0,
        logs={},
        started={},
    )
    return Snapshot(
        description=then.description,
        seen=seen,
        spans=then.spans + tuple(spans),
        n_chunks=then.n_chunks + n_chunks,
        logs={**then.logs, **printed},
        started={**then.started, **started},
        n_left=then.n_left + n_left,
    )
