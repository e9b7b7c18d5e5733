"""A plan as the coordinator sees it: queues of ready tasks, links, one bit an edge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from dagnb.graph.brief import brief
from dagnb.graph.resources import Resources
from dagnb.planning.plan import Plan, Step
from dagnb.protocol.messages import Edge, Queue, Record, Submission, bits_of


class Kinds(Enum):
    """Which instances may staff which queue: all any; those of its resources; those started for that worker alone."""

    ONE = "one"
    RESOURCES = "resources"
    WORKER = "worker"

    def of(self, step: Step) -> str:
        """The kind of a step's queue."""
        if self is Kinds.ONE:
            return ""
        return step.resources.kind if self is Kinds.RESOURCES else queue_name(step)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """records: one a step, without bodies. resources: kind -> what its instances must have."""

    records: tuple[Record, ...]
    queues: tuple[Queue, ...]
    sinks: tuple[int, ...]
    sources: tuple[int, ...]
    n_bits: int
    resources: dict[str, Resources]

    __repr__ = brief

    def submission(self, run: str, bodies: Sequence[bytes], **terms: Any) -> Submission:
        """What is put in the store. terms: further fields of Submission."""
        records = self.records
        if bodies:
            records = tuple(
                replace(record, body=body) for record, body in zip(records, bodies, strict=True)
            )
        return self.bare(run, tuple(record.pack() for record in records), **terms)

    def bare(self, run: str, records: tuple[bytes, ...] = (), **terms: Any) -> Submission:
        """A submission with these packed records; without any for who hands the records over as they are."""
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
    """cap: members of each pool. O(steps + edges)."""
    queues, place = _queues(plan, cap, kinds)
    edges, n_bits = _edges(plan, place)
    sinks = set(plan.sinks)
    records = tuple(
        Record(
            queue=place[i],
            priority=step.priority,
            is_sink=i in sinks,
            retries=plan.dag.calls[step.task].options.retries,
            upstream=step.upstream,
            edges=edges[i],
        )
        for i, step in enumerate(plan.steps)
    )
    return Layout(
        records=records,
        queues=queues,
        sinks=plan.sinks,
        sources=tuple(i for i, step in enumerate(plan.steps) if not step.upstream),
        n_bits=n_bits,
        resources={kinds.of(step): step.resources for step in plan.steps},
    )


def queue_name(step: Step) -> str:
    """A queue a pinned worker, a queue a pool of equal resources."""
    return step.worker if step.worker is not None else pool_name(step.resources)


def pool_name(resources: Resources) -> str:
    """Name of the pool of floating workers with these resources."""
    return f"~{resources.label()}"


def _queues(plan: Plan, cap: int, kinds: Kinds) -> tuple[tuple[Queue, ...], list[int]]:
    """The queues of a plan, and the queue of each step."""
    found: dict[str, int] = {}
    queues: list[Queue] = []
    place = []
    for step in plan.steps:
        name = queue_name(step)
        if name not in found:
            found[name] = len(queues)
            queues.append(Queue(name, 1 if step.worker is not None else cap, kinds.of(step)))
        place.append(found[name])
    return tuple(queues), place


def _edges(plan: Plan, place: list[int]) -> tuple[list[tuple[Edge, ...]], int]:
    starts, n_bits = bits_of([step.upstream for step in plan.steps])
    lists: list[list[Edge]] = [[] for _ in plan.steps]
    for child, step in enumerate(plan.steps):
        for position, u in enumerate(step.upstream):
            lists[u].append(
                (
                    child,
                    starts[child] + position,
                    starts[child],
                    len(step.upstream),
                    place[child],
                    step.priority,
                )
            )
    return [tuple(edges) for edges in lists], n_bits
