"""All spans of a run, real or simulated, from which makespan, pictures and history are computed.

A span is one act of a worker: begin, end and phase. Real and simulated workers write the same ones.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cached_property
from operator import attrgetter

from dagnb.graph.brief import number
from dagnb.graph.client_hook import Shown


class Phase(StrEnum):
    """The kind of an act. Together the phases cover a run, its workers and its tasks.

    Of a run, recorded by the client (worker ''):
        SUBMIT    functions and DAG are pickled and written; ends when the run is accepted, which is
                  where the makespan begins
        RETURN    from the end of the run, or from the request for its value if that is later, until
                  the client has the value
    Of a worker, one after the other; their `detail` is 'cold' or 'warm':
        INVOKE    from the demand until one of the following begins
        CREATE    a container is created and started
        BOOT      until the first line of Python runs in it
        IMPORT    until it can fork a worker
        PROGRAM   the header, cells and modules of the run are read (task -1); later also functions
                  and large arguments that a task needs and the worker does not have yet
        REGISTER  from the name of the run until the worker has registered, without PROGRAM
    Of a task:
        QUEUE     from ready until a worker took it
        FETCH     inputs come from the store
        LOAD      all inputs and arguments are verified and unpickled; n_bytes counts them all
        IMPORT    modules are imported that its worker did not have, see below
        RUN       the user's function
        DUMP      the result is pickled and signed, the output collected
        STORE     a large result goes to the store
        COMMIT    the round trip that completes the task and brings the next one; its `detail` is
                  'failed' if it reports a failed attempt

    IMPORT of a task is one span between LOAD and RUN, for what unpickling imported and for what the
    function imported: LOAD ends earlier, and RUN begins later, by the seconds of their imports. So
    an import in the middle of a function is shown before the function. The spans of an attempt
    still follow one another and add up, and it has one RUN, whose length is the time of the
    function alone: a RUN in pieces would have to be joined again by everything that reads a trace.
    Threads of the client's process measure no imports: there they are a part of LOAD and RUN.
    """

    SUBMIT = "submit"
    INVOKE = "invoke"
    CREATE = "create"
    BOOT = "boot"
    IMPORT = "import"
    REGISTER = "register"
    PROGRAM = "program"
    QUEUE = "queue"
    FETCH = "fetch"
    LOAD = "load"
    RUN = "run"
    DUMP = "dump"
    STORE = "store"
    COMMIT = "commit"
    RETURN = "return"


STARTING = (Phase.INVOKE, Phase.CREATE, Phase.BOOT, Phase.IMPORT, Phase.REGISTER)
"""The phases of a worker's start; each start has one INVOKE. An IMPORT may be of a task instead."""

ACTS = (
    Phase.FETCH,
    Phase.LOAD,
    Phase.IMPORT,
    Phase.RUN,
    Phase.DUMP,
    Phase.STORE,
    Phase.COMMIT,
)
"""The acts of a worker for one task, in their order."""

MOVING = frozenset((Phase.FETCH, Phase.STORE, Phase.COMMIT))
"""The phases that move values through the store; a small value is part of its COMMIT."""


LATE_S = 2.0
"""Seconds after the end of a run in which spans may come: workers upload the last on leaving."""


@dataclass(frozen=True, slots=True)
class Span:
    """One act. Times are epoch seconds by the store's clock; virtual seconds in a simulation.

    task: position of the step in the plan; -1 for acts of a worker that belong to no task.
    n_bytes: of the values that were moved or unpickled.
    """

    task: int
    worker: str
    phase: Phase
    begin_s: float
    end_s: float
    n_bytes: int = 0
    attempt: int = 1
    detail: str = ""

    @property
    def duration_s(self) -> float:
        """Seconds; may be slightly negative, because clocks jitter."""
        return self.end_s - self.begin_s

    @property
    def is_start(self) -> bool:
        """True for an act of a worker's start, which belongs to no task."""
        return self.task < 0 and self.phase in STARTING


_BY_TIME = attrgetter("begin_s", "end_s", "worker", "task")


@dataclass(frozen=True)
class Trace(Shown):
    """Spans sorted by begin, and the two moments that define the makespan, by the store's clock.

    submitted_s: the submission was accepted.
    finished_s: the last sink was committed, or the run ended in another way.
    names: of each step, by position.
    """

    spans: tuple[Span, ...]
    names: tuple[str, ...]
    submitted_s: float
    finished_s: float

    @property
    def makespan_s(self) -> float:
        """Seconds from the submission until the last sink was stored."""
        return self.finished_s - self.submitted_s

    def __repr__(self) -> str:
        tasks, workers = number(len(self.names), "task"), number(len(self.workers), "worker")
        spans = number(len(self.spans), "span")
        return f"<trace: {tasks} on {workers}, {spans}, makespan {self.makespan_s:.4g} s>"

    @cached_property
    def workers(self) -> tuple[str, ...]:
        """Names of the workers, in order of their first act."""
        return tuple(dict.fromkeys(span.worker for span in self.spans if span.worker))

    @cached_property
    def by_worker(self) -> dict[str, tuple[Span, ...]]:
        """The spans of each worker, by begin; the client is the worker ''."""
        lists: dict[str, list[Span]] = defaultdict(list)
        for span in self.spans:
            lists[span.worker].append(span)
        return {worker: tuple(spans) for worker, spans in lists.items()}

    @cached_property
    def last_attempts(self) -> dict[int, dict[Phase, Span]]:
        """The spans of the last attempt of each step, by step and phase."""
        last: dict[int, dict[Phase, Span]] = {}
        attempts: dict[int, int] = {}
        for span in self.spans:
            if span.task < 0 or span.attempt < attempts.get(span.task, 1):
                continue
            if span.attempt > attempts.get(span.task, 1):
                last.pop(span.task, None)
            attempts[span.task] = span.attempt
            last.setdefault(span.task, {})[span.phase] = span
        return last

    def of_task(self, task: int) -> tuple[Span, ...]:
        """Returns the spans of one step, of all attempts, by begin."""
        return tuple(span for span in self.spans if span.task == task)

    def total_s(self, phase: Phase) -> float:
        """Returns the seconds spent in a phase, summed over all workers."""
        return sum(span.duration_s for span in self.spans if span.phase is phase)

    def by_phase(self) -> dict[Phase, float]:
        """Returns phase -> seconds over all workers, of phases that occurred, in their order."""
        occurred = {span.phase for span in self.spans}
        return {phase: self.total_s(phase) for phase in Phase if phase in occurred}

    def moved_bytes(self) -> int:
        """Returns the bytes of values that went to the store and came from it."""
        return sum(span.n_bytes for span in self.spans if span.phase in MOVING)

    def ran_parallel(self) -> float:
        """Returns the average parallelism: seconds of all functions over the makespan."""
        if self.makespan_s <= 0:
            return 0.0
        return self.total_s(Phase.RUN) / self.makespan_s

    def to_json(self) -> str:
        """Returns the trace as JSON, for from_json."""
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
        """Returns the trace that to_json wrote."""
        data = json.loads(text)
        spans = [Span(s[0], s[1], Phase(s[2]), *s[3:]) for s in data["spans"]]
        return cls.of(
            spans, data["names"], submitted_s=data["submitted_s"], finished_s=data["finished_s"]
        )

    @classmethod
    def of(
        cls, spans: Iterable[Span], names: Iterable[str], *, submitted_s: float, finished_s: float
    ) -> Trace:
        """Returns a trace of these spans, in any order."""
        ordered = sorted(spans, key=_BY_TIME)
        return cls(tuple(ordered), tuple(names), submitted_s, finished_s)
