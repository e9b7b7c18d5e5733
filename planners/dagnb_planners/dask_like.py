"""What Dask's scheduler would decide: depth-first order, sources in blocks, then where a task would start soonest.

Source: dask.distributed, `SchedulerState.decide_worker_rootish_queuing_disabled`, `decide_worker_non_rootish` and
`worker_objective` (distributed/scheduler.py, https://distributed.dask.org/en/stable/scheduling-policies.html). The
order stands for dask.order.

    sources    more than two a worker of one function: consecutive ones in blocks of floor(tasks / workers) a worker
    others     when the last input is there, of the workers that hold an input the one with the smallest
               occupancy + seconds to fetch what it has not; of equal ones the first

Dask decides while it runs, so its decisions are emulated over the predicted costs. What it does besides is left out: it
steals from busy workers, which mends that a task only ever goes to where an input is, and queues sources. So a tree
that starts on one worker ends there; `everywhere` looks at all workers instead. Compare with real Dask before you say
something about Dask.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from dagnb.graph.dag import Dag
from dagnb.graph.resources import Resources
from dagnb.graph.shape import depth_first, sources
from dagnb.planning.plan import Plan
from dagnb.planning.planner import Problem
from dagnb_planners.placing import Placing, PlannedWorker
from dagnb_planners.ranks import RankPrices
from dagnb_planners.sweep import check_workers, swept

Rooms = dict[Resources, int]
Block = tuple[str, Resources, int]

_ROOTISH = 2
"""more sources of one function than so many a worker go in blocks"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DaskLike:
    """everywhere: look at all workers. n_workers: how many there are; None takes the cap, or the best by simulation."""

    name: ClassVar[str] = "dask_like"

    everywhere: bool = False
    n_workers: int | None = None

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        check_workers("DaskLike", self.n_workers)

    def plan(self, problem: Problem) -> Plan:
        """Every step pinned, its priority the depth-first number. O(edges x workers that hold an input)."""
        prices, numbers = RankPrices(problem), depth_first(problem.dag)

        def place(n: int) -> Placing:
            decisions = _Decisions(Placing(prices, n, inserts=False), numbers, self.everywhere)
            decisions.run()
            return decisions.placing

        n_workers = self.n_workers if self.n_workers is not None else problem.pool.cap
        plan = swept(problem, self.name, place, n_workers)
        steps = tuple(replace(step, priority=numbers[step.task]) for step in plan.steps)
        return replace(plan, steps=steps)


class _Decisions:
    """Dask's, one for each task when it becomes ready."""

    def __init__(self, placing: Placing, numbers: Sequence[int], everywhere: bool) -> None:
        self.placing, self.numbers, self.everywhere = placing, numbers, everywhere
        self.dag = placing.prices.dag
        self.rooms = rooms_of(placing.prices, placing.needs, placing.n_workers)
        self.blocks = in_blocks(self.dag, numbers, placing.needs, self.rooms)
        self.homes: dict[Block | None, PlannedWorker] = {}

    def run(self) -> None:
        """From the sources on, whatever ends first."""
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
            children = dict.fromkeys(self.dag.downstream[task])
            for child in children:
                missing[child] -= 1
            ready = [child for child in children if not missing[child]]

    def put(self, task: int, now: float) -> None:
        """Decide and note."""
        placing, block = self.placing, self.blocks.get(task)
        bench = self.homes[block] if block in self.homes else self.soonest(task, now)
        found = placing.put(
            task, placing.fresh(task, now) if bench is None else placing.offer(task, now, bench)
        )
        if block is not None:
            self.homes[block] = found

    def soonest(self, task: int, now: float) -> PlannedWorker | None:
        """The worker with the smallest occupancy and missing seconds; None for one that nobody used yet."""
        placing, needs = self.placing, self.placing.needs[task]
        crew = placing.crews[needs]
        held = {n: b for u in self.dag.calls[task].upstream for n, b in placing.holders[u].items()}
        benches = [held[n] for n in sorted(held) if held[n].resources == needs]
        if self.everywhere or not benches:
            if len(crew.benches) < self.rooms[needs]:
                unused = self.missing_s(task, None)
                if all(self.objective(task, bench, now) > unused for bench in benches):
                    return None
            elif crew.idlest() not in benches:
                benches.append(crew.idlest())
        return min(benches, key=lambda bench: (self.objective(task, bench, now), bench.number))

    def objective(self, task: int, bench: PlannedWorker, now: float) -> float:
        """Seconds until the worker would start: what it has to do, and what it has to fetch."""
        return max(0.0, bench.busy[-1][1] - now) + self.missing_s(task, bench)

    def missing_s(self, task: int, bench: PlannedWorker | None) -> float:
        """Dask adds up all transfers."""
        inputs = self.placing.prices.inputs[task]
        return sum(seconds for seconds, u in inputs if bench is None or u not in bench.at_hand)


def in_blocks(
    dag: Dag, numbers: Sequence[int], needs: Sequence[Resources], rooms: Rooms
) -> dict[int, Block]:
    """Source -> its block, where there are so many of its function; consecutive in the order share one."""
    groups: dict[tuple[str, Resources], list[int]] = {}
    for task in sorted(sources(dag), key=numbers.__getitem__):
        groups.setdefault((dag.calls[task].function, needs[task]), []).append(task)
    blocks: dict[int, Block] = {}
    for (function, kind), tasks in groups.items():
        length = len(tasks) // rooms[kind]
        if len(tasks) > _ROOTISH * rooms[kind]:
            blocks.update({task: (function, kind, i // length) for i, task in enumerate(tasks)})
    return blocks


def rooms_of(prices: RankPrices, needs: Sequence[Resources], n: int) -> Rooms:
    """How many workers each kind of resources has: by its share of the work, n in all or one a kind."""
    work: dict[Resources, float] = {}
    for kind, seconds in zip(needs, prices.busy, strict=True):
        work[kind] = work.get(kind, 0.0) + seconds
    rooms = dict.fromkeys(work, 1)
    queue = [(-seconds, i, kind) for i, (kind, seconds) in enumerate(work.items())]
    heapq.heapify(queue)
    for _ in range(n - len(rooms)):
        _, i, kind = queue[0]
        rooms[kind] += 1
        heapq.heapreplace(queue, (-work[kind] / rooms[kind], i, kind))
    return rooms
