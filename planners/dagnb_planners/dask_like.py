"""The decisions of Dask's scheduler: depth-first order, sources in blocks, then the soonest start.

Source: dask.distributed, `SchedulerState.decide_worker_rootish_queuing_disabled`,
`decide_worker_non_rootish` and `worker_objective` (distributed/scheduler.py,
https://distributed.dask.org/en/stable/scheduling-policies.html). The depth-first order takes the
place of dask.order.

    sources    if a function has more than two sources per worker: consecutive sources in blocks,
               floor(sources / workers) in each, one block per worker
    others     when the last input is there: of the workers that hold an input, the one with the
               smallest occupancy + seconds to fetch the other inputs; ties go to the first worker

Dask decides while a run goes on, so its decisions are emulated over the predicted costs. Two things
are left out: work stealing, by which Dask makes up for placing tasks only where an input is, and
queueing of sources. So a tree that starts on one worker ends there; with `everywhere` all workers
are considered instead. Compare with real Dask before you say something about Dask.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from dagnb.graph.dag import Dag
from dagnb.graph.resources import Resources
from dagnb.graph.shape import depth_first, sources
from dagnb.planning.kept import with_kept_results
from dagnb.planning.plan import Plan
from dagnb.planning.planner import Problem
from dagnb_planners.placing import Placing, PlannedWorker
from dagnb_planners.ranks import RankPrices
from dagnb_planners.sweep import check_workers, swept

WorkerCounts = dict[Resources, int]
Block = tuple[str, Resources, int]

# Sources of one function go in blocks if there are more of them per worker than this.
_ROOTISH = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class DaskLike:
    """Pins every step to the worker where Dask would run it.

    everywhere: consider all workers, not only those that hold an input. n_workers: workers of the
    cluster; None takes the cap of the pool, or the best number by simulation.
    """

    name: ClassVar[str] = "dask_like"

    everywhere: bool = False
    n_workers: int | None = None

    def __post_init__(self) -> None:
        """Raises ConfigError for impossible settings."""
        check_workers("DaskLike", self.n_workers)

    def plan(self, problem: Problem) -> Plan:
        """Returns a plan with every step pinned, its priority the depth-first number.

        O(edges x workers that hold an input).
        """
        prices, numbers = RankPrices(problem), depth_first(problem.dag)

        def place(n: int) -> Placing:
            decisions = _Decisions(Placing(prices, n, inserts=False), numbers, self.everywhere)
            decisions.run()
            return decisions.placing

        n_workers = self.n_workers if self.n_workers is not None else problem.pool.cap
        plan = swept(problem, self.name, place, n_workers)
        steps = tuple(replace(step, priority=numbers[step.task]) for step in plan.steps)
        return with_kept_results(replace(plan, steps=steps))


class _Decisions:
    """The decisions of Dask, one for each task when it becomes ready."""

    def __init__(self, placing: Placing, numbers: Sequence[int], everywhere: bool) -> None:
        self.placing, self.numbers, self.everywhere = placing, numbers, everywhere
        self.dag = placing.prices.dag
        self.counts = worker_counts(placing.prices, placing.n_workers)
        self.blocks = in_blocks(self.dag, numbers, placing.needs, self.counts)
        self.block_workers: dict[Block | None, PlannedWorker] = {}

    def run(self) -> None:
        """Emulates the run from its sources on: tasks end in the order of their times."""
        missing = [len(set(call.upstream)) for call in self.dag.calls]
        ended: list[tuple[float, int, int]] = []
        ready: Iterable[int] = sources(self.dag)
        now = 0.0
        while True:
            for task in sorted(ready, key=self.numbers.__getitem__):
                self.put(task, now)
                heapq.heappush(ended, (self.placing.end[task], self.numbers[task], task))
            if not ended:
                return
            now, _, task = heapq.heappop(ended)
            ready = []
            for child in dict.fromkeys(self.dag.downstream[task]):
                missing[child] -= 1
                if not missing[child]:
                    ready.append(child)

    def put(self, task: int, now: float) -> None:
        """Decides on a worker for the task."""
        placing, block = self.placing, self.blocks.get(task)
        # Sources outside a block have the key None, which is never stored.
        worker = self.block_workers.get(block) or self.soonest(task, now)
        if worker is None:
            worker = placing.put(task, placing.on_new_worker(task, now))
        else:
            placing.put(task, placing.on_worker(task, now, worker))
        if block is not None:
            self.block_workers[block] = worker

    def soonest(self, task: int, now: float) -> PlannedWorker | None:
        """Returns the worker of the smallest objective; None for a worker that is unused so far."""
        placing, needs = self.placing, self.placing.needs[task]
        group = placing.groups[needs]
        held: dict[int, PlannedWorker] = {}
        for u in self.dag.calls[task].upstream:
            held |= placing.holders[u]
        workers = [held[n] for n in sorted(held) if held[n].resources == needs]
        if self.everywhere or not workers:
            if len(group.workers) < self.counts[needs]:
                unused = self.missing_s(task, None)
                if all(self.objective(task, worker, now) > unused for worker in workers):
                    return None
            # Of the workers without inputs, the idlest has the smallest objective.
            elif group.idlest() not in workers:
                workers.append(group.idlest())

        def rank(worker: PlannedWorker) -> tuple[float, int]:
            return self.objective(task, worker, now), worker.number

        return min(workers, key=rank)

    def objective(self, task: int, worker: PlannedWorker, now: float) -> float:
        """Returns the seconds until the worker could start the task: occupancy plus transfers."""
        return max(0.0, worker.busy[-1][1] - now) + self.missing_s(task, worker)

    def missing_s(self, task: int, worker: PlannedWorker | None) -> float:
        """Returns the seconds to fetch the inputs that the worker does not hold."""
        # The sum, as in Dask, although transfers run at the same time.
        at_hand: Iterable[int] = worker.at_hand if worker is not None else ()
        inputs = self.placing.prices.inputs[task]
        return sum(seconds for seconds, u in inputs if u not in at_hand)


def in_blocks(
    dag: Dag,
    numbers: Sequence[int],
    needs: Sequence[Resources],
    counts: WorkerCounts,
) -> dict[int, Block]:
    """Returns source -> its block, for functions that have enough sources.

    Sources that follow one another in depth-first order share a block, so that the task which reads
    them finds them on one worker.
    """
    groups: dict[tuple[str, Resources], list[int]] = {}
    for task in sorted(sources(dag), key=numbers.__getitem__):
        groups.setdefault((dag.calls[task].function, needs[task]), []).append(task)
    blocks: dict[int, Block] = {}
    for (function, resources), tasks in groups.items():
        length = len(tasks) // counts[resources]
        if len(tasks) <= _ROOTISH * counts[resources]:
            continue
        for i, task in enumerate(tasks):
            blocks[task] = (function, resources, i // length)
    return blocks


def worker_counts(prices: RankPrices, n: int) -> WorkerCounts:
    """Returns resources -> number of workers: n in all, but at least one for each resources.

    Each further worker goes to the resources with the most work per worker.
    """
    work: dict[Resources, float] = {}
    for resources, seconds in zip(prices.needs, prices.busy, strict=True):
        work[resources] = work.get(resources, 0.0) + seconds
    counts = dict.fromkeys(work, 1)
    queue: list[tuple[float, int, Resources]] = []
    for i, (resources, seconds) in enumerate(work.items()):
        heapq.heappush(queue, (-seconds, i, resources))
    for _ in range(n - len(counts)):
        _, i, resources = queue[0]
        counts[resources] += 1
        heapq.heapreplace(queue, (-work[resources] / counts[resources], i, resources))
    return counts
