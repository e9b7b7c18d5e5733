"""One act of a worker: begin, end, kind. Reality and simulation write the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import msgpack


class Phase(StrEnum):
    """The kind of an act; together they are the whole life of a task, of a worker and of a run.

    Of a run, recorded by the client (worker ''): SUBMIT (functions and DAG pickled and written, until the run is
    accepted, where the makespan begins), RETURN (from its end, or from when its value was asked for if that is later,
    until the client holds the value). Of a worker, one after the other: INVOKE (asked for, until one of the following
    begins), CREATE (a container is made and started), BOOT (until Python's first line in it), IMPORT (until it can fork
    a worker), REGISTER (told of the run, until it has registered; PROGRAM, which comes before its first registration,
    is taken out of it); their `detail` says cold or warm. PROGRAM: what describes the run is read: its header, cells
    and modules once a worker (task -1), then the functions and large arguments that a task needs and that are not at
    hand. Of a task: QUEUE (ready, until a worker took it), FETCH (inputs from the store), LOAD (inputs and
    arguments, all at hand, are verified and unpickled; n_bytes of all of them), RUN (the user's function), DUMP (result
    pickled and signed, output collected), STORE (large result into the store), COMMIT (the completing round trip, which
    brings the next task; `detail` says failed where it reports a failed attempt).
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
"""The phases of a worker's start; each start has one INVOKE"""

MOVING = frozenset((Phase.FETCH, Phase.STORE, Phase.COMMIT))
"""The phases that move values through the store; a small value rides along with its COMMIT"""


@dataclass(frozen=True, slots=True)
class Span:
    """Times are epoch seconds by the store's clock (virtual seconds in a simulation).

    task: position of the step in the plan, -1 for acts of a worker as such. n_bytes: what was moved, if anything.
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
        """How long it took; >= 0 but for clock jitter."""
        return self.end_s - self.begin_s


_LAST = b"\xc0"
"""MessagePack's nil, as the last row; no other chunk ends so, for every other row ends with text"""


def packed(spans: Iterable[Span], *, is_last: bool = False) -> bytes:
    """Spans as one chunk of bytes, as the store keeps them. is_last: an instance will upload no more."""
    rows: list[tuple[object, ...] | None] = [
        (s.task, s.worker, s.phase.value, s.begin_s, s.end_s, s.n_bytes, s.attempt, s.detail)
        for s in spans  # by hand: astuple copies deeply, and this is on the way of every task
    ]
    chunk: bytes = msgpack.packb([*rows, None] if is_last else rows)
    return chunk


def unpacked(chunk: bytes) -> list[Span]:
    """The spans of a chunk."""
    return [Span(s[0], s[1], Phase(s[2]), *s[3:]) for s in msgpack.unpackb(chunk) if s is not None]


def is_last(chunk: bytes) -> bool:
    """Whether an instance said with this chunk that it will upload no more."""
    return chunk.endswith(_LAST)
