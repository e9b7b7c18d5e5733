"""The layout of a run: a plan as queues of ready tasks, links between tasks, one bit per edge.

    step pinned to w1         -> the queue "w1", with room for one member
    step that floats          -> the queue "~" + label of its resources, with room for `cap` members
    edge from u to a task t   -> bit number (first bit of t) + (position of u among its upstream)
    t follows u on a worker that holds its order -> one more edge, the last of u, and bit of t

This is all that a coordinator knows of a plan: it never sees functions, costs or the DAG.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from dagnb.graph.brief import brief
from dagnb.graph.resources import Resources
from dagnb.planning.kept import kept_steps
from dagnb.planning.plan import Plan, Step, next_in_order
from dagnb.protocol.messages import Edge, Queue, Record, Submission, bits_of


class Kinds(Enum):
    """The rule by which instances may staff queues.

    ONE: any instance staffs any queue. RESOURCES: those with the resources of the queue.
    WORKER: those that were started for that worker or pool.
    """

    ONE = "one"
    RESOURCES = "resources"
    WORKER = "worker"

    def of(self, step: Step) -> str:
        """Returns the kind of a step's queue, '' where all instances are alike."""
        if self is Kinds.ONE:
            return ""
        if self is Kinds.RESOURCES:
            return step.resources.kind
        return queue_name(step)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The parts of a submission that follow from the plan alone.

    records: one per step, without bodies; none where they are packed already. resources: kind ->
    resources of its instances.
    """

    records: tuple[Record, ...]
    queues: tuple[Queue, ...]
    sinks: tuple[int, ...]
    sources: tuple[int, ...]
    n_bits: int
    resources: dict[str, Resources]

    __repr__ = brief

    def bare(self, run: str, records: tuple[bytes, ...] = (), **terms: Any) -> Submission:
        """Returns the submission with records that are packed already.

        A simulation gives none: it hands `records` to the machine as they are. terms: more fields.
        """
        return Submission(
            run=run,
            records=records,
            queues=self.queues,
            sinks=self.sinks,
            sources=self.sources,
            n_bits=self.n_bits,
            **terms,
        )


def lay_out(plan: Plan, *, cap: int, kinds: Kinds = Kinds.ONE) -> Layout:
    """Lay a plan out. cap: members of each pool. O(steps + edges)."""
    queues, queue_of = _queues(plan, cap, kinds)
    edges, n_bits = _edges(plan, queue_of)
    records = _records(plan, queue_of, edges, ())
    return _layout(plan, queues, queue_of, n_bits, tuple(records))


def submission(
    plan: Plan,
    run: str,
    bodies: Iterable[bytes] = (),
    *,
    cap: int,
    kinds: Kinds = Kinds.ONE,
    **terms: Any,
) -> Submission:
    """Lay a plan out and pack its records, one at a time: a large plan then takes less memory.

    bodies: one per step, in order, or none. cap, kinds: as for lay_out. terms: more fields of the
    submission.
    """
    queues, queue_of = _queues(plan, cap, kinds)
    edges, n_bits = _edges(plan, queue_of)
    packed = tuple(map(Record.pack, _records(plan, queue_of, edges, bodies)))
    return _layout(plan, queues, queue_of, n_bits).bare(run, packed, **terms)


def _records(
    plan: Plan,
    queue_of: Sequence[int],
    edges: Sequence[tuple[Edge, ...]],
    bodies: Iterable[bytes],
) -> Iterator[Record]:
    sinks, kept, followed = set(plan.sinks), kept_steps(plan), next_in_order(plan)
    body_of = iter(bodies)
    for i, step in enumerate(plan.steps):
        yield Record(
            queue=queue_of[i],
            priority=step.priority,
            is_sink=i in sinks,
            together=i in kept,
            is_followed=i in followed,
            retries=plan.dag.calls[step.task].options.retries,
            upstream=step.upstream,
            edges=edges[i],
            body=next(body_of, b""),
        )


def _layout(
    plan: Plan,
    queues: tuple[Queue, ...],
    queue_of: Sequence[int],
    n_bits: int,
    records: tuple[Record, ...] = (),
) -> Layout:
    sources = []
    resources = {}
    awaiting = set(next_in_order(plan).values())
    for i, step in enumerate(plan.steps):
        if not step.upstream and i not in awaiting:
            sources.append(i)
        resources[queues[queue_of[i]].kind] = step.resources
    return Layout(
        records=records,
        queues=queues,
        sinks=plan.sinks,
        sources=tuple(sources),
        n_bits=n_bits,
        resources=resources,
    )


def queue_name(step: Step) -> str:
    """Returns the name of a step's queue: its worker, or the pool of its resources."""
    return step.worker if step.worker is not None else pool_name(step.resources)


def pool_name(resources: Resources) -> str:
    """Returns the name of the pool of floating workers with these resources."""
    return f"~{resources.label()}"


def _queues(plan: Plan, cap: int, kinds: Kinds) -> tuple[tuple[Queue, ...], list[int]]:
    """Returns the queues of a plan, and the number of the queue of each step."""
    numbers: dict[str, int] = {}
    pools: dict[int, int] = {}  # id of resources -> the queue of its pool: labels take long to make
    queues: list[Queue] = []
    queue_of = []
    for step in plan.steps:
        number = pools.get(id(step.resources)) if step.worker is None else None
        if number is None:
            name = queue_name(step)
            if name not in numbers:
                # Numbers follow the plan: the machine and the scripts visit queues in this order.
                numbers[name] = len(queues)
                queues.append(Queue(name, 1 if step.worker is not None else cap, kinds.of(step)))
            number = numbers[name]
            if step.worker is None:
                pools[id(step.resources)] = number
        queue_of.append(number)
    return tuple(queues), queue_of


def _edges(plan: Plan, queue_of: list[int]) -> tuple[list[tuple[Edge, ...]], int]:
    """Returns the edges from each step to those that wait for it, and the number of bits."""
    following = next_in_order(plan)
    awaited = [step.upstream for step in plan.steps]
    for before, after in following.items():
        awaited[after] = (*awaited[after], before)
    starts, n_bits = bits_of(awaited)
    # A list only where there are several edges: a wide plan has very many steps with one.
    alone: list[tuple[Edge, ...]] = [()] * len(plan.steps)
    several: dict[int, list[Edge]] = {}
    for child, step in enumerate(plan.steps):
        if not step.upstream:
            continue
        start, n_awaited = starts[child], len(awaited[child])
        queue, priority = queue_of[child], step.priority
        for bit, u in enumerate(step.upstream, start):
            edge = (child, bit, start, n_awaited, queue, priority)
            if not alone[u]:
                alone[u] = (edge,)
            else:
                several.setdefault(u, [*alone[u]]).append(edge)
    for u, edges in several.items():
        alone[u] = tuple(edges)
    # The machine knows an edge of an order by its place: it is the last one.
    for u, after in following.items():
        start, n_awaited = starts[after], len(awaited[after])
        bit, priority = start + n_awaited - 1, plan.steps[after].priority
        alone[u] = (*alone[u], (after, bit, start, n_awaited, queue_of[after], priority))
    return alone, n_bits
