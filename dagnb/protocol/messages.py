"""The messages between a client, workers and the store. Plain data.

A task is an integer: the position of its step in the plan. Times are epoch seconds by the clock of
the store. The order of fields on the wire is part of the protocol: a change needs a new
PROTOCOL_VERSION, or workers of an older image would misread what they get.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgpack

from dagnb.graph.brief import brief
from dagnb.protocol.states import Charge as Charge  # noqa: PLC0414  # re-exported
from dagnb.protocol.states import RunState as RunState  # noqa: PLC0414  # re-exported
from dagnb.protocol.states import Status as Status  # noqa: PLC0414  # re-exported
from dagnb.protocol.states import TaskState as TaskState  # noqa: PLC0414  # re-exported

PROTOCOL_VERSION = 7

HELD = -1
"""In `Death.task`: every task that the instance was running.

When a whole container dies, no process is left that knows which task was running.
"""

Edge = tuple[int, int, int, int, int, int]
"""An edge to a downstream task: (task, bit of the edge, first bit of the task, number of its bits,
queue of the task, its priority). `complete` needs no more of a task that it may make ready.

The last edge of a task may be one of order alone (`Record.is_followed`): its task follows on a
worker that holds its order and does not read the result."""


@dataclass(frozen=True, slots=True)
class Address:
    """The place of the result of one attempt.

    n_chunks: 0 for a small value, which shares a hash with others; else the number of its chunks.
    """

    token: str
    n_bytes: int
    n_chunks: int = 0

    def encode(self) -> str:
        """Returns one short string for the store."""
        return f"{self.token}:{self.n_bytes}:{self.n_chunks}"

    @classmethod
    def decode(cls, text: str) -> Address:
        """Read what encode wrote."""
        token, n_bytes, n_chunks = text.rsplit(":", 2)
        return cls(token, int(n_bytes), int(n_chunks))


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One task as the store holds it: links, which the scripts read, and a body for workers.

    together: an instance that takes the task takes its only reader, too, once no other input of the
        reader is missing. Both are in one queue.
    is_followed: the last edge is one of order alone, see Edge.
    """

    queue: int
    priority: int
    is_sink: bool
    together: bool = False
    is_followed: bool = False
    retries: int
    upstream: tuple[int, ...]
    edges: tuple[Edge, ...]
    body: bytes = b""

    __repr__ = brief

    @property
    def reader(self) -> tuple[int, int]:
        """The reader that is run together with the task, -1 for none; its number of inputs."""
        if not self.together:
            return -1, 0
        reader, _, _, n_inputs, _, _ = self.edges[0]
        return reader, n_inputs

    def pack(self) -> bytes:
        """Returns a MessagePack array: [queue, priority, flags, retries, upstream, edges, body].

        flags: 1 for a sink, plus 2 for `together`, plus 4 for `is_followed`.

        The scripts rely on the order: they read the first elements and stop there. Edges are flat
        because a table for each edge is what costs in Lua.
        """
        flat = [number for edge in self.edges for number in edge]
        packed: bytes = msgpack.packb(
            [
                self.queue,
                self.priority,
                int(self.is_sink) + 2 * self.together + 4 * self.is_followed,
                self.retries,
                self.upstream,
                flat,
                self.body,
            ]
        )
        return packed

    @classmethod
    def unpack(cls, packed: bytes) -> Record:
        """Read what pack wrote."""
        # The default limit of arrays is smaller than the edges of one wide fan-out.
        queue, priority, flags, retries, upstream, flat, body = msgpack.unpackb(
            packed, max_array_len=2**31 - 1
        )
        edges = tuple(tuple(flat[i : i + 6]) for i in range(0, len(flat), 6))
        return cls(
            queue=queue,
            priority=priority,
            is_sink=bool(flags & 1),
            together=bool(flags & 2),
            is_followed=bool(flags & 4),
            retries=retries,
            upstream=tuple(upstream),
            edges=edges,
            body=body,
        )


