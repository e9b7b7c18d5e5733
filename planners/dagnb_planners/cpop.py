"""CPOP: the critical path on one worker, everything else where it ends first.

Source: Topcuoglu, Hariri, Wu, "Performance-effective and low-complexity task scheduling for heterogeneous computing",
IEEE TPDS 13(3), 2002, doi:10.1109/71.993206, section 4.2: a task's priority is its upward plus its downward rank
(eq. 8, 9); of ready tasks that of the largest goes first. Here equal workers of each kind of resources are one choice:
the critical path has a worker for each kind it passes, since workers are as fast as one another. The path goes from the
source of the largest priority on to the downstream task of the largest; sums that are equal but for rounding do not
break it so.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from dagnb.graph.dag import Dag
from dagnb.graph.resources import Resources
from dagnb.graph.shape import sources
from dagnb.planning.plan import Plan
from dagnb.planning.planner import Problem
from dagnb_planners.placing import Placing, PlannedWorker
from dagnb_planners.ranks import RankPrices, downward, upward
from dagnb_planners.sweep import check_workers, swept


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpop:
    """n_workers: how many workers to plan for at most; None tries 1, 2, 4, ... and keeps the best by simulation."""

    name: ClassVar[str] = "cpop"

    n_workers: int | None = None

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        check_workers("Cpop", self.n_workers)

    def plan(self, problem: Problem) -> Plan:
        """Every step pinned. O(tasks log tasks + edges) a number of workers as a rule, and a simulation of a few."""
        prices = RankPrices(problem)
        priorities = [up + down for up, down in zip(upward(prices), downward(prices), strict=True)]
        path = frozenset(critical_path(problem.dag, priorities))

        def place(n: int) -> Placing:
            placing = Placing(prices, n)
            homes: dict[Resources, PlannedWorker] = {}
            for task in ready_first(problem.dag, priorities):
                home = homes.get(placing.needs[task]) if task in path else None
                offer = (
                    placing.best(task)
                    if home is None
                    else placing.offer(task, placing.ready(task), home)
                )
                bench = placing.put(task, offer)
                if task in path:
                    homes[bench.resources] = bench
            return placing

        return swept(problem, self.name, place, self.n_workers)


def critical_path(dag: Dag, priorities: Sequence[float]) -> tuple[int, ...]:
    """From the source of the largest priority down along the largest; of equal ones the first. O(tasks + edges)."""
    path = [max(sources(dag), key=lambda task: (priorities[task], -task))]
    while dag.downstream[path[-1]]:
        path.append(max(dag.downstream[path[-1]], key=lambda task: (priorities[task], -task)))
    return tuple(path)


def ready_first(dag: Dag, priorities: Sequence[float]) -> list[int]:
    """A topological order: of the tasks that are ready that of the largest priority, of equal ones the first."""
    missing = [len(set(call.upstream)) for call in dag.calls]
    ready = [(-priorities[task], task) for task in sources(dag)]
    heapq.heapify(ready)
    order = []
    while ready:
        _, task = heapq.heappop(ready)
        order.append(task)
        for child in dict.fromkeys(dag.downstream[task]):
            missing[child] -= 1
            if not missing[child]:
                heapq.heappush(ready, (-priorities[child], child))
    return order
