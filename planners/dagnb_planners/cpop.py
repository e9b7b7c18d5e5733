"""CPOP: the critical path on one worker, everything else where it ends first.

Source: Topcuoglu, Hariri, Wu, "Performance-effective and low-complexity task scheduling for
heterogeneous computing", IEEE TPDS 13(3), 2002, doi:10.1109/71.993206, section 4.2: the priority of
a task is its upward plus its downward rank (eq. 8, 9); of ready tasks the largest goes first.

In dagnb's cost model workers of equal resources are equally fast. So the critical path has one
worker for each kind of resources that its tasks need. The path begins at the source of the largest
priority, and goes on with the downstream task of the largest priority each time: priorities along
it may differ by rounding.
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
    """Pins the critical path to one worker, other steps to the worker where they end first.

    n_workers: workers at most; None tries 1, 2, 4, ... and keeps the best by simulation.
    """

    name: ClassVar[str] = "cpop"

    n_workers: int | None = None

    def __post_init__(self) -> None:
        """Raises ConfigError for impossible settings."""
        check_workers("Cpop", self.n_workers)

    def plan(self, problem: Problem) -> Plan:
        """Returns a plan with every step pinned.

        Usually O(tasks log tasks + edges) for each number of workers, plus a few simulations.
        """
        prices = RankPrices(problem)
        priorities = list(map(sum, zip(upward(prices), downward(prices), strict=True)))
        path = frozenset(critical_path(problem.dag, priorities))
        order = ready_first(problem.dag, priorities)

        def place(n: int) -> Placing:
            placing = Placing(prices, n)
            path_workers: dict[Resources, PlannedWorker] = {}
            for task in order:
                if task not in path:
                    placing.put(task, placing.best(task))
                    continue
                # The first task of the path chooses its worker, the others follow it there.
                worker = path_workers.get(placing.needs[task])
                if worker is None:
                    placement = placing.best(task)
                else:
                    placement = placing.on_worker(task, placing.ready(task), worker)
                worker = placing.put(task, placement)
                path_workers[worker.resources] = worker
            return placing

        return swept(problem, self.name, place, self.n_workers)


def critical_path(dag: Dag, priorities: Sequence[float]) -> tuple[int, ...]:
    """Returns the path from the source of the largest priority, always to the largest downstream.

    Ties go to the first task. O(tasks + edges).
    """

    def priority(task: int) -> tuple[float, int]:
        return priorities[task], -task

    path = [max(sources(dag), key=priority)]
    while dag.downstream[path[-1]]:
        path.append(max(dag.downstream[path[-1]], key=priority))
    return tuple(path)


def ready_first(dag: Dag, priorities: Sequence[float]) -> list[int]:
    """Returns a topological order: of the tasks that are ready, the largest priority first.

    Ties go to the first task.
    """
    # A task that reads the same value twice waits for one arrival.
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