@dataclass(frozen=True, slots=True)
class Queue:
    """Ready tasks of one pinned worker (cap 1), or of one pool of floating workers.

    name: begins with ~ for a pool. cap: most members at a time.
    kind: only instances that registered with it may staff the queue; '' where all are alike.
    """

    name: str
    cap: int
    kind: str = ""

    @property
    def is_pool(self) -> bool:
        """True when its tasks are floating."""
        return self.name.startswith("~")

    def worker(self, member: int) -> str:
        """Returns the name of a member, from 1: the pinned worker's; in a pool '~/3', '~2gb/1'."""
        return f"{self.name}/{member}" if self.is_pool else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A run, as it is put in the store, once.

    records: packed, by position. sources: positions that wait for nothing. n_bits: one for each
    edge. meta: JSON, see RunDescription. ttl_s: seconds that the run's keys live after the last
    heartbeat.
    on_error: 'fail' ends the run at the first failure; 'continue' runs every task that does not
        need a failed one.
    crash_budget, loss_budget: deaths, lost leases that a task survives.
    start_s: seconds after the submission at which a run without participants is cancelled, because
      its client died before launching workers. None: never.
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
    """One finished task.

    blob: bytes of a small result; None when they are stored already.
    is_kept: the result is not stored anywhere. The instance keeps it for the only reader of the
        task, which it runs, too.
    """

    task: int
    address: Address
    blob: bytes | None = None
    is_kept: bool = False
    log: str = ""

    __repr__ = brief


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One failed attempt.

    attempt: as offered, so that a repeated call counts once. error: JSON of a TaskError.
    delay_s: until the next attempt; None: there is none.
    """

    task: int
    attempt: int
    error: str
    delay_s: float | None = None
    log: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """The death of an instance, with proof: its process is known to have ended.

    task: the one to charge for it; others that the instance held go back uncharged.
        HELD: every task it was running is charged. None: no task is.
    """

    instance: str
    task: int | None
    charge: Charge
    error: str
    delay_s: float | None = None


@dataclass(frozen=True, slots=True)
class Input:
    """One upstream value of an offered task. blob: its bytes if it is small."""

    task: int
    address: Address
    blob: bytes | None = None

    __repr__ = brief


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A task to run. record: None for a worker that holds the DAG. inputs: in order of upstream."""

    task: int
    attempt: int
    record: bytes | None
    inputs: tuple[Input, ...]
    ready_at: float = 0.0

    __repr__ = brief


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The answer to register, pull, complete, fail, lost.

    worker: name of the worker that the instance staffs while it runs the offers.
    missing: tasks whose results have to be stored again (NO_BLOB).
    """

    status: Status
    worker: str = ""
    offers: tuple[Offer, ...] = ()
    missing: tuple[int, ...] = ()
    now: float = 0.0

    __repr__ = brief


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """The instances that a run wants and has. Both are empty when the run is over.

    wanted: kind -> members asked for that no instance staffs yet; kinds without any are left out.
    instances: leased instance -> (its kind, name of the worker it staffs or '').
    """

    state: RunState
    wanted: dict[str, int]
    instances: dict[str, tuple[str, str]]
    now: float

    __repr__ = brief


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a run.

    kind: 'start', 'done', 'retry', 'fail', 'skip' or 'lost', of a task; 'worker': an instance
        staffs it from now on; 'end': its `worker` is the final state of the run.
    task: -1 for the kinds 'worker' and 'end'.
    """

    at: float
    kind: str
    task: int
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One look at a run. Pass `cursor` to the next look to get only newer events.

    Such a look has no meta, which never changes, and only the errors of tasks that failed since;
    `after` completes it.

    states: one byte a task, see TaskState. errors: (task, attempt) -> JSON of a TaskError.
    workers: worker -> ('active' or 'invoked', instance or '').
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

    @property
    def failed(self) -> frozenset[int]:
        """The tasks that failed and are not tried again."""
        return frozenset(
            task for task, state in enumerate(self.states) if state == TaskState.FAILED
        )

    def after(self, before: Observation) -> Observation:
        """Returns this look with what `before` knew: it was made with the cursor of that one.

        Events stay the new ones.
        """
        return replace(self, meta=before.meta, errors={**before.errors, **self.errors})


def bits_of(upstreams: Sequence[Sequence[int]]) -> tuple[list[int], int]:
    """Returns the first edge bit of each task, and the number of bits in all. O(tasks).

    The bits of one task are neighbours, so one BITCOUNT tells whether its inputs are all there.
    """
    starts, total = [], 0
    for upstream in upstreams:
        starts.append(total)
        total += len(upstream)
    return starts, total
