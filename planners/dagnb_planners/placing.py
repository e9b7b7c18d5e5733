"""A schedule that is being made: the busy times of workers, and the possible placements of a task.

    worker 0   [a ...][b ..]      [d ....]     holds values of a, b, c (fetched), d
    worker 1           [c ......]              holds values of a (fetched), c
                                ^ready of d: its last input is there

A list scheduler takes tasks in an order in which upstream tasks come first, looks at the possible
placements of each, and puts it on one.

Times follow the virtual world: a worker does one thing at a time; a value can be read, also by the
worker that made it, when its task has been handed over; a value that a worker made or fetched needs
no transfer. The times are estimates, only the simulator is exact: a worker keeps its container
here, and an idle one starts warm.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from dagnb.graph.dag import Dag
from dagnb.graph.resources import Resources
from dagnb.planning.plan import Plan, Step
from dagnb_planners.ranks import RankPrices
from dagnb_planners.worker_timeline import PlannedWorker, WorkerGroup

__all__ = ["PlacementOption", "Placing", "PlannedWorker", "pinned_plan", "turns"]

# At most so many workers that hold an input are looked at one by one; more are grouped by duration.
_FEW = 16


@dataclass(frozen=True, slots=True)
class PlacementOption:
    """A possible placement of a task: from begin to end it would keep the worker busy.

    begin, end: seconds after submission. worker: None for a new one. lasts: end - begin, seconds.
    """

    end: float
    begin: float
    worker: PlannedWorker | None
    lasts: float

    def end_then_number(self) -> tuple[float, float]:
        """Returns the sort key: the end, then the number of the worker, a new one last."""
        return self.end, self.worker.number if self.worker is not None else math.inf


class Placing:
    """A schedule that grows by one task at a time.

    begin, end: task -> when it begins, when its value can be read; seconds after submission.
    number: task -> number of its worker, -1 before it is placed.
    workers: by number. groups: workers of equal resources.
    holders: task -> the workers, by number, that hold its value.
    """

    def __init__(self, prices: RankPrices, n_workers: int, *, inserts: bool = True) -> None:
        """Starts empty.

        n_workers: workers at most, but one for each resources in any case. inserts: whether a task
        may go into a gap between others.
        """
        self.prices, self.n_workers, self.inserts = prices, max(1, n_workers), inserts
        self.needs = prices.needs
        self.workers: list[PlannedWorker] = []
        self.groups: dict[Resources, WorkerGroup] = {}
        for needs in dict.fromkeys(self.needs):
            self.groups[needs] = WorkerGroup(prices.problem, needs, inserts=inserts)
        self.holders: list[dict[int, PlannedWorker]] = [{} for _ in prices.dag.calls]
        self.end = [math.inf] * len(prices.dag)
        self.begin = [0.0] * len(prices.dag)
        self.number = [-1] * len(prices.dag)

    def ready(self, task: int) -> float:
        """Returns the moment at which the last input of the task can be read."""
        return max((self.end[u] for u in self.prices.dag.calls[task].upstream), default=0.0)

    def placements(self, task: int) -> list[PlacementOption]:
        """Returns the task on each worker of its resources, and on a new one if allowed."""
        ready, group = self.ready(task), self.groups[self.needs[task]]
        placements = [self.on_worker(task, ready, worker) for worker in group.workers.values()]
        if self.may_add_worker(task):
            placements.append(self.on_new_worker(task, ready))
        return placements

    def best(self, task: int) -> PlacementOption:
        """Returns the placement with the earliest end; ties go to the first existing worker.

        It is the smallest of `placements`, but only those that could be smallest are computed.
        O(log workers + workers that hold the largest input).
        """
        return min(self.candidates(task, self.ready(task)), key=PlacementOption.end_then_number)

    def candidates(self, task: int, ready: float) -> list[PlacementOption]:
        """Returns the placements that could be best, not empty."""
        candidates = list(self._on_existing(task, ready))
        if self.may_add_worker(task):
            candidates.append(self.on_new_worker(task, ready))
        return candidates

    def may_add_worker(self, task: int) -> bool:
        """Returns True if one more worker may be named for the task."""
        return len(self.workers) < self.n_workers or not self.groups[self.needs[task]].workers

    def on_worker(self, task: int, ready: float, worker: PlannedWorker) -> PlacementOption:
        """Returns the placement of the task on this worker, at the earliest possible begin."""
        lasts = self.lasts(task, worker)
        begin = self.groups[self.needs[task]].begin_on(worker, ready, lasts)
        return PlacementOption(begin + lasts, begin, worker, lasts)

    def on_new_worker(self, task: int, ready: float) -> PlacementOption:
        """Returns the placement of the task on a new worker.

        The worker is started when the task is ready; in an eager pool it started at submission.
        """
        lasts = self.lasts(task, None)
        begin = self.groups[self.needs[task]].begin_on_new(ready)
        return PlacementOption(begin + lasts, begin, None, lasts)

    def lasts(self, task: int, worker: PlannedWorker | None) -> float:
        """Returns the seconds for which the task keeps a worker busy.

        worker: None for one that holds no values.
        """
        prices, fetch = self.prices, 0.0
        # Transfers run at the same time, so the longest one counts, which is listed first.
        for seconds, u in prices.inputs[task]:
            if worker is None or u not in worker.at_hand:
                fetch = seconds
                break
        return max(fetch, prices.outside_s[task]) + prices.busy[task]

    def put(self, task: int, placement: PlacementOption) -> PlannedWorker:
        """Puts the task at this placement. Returns its worker."""
        worker = placement.worker
        if worker is None:
            worker = PlannedWorker(len(self.workers), self.needs[task])
            self.workers.append(worker)
        self.groups[worker.resources].put(worker, placement.begin, placement.end)
        # Inputs that the worker fetched whole stay in its memory, too.
        for u in (task, *self.prices.kept[task]):
            worker.at_hand.add(u)
            self.holders[u][worker.number] = worker
        self.begin[task], self.end[task] = placement.begin, placement.end
        self.number[task] = worker.number
        return worker

    @property
    def makespan_s(self) -> float:
        """The last end so far."""
        return max(self.end)

    def plan(self, planner: str) -> Plan:
        """Returns the plan with every step pinned; earlier begins go first."""
        dag = self.prices.dag
        order = sorted(range(len(dag)), key=lambda task: (self.begin[task], task))
        return pinned_plan(dag, planner, self.number, turns(order))

    # ---- parts ----

    def _on_existing(self, task: int, ready: float) -> Iterator[PlacementOption]:
        """Yields the placements that could be best on the workers of its resources.

        Workers that lack the largest input must fetch it, which takes longest whatever else they
        hold. So they are all equal, and only the one that could begin first counts.
        """
        group, inputs = self.groups[self.needs[task]], self.prices.inputs[task]
        if inputs:
            near = self.holders[inputs[0][1]]
            if len(near) <= _FEW:
                for worker in near.values():
                    if worker.resources == self.needs[task]:
                        yield self.on_worker(task, ready, worker)
            else:
                for lasts, among in self._by_duration(task, near).items():
                    yield from self._first(group, ready, lasts, among)
        yield from self._first(group, ready, self.lasts(task, None), None)

    def _first(
        self,
        group: WorkerGroup,
        ready: float,
        lasts: float,
        among: Collection[int] | None,
    ) -> Iterator[PlacementOption]:
        first = group.first(ready, lasts, among)
        if first is not None:
            begin, number = first
            yield PlacementOption(begin + lasts, begin, group.workers[number], lasts)

    def _by_duration(
        self,
        task: int,
        near: dict[int, PlannedWorker],
    ) -> Mapping[float, Collection[int]]:
        """Returns duration of the task -> those of these workers on which it lasts so long."""
        if len(self.prices.inputs[task]) == 1:
            return {self.lasts(task, next(iter(near.values()))): near.keys()}
        by_duration: dict[float, set[int]] = {}
        for number, worker in near.items():
            by_duration.setdefault(self.lasts(task, worker), set()).add(number)
        return by_duration


def pinned_plan(dag: Dag, planner: str, numbers: Sequence[int], priorities: Sequence[int]) -> Plan:
    """Returns a plan of one step for each task. numbers: task -> number of its worker."""
    steps = []
    for task, call in enumerate(dag.calls):
        step = Step(
            task=task,
            upstream=call.upstream,
            worker=f"w{numbers[task]}",
            resources=call.options.needs,
            priority=priorities[task],
        )
        steps.append(step)
    return Plan(dag=dag, steps=tuple(steps), planner=planner)


def turns(order: Sequence[int]) -> list[int]:
    """Returns the position of each item in the order.

    >>> turns([2, 0, 1])
    [1, 2, 0]
    """
    turns = [0] * len(order)
    for turn, item in enumerate(order):
        turns[item] = turn
    return turns
