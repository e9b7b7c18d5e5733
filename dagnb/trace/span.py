"""One act of a worker: begin, end, kind. Reality and simulation write the same."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """The kind of an act; together they are the whole life of a task and of a worker.

    Of a run: SUBMIT (client writes DAG and functions). Of a worker, one after the other: INVOKE (asked for, until it
    registers, or until one of the following begins), CREATE (a container is made and started), BOOT (until Python's
    first line in it), IMPORT (until it can fork a worker), REGISTER (told of the run, until it has registered); their
    `detail` says cold or warm. Of a task: QUEUE (ready, until a worker took it), FETCH (inputs from the store),
    LOAD (inputs unpickled), RUN (the user's function), DUMP (result pickled), STORE (large result into the store),
    COMMIT (the completing round trip, which brings the next task).
    """

    SUBMIT = "submit"
    INVOKE = "invoke"
    CREATE = "create"
    BOOT = "boot"
    IMPORT = "import"
    REGISTER = "register"
    QUEUE = "queue"
    FETCH = "fetch"
    LOAD = "load"
    RUN = "run"
    DUMP = "dump"
    STORE = "store"
    COMMIT = "commit"


STARTING = (Phase.INVOKE, Phase.CREATE, Phase.BOOT, Phase.IMPORT, Phase.REGISTER)
"""The phases of a worker's start; each start has one INVOKE"""


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
