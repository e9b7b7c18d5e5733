"""The attempts of a trace that came to nothing: their function raised, or their worker died."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from dagnb.graph.brief import brief
from dagnb.trace.attempts import FAILED
from dagnb.trace.trace import Phase, Span, Trace

UNRECORDED = "not recorded by its worker"
"""The detail of a RUN that the client adds: the worker died, or could not read the task."""

_LOST = frozenset({(Phase.COMMIT, FAILED), (Phase.RUN, UNRECORDED)})


@dataclass(frozen=True, slots=True)
class LostAttempts:
    """The attempts of each step that came to nothing.

    last: step -> number of its last attempt. failed: (step, attempt) of those reported as failed.
    """

    last: dict[int, int] = field(default_factory=dict)
    failed: set[tuple[int, int]] = field(default_factory=set)

    __repr__ = brief

    @classmethod
    def of(cls, spans: Iterable[Span]) -> LostAttempts:
        """Returns the attempts that these spans show as lost."""
        lost = cls()
        for span in spans:
            if span.task < 0:
                continue
            if span.attempt > lost.last.get(span.task, 0):
                lost.last[span.task] = span.attempt
            if (span.phase, span.detail) in _LOST:
                lost.failed.add((span.task, span.attempt))
        return lost

    def has(self, span: Span) -> bool:
        """Returns whether a span belongs to a lost attempt."""
        if span.task < 0:
            return False
        if (span.task, span.attempt) in self.failed:
            return True
        # A simulated COMMIT has no number of its attempt, and a real one says that it failed.
        is_commit = span.phase is Phase.COMMIT
        return not is_commit and span.attempt < self.last.get(span.task, 0)


def with_killed(trace: Trace, killed: Iterable[Span]) -> Trace:
    """Returns the trace with the attempts of these RUN spans that left no RUN of their own."""
    killed = tuple(killed)
    if not killed:
        return trace
    known: set[tuple[int, int]] = set()
    for span in trace.spans:
        if span.phase is Phase.RUN:
            known.add((span.task, span.attempt))
    spans = [*trace.spans, *(span for span in killed if (span.task, span.attempt) not in known)]
    return Trace.of(spans, trace.names, submitted_s=trace.submitted_s, finished_s=trace.finished_s)
