"""The configurations to explore: a DAG, placement, instances, and faults of each kind."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from dagnb.protocol.messages import Edge, Queue, Record, Submission, bits_of


class Fault(StrEnum):
    """The faults that may happen; a configuration says how often."""

    CRASH = "crash"
    LOST_REPLY = "lost reply"
    LATE = "late repetition"
    RAISE = "exception"
    SUSPECT = "false suspicion"
    VANISH = "lost blob"
    HINT = "hint lost or doubled"
    CANCEL = "cancel"
    DEADLINE = "deadline"


FAULTS = tuple(Fault)


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """One thing to explore.

    upstream: of each task. queues: the cap of each queue, 0 for a pinned worker.
    placement: the queue of each task.
    delays: that a failing attempt may ask for; None is no retry.
    is_small: results ride along with commits and offers.
    is_bound: instances are started for one worker only.
    with_hints: an idle instance wakes for a hint; without, it only polls, which covers every fate
        of a hint.
    kinds: of the queues. instances: their kinds; one comes in the place of another of its kind.
    start_s: the run is cancelled when no one took part by then, at any moment before.
    together: tasks are run together with their only reader, for which their results are kept.
    holds: pinned workers run their tasks in order, and wait for the next one.
    in_containers: who is seen dead died with its container, so that all it ran is charged.
    """

    name: str
    upstream: tuple[tuple[int, ...], ...]
    queues: tuple[int, ...]
    placement: tuple[int, ...]
    sinks: tuple[int, ...]
    faults: dict[Fault, int] = field(default_factory=dict)
    n_instances: int = 2
    retries: int = 0
    delays: tuple[float | None, ...] = (0.0,)
    on_error: str = "fail"
    crash_budget: int = 1
    loss_budget: int = 1
    want: int = 1
    is_small: bool = True
    is_bound: bool = False
    with_hints: bool = False
    kinds: tuple[str, ...] = ()
    instances: tuple[str, ...] = ()
    together: bool = False
    holds: bool = False
    in_containers: bool = False
    start_s: float | None = None

    @property
    def staff(self) -> tuple[str, ...]:
        """The kind of each instance that may live at a time."""
        return self.instances or ("",) * self.n_instances

    def predecessor(self, task: int) -> int:
        """The task that this one waits for because of the order alone, -1 for none."""
        queue = self.placement[task]
        before = [other for other in range(task) if self.placement[other] == queue]
        if not self.holds or self.queues[queue] or not before or before[-1] in self.upstream[task]:
            return -1
        return before[-1]

    def awaited(self, task: int) -> tuple[int, ...]:
        """Upstream tasks, then the predecessor if there is one."""
        predecessor = self.predecessor(task)
        return self.upstream[task] + ((predecessor,) if predecessor >= 0 else ())

    def reader(self, task: int) -> int:
        """The reader that a task is run together with, -1 for none."""
        readers = [child for child, ups in enumerate(self.upstream) if task in ups]
        alone = self.together and task not in self.sinks and len(readers) == 1
        return readers[0] if alone and self.placement[readers[0]] == self.placement[task] else -1

    def submission(self) -> Submission:
        """The run as it is put in the store. Earlier tasks are more urgent."""
        awaited = [self.awaited(task) for task in range(len(self.upstream))]
        starts, n_bits = bits_of(awaited)
        names = [f"w{i}" if cap == 0 else f"~p{i}" for i, cap in enumerate(self.queues)]
        records = []
        for task, upstream in enumerate(self.upstream):
            edges: list[Edge] = [
                (
                    child,
                    starts[child] + ups.index(task),
                    starts[child],
                    len(ups),
                    self.placement[child],
                    child,
                )
                for child, ups in enumerate(awaited)
                if task in ups
            ]
            # The edge of the order comes last.
            edges.sort(key=lambda edge: task not in self.upstream[edge[0]])
            records.append(
                Record(
                    queue=self.placement[task],
                    priority=task,
                    is_sink=task in self.sinks,
                    together=self.reader(task) >= 0,
                    is_followed=bool(edges) and task not in self.upstream[edges[-1][0]],
                    retries=self.retries,
                    upstream=upstream,
                    edges=tuple(edges),
                )
            )
        return Submission(
            run="model",
            records=tuple(record.pack() for record in records),
            queues=tuple(
                map(
                    Queue,
                    names,
                    (cap or 1 for cap in self.queues),
                    self.kinds or ("",) * len(names),
                )
            ),
            sinks=self.sinks,
            sources=tuple(task for task, tasks in enumerate(awaited) if not tasks),
            n_bits=n_bits,
            on_error=self.on_error,
            crash_budget=self.crash_budget,
            loss_budget=self.loss_budget,
            start_s=self.start_s,
        )
