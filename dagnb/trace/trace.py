"""All spans of a run. Makespan, timeline, pictures, history: everything reads this, whichever world it came from."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property

from dagnb.graph.brief import number
from dagnb.graph.client_hook import Shown
from dagnb.trace.span import MOVING, Phase, Span


@dataclass(frozen=True)
class Trace(Shown):
    """Spans sorted by begin, with the two moments that define the makespan, both by the store's clock.

    submitted_s: the submission was accepted. finished_s: the last sink was committed, or the run ended otherwise.
    names: name of each step by position.
    """

    spans: tuple[Span, ...]
    names: tuple[str, ...]
    submitted_s: float
    finished_s: float

    @property
    def makespan_s(self) -> float:
        """From submission to the last sink in the store, seconds: the one definition of it everywhere."""
        return self.finished_s - self.submitted_s

    def __repr__(self) -> str:
        told = f"{number(len(self.names), 'task')} on {number(len(self.workers), 'worker')}"
        return (
            f"<trace: {told}, {number(len(self.spans), 'span')}, makespan {self.makespan_s:.4g} s>"
        )

    @cached_property
    def workers(self) -> tuple[str, ...]:
        """Names of the workers that did something, in order of their first act."""
        return tuple(dict.fromkeys(span.worker for span in self.spans if span.worker))

    @cached_property
    def by_worker(self) -> dict[str, tuple[Span, ...]]:
        """worker -> its spans, by begin"""
        lists: dict[str, list[Span]] = defaultdict(list)
        for span in self.spans:
            lists[span.worker].append(span)
        return {worker: tuple(spans) for worker, spans in lists.items()}

    @cached_property
    def last_attempts(self) -> dict[int, dict[Phase, Span]]:
        """step -> phase -> its span, of the last attempt of each step"""
        found: dict[int, dict[Phase, Span]] = {}
        attempts: dict[int, int] = {}
        for span in self.spans:
            if span.task < 0 or span.attempt < attempts.get(span.task, 1):
                continue
            if span.attempt > attempts.get(span.task, 1):
                found.pop(span.task, None)
            attempts[span.task] = span.attempt
            found.setdefault(span.task, {})[span.phase] = span
        return found

    def of_task(self, task: int) -> tuple[Span, ...]:
        """Every span of one step, all attempts, by begin."""
        return tuple(span for span in self.spans if span.task == task)

    def total_s(self, phase: Phase) -> float:
        """Seconds spent in a phase, summed over all workers."""
        return sum(span.duration_s for span in self.spans if span.phase is phase)

    def by_phase(self) -> dict[Phase, float]:
        """phase -> seconds over all workers, phases that occurred, in the order of Phase"""
        return {
            phase: total
            for phase in Phase
            if (total := self.total_s(phase)) or any(s.phase is phase for s in self.spans)
        }

    def moved_bytes(self) -> int:
        """Bytes of values that went to the store and came from it: the one definition of it everywhere."""
        return sum(span.n_bytes for span in self.spans if span.phase in MOVING)

    def ran_parallel(self) -> float:
        """Mean number of functions running at a time: total run time over makespan."""
        return self.total_s(Phase.RUN) / self.makespan_s if self.makespan_s > 0 else 0.0

    def to_json(self) -> str:
        """Everything, as JSON; from_json reads it back."""
        return json.dumps(
            {
                "names": self.names,
                "submitted_s": self.submitted_s,
                "finished_s": self.finished_s,
                "spans": [list(asdict(span).values()) for span in self.spans],
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Trace:
        """The trace that to_json wrote."""
        data = json.loads(text)
        spans = [Span(s[0], s[1], Phase(s[2]), *s[3:]) for s in data["spans"]]
        return cls.of(
            spans, data["names"], submitted_s=data["submitted_s"], finished_s=data["finished_s"]
        )

    @classmethod
    def of(
        cls, spans: Iterable[Span], names: Iterable[str], *, submitted_s: float, finished_s: float
    ) -> Trace:
        """A trace of these spans, sorted."""
        ordered = sorted(spans, key=lambda s: (s.begin_s, s.end_s, s.worker, s.task))
        return cls(tuple(ordered), tuple(names), submitted_s, finished_s)
