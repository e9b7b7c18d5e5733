"""One act of a worker: begin, end and phase. Real and simulated workers write the same spans."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import msgpack


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
        RUN       the user's function
        DUMP      the result is pickled and signed, the output collected
        STORE     a large result goes to the store
        COMMIT    the round trip that completes the task and brings the next one; its `detail` is
                  'failed' if it reports a failed attempt
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
"""The phases of a worker's start; each start has one INVOKE."""

MOVING = frozenset((Phase.FETCH, Phase.STORE, Phase.COMMIT))
"""The phases that move values through the store; a small value is part of its COMMIT."""


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


_LAST = b"\xc0"
"""MessagePack's nil, as the last row. Other chunks end with a text, the `detail` of a span."""


def packed(spans: Iterable[Span], *, is_last: bool = False) -> bytes:
    """Returns spans as one chunk of bytes for the store. is_last: the instance uploads no more."""
    # Field by field: dataclasses.astuple copies deeply, and this runs once a task.
    rows: list[tuple[object, ...] | None] = [
        (s.task, s.worker, s.phase.value, s.begin_s, s.end_s, s.n_bytes, s.attempt, s.detail)
        for s in spans
    ]
    chunk: bytes = msgpack.packb([*rows, None] if is_last else rows)
    return chunk


def unpacked(chunk: bytes) -> list[Span]:
    """Returns the spans of a chunk."""
    return [Span(s[0], s[1], Phase(s[2]), *s[3:]) for s in msgpack.unpackb(chunk) if s is not None]


def is_last(chunk: bytes) -> bool:
    """Tells whether this chunk is the last one of its instance."""
    return chunk.endswith(_LAST)
