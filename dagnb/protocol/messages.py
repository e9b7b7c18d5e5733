"""What travels between a client, workers and the store. Plain data; tasks are positions of steps in the plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgpack

from dagnb.graph.brief import brief
from dagnb.protocol.states import Charge as Charge  # noqa: PLC0414  # one of the messages' names
from dagnb.protocol.states import RunState as RunState  # noqa: PLC0414  # one of the messages' names
from dagnb.protocol.states import Status as Status  # noqa: PLC0414  # one of the messages' names
from dagnb.protocol.states import TaskState as TaskState  # noqa: PLC0414  # one of the messages' names

PROTOCOL_VERSION = 4

HELD = -1
"""In `Death.task`: whatever the instance was running. Who dies with its whole container cannot tell which it was."""

Edge = tuple[int, int, int, int, int, int]
"""An edge to a downstream task: (task, its bit for this edge, its first bit, how many bits, its queue, its priority)"""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the result of one attempt lies. n_chunks 0: small, in the hash of small values; else so many chunks."""

    token: str
    n_bytes: int
    n_chunks: int = 0

    def encode(self) -> str:
        """One short string for the store."""
        return f"{self.token}:{self.n_bytes}:{self.n_chunks}"

    @classmethod
    def decode(cls, text: str) -> Address:
        """What encode wrote."""
        token, n_bytes, n_chunks = text.rsplit(":", 2)
        return cls(token, int(n_bytes), int(n_chunks))


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One task as the store holds it: its links, which the scripts read, and a body, which only workers read."""

    queue: int
    priority: int
    is_sink: bool
    retries: int
    upstream: tuple[int, ...]
    edges: tuple[Edge, ...]
    body: bytes = b""

    __repr__ = brief

    def pack(self) -> bytes:
        """MessagePack array: [queue, priority, sink, retries, upstream, edges flat, body]."""
        flat = [number for edge in self.edges for number in edge]
        packed: bytes = msgpack.packb(
            [
                self.queue,
                self.priority,
                int(self.is_sink),
                self.retries,
                self.upstream,
                flat,
                self.body,
            ]
        )
        return packed

    @classmethod
    def unpack(cls, packed: bytes) -> Record:
        """What pack wrote."""
        queue, priority, sink, retries, upstream, flat, body = msgpack.unpackb(
            packed, max_array_len=2**31 - 1
        )
        edges = tuple(tuple(flat[i : i + 6]) for i in range(0, len(flat), 6))
        return cls(
            queue=queue,
            priority=priority,
            is_sink=bool(sink),
            retries=retries,
            upstream=tuple(upstream),
            edges=edges,
            body=body,
        )


@dataclass(frozen=True, slots=True)
class Queue:
    """Ready tasks of one pinned worker (cap 1), or of one pool of floating workers (names begin with ~).

    kind: which instances may staff it: those that registered with the same kind; '' for workers that are all alike.
    """

    name: str
    cap: int
    kind: str = ""

    @property
    def is_pool(self) -> bool:
        """Whether its tasks are floating."""
        return self.name.startswith("~")

    def worker(self, member: int) -> str:
        """Name of a member, counted from 1: the pinned worker's own name, or '~/3', '~512mb/1' in a pool."""
        return f"{self.name}/{member}" if self.is_pool else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A run, as it is put in the store, once.

    on_error: 'fail' ends the run at the first failure; 'continue' runs every task that does not need a failed one.
    records: packed, by position. sources: positions without upstream. meta: JSON for whoever attaches.
    crash_budget, loss_budget: how many deaths, lost leases a task survives. start_s: the run is cancelled when nobody
    has taken part in it so long after its submission, because whoever submitted it died before launching workers.
    """

    run: str
    records: tuple[bytes, ...]
    queues: tuple[Queue, ...]
    sinks: tuple[int, ...]
    sources: tuple[int, ...]
    n_bits: int
    meta: str = "{}"
    on_error: str = "fail"
    deadline_s: float | None = None
    ttl_s: float = 86_400.0
    crash_budget: int = 2
    loss_budget: int = 5
    start_s: float | None = None

    __repr__ = brief


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """One finished task. blob: the bytes of a small result, which ride along; None when they are stored already."""

    task: int
    address: Address
    blob: bytes | None = None
    log: str = ""

    __repr__ = brief


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One failed attempt. attempt: as offered, so that a repeated call counts once. delay_s None: do not retry."""

    task: int
    attempt: int
    error: str
    delay_s: float | None = None
    log: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """How an instance died, with proof. task: the one it was running, charged; others it held go back uncharged.

    HELD: every task it was running is charged.
    """

    instance: str
    task: int | None
    charge: Charge
    error: str
    delay_s: float | None = None


@dataclass(frozen=True, slots=True)
class Input:
    """One upstream value of an offered task: where it is, and its bytes when they are small enough to ride along."""

    task: int
    address: Address
    blob: bytes | None = None

    __repr__ = brief


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A task to run. record: None for who holds the DAG already. inputs: one an upstream task, in their order."""

    task: int
    attempt: int
    record: bytes | None
    inputs: tuple[Input, ...]
    ready_at: float = 0.0

    __repr__ = brief


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """Answer to register, pull, complete, fail, lost. worker: who the instance is while it runs the offers."""

    status: Status
    worker: str = ""
    offers: tuple[Offer, ...] = ()
    missing: tuple[int, ...] = ()
    now: float = 0.0

    __repr__ = brief


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """Which instances a run wants and has. wanted: kind -> members asked for that nobody staffs yet, if there are any.

    instances: leased instance -> (its kind, name of the worker it staffs or ''). Both are empty when the run is over.
    """

    state: RunState
    wanted: dict[str, int]
    instances: dict[str, tuple[str, str]]
    now: float

    __repr__ = brief


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the run's story: kind is 'start', 'done', 'retry', 'fail', 'skip', 'lost', 'worker', 'end'."""

    at: float
    kind: str
    task: int
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What one look at a run shows. Pass `cursor` to the next look to get only newer events.

    Such a look brings no meta, which never changes, and only errors of tasks that failed since; `after` completes it.
    states: one byte a task. errors: (task, attempt) -> JSON. workers: worker -> (phase, instance).
    results: sink -> address, of the sinks that are done.
    """

    run: str
    state: RunState
    states: str
    meta: str
    now: float
    submitted_at: float
    finished_at: float
    reason: str
    events: tuple[Event, ...]
    errors: dict[tuple[int, int], str]
    workers: dict[str, tuple[str, str]]
    results: dict[int, Address]
    n_instances: int
    cursor: str

    __repr__ = brief

    def after(self, before: Observation) -> Observation:
        """This look, made with the cursor of the one before, with all that was known then; events stay the new ones."""
        return replace(self, meta=before.meta, errors={**before.errors, **self.errors})


def bits_of(upstreams: Sequence[Sequence[int]]) -> tuple[list[int], int]:
    """First edge bit of each task, and the number of bits in all."""
    starts, total = [], 0
    for upstream in upstreams:
        starts.append(total)
        total += len(upstream)
    return starts, total
