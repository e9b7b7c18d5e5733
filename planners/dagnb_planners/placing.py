"""A schedule while it is being made: when each worker is busy, what it has at hand, what a task would take there.

Estimates follow the virtual world: a worker does one thing at a time; a value is there for everybody, its maker too,
when its task has been handed over; what a worker made or fetched is at hand. Only the simulator is exact: here a
worker keeps its place, and an idle one starts warm.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from dagnb.graph.resources import Resources
from dagnb.planning.plan import Plan, Step, WorkerTerms
from dagnb_planners.ranks import RankPrices
from dagnb_planners.worker_timeline import PlannedWorker, WorkerGroup

__all__ = ["Placement", "Placing", "PlannedWorker"]

_FEW = 16
"""so many workers are asked one by one"""


@dataclass(frozen=True, slots=True)
class Placement:
    """A task on a worker: from begin to end it would keep the worker busy. bench None: a fresh worker."""

    end: float
    begin: float
    bench: PlannedWorker | None
    lasts: float

    def end_then_number(self) -> tuple[float, float]:
        """What is compared: the end, then which worker, a fresh one last."""
        return self.end, self.bench.number if self.bench is not None else math.inf


class Placing:
    """Tasks are put in any order in which upstream tasks come first. end: task -> moment its value is there."""

    def __init__(self, prices: RankPrices, n_workers: int, *, inserts: bool = True) -> None:
        """n_workers: at most so many, or one a kind of resources. inserts: a task may go into a gap."""
        self.prices, self.n_workers, self.inserts = prices, max(1, n_workers), inserts
        self.needs = [call.options.needs for call in prices.dag.calls]
        self.benches: list[PlannedWorker] = []
        self.crews: dict[Resources, WorkerGroup] = {
            needs: WorkerGroup(prices.problem, needs, inserts=inserts)
            for needs in dict.fromkeys(self.needs)
        }
        self.holders: list[dict[int, PlannedWorker]] = [{} for _ in prices.dag.calls]
        self.end = [math.inf] * len(prices.dag)
        self.begin = [0.0] * len(prices.dag)
        self.worker = [-1] * len(prices.dag)

    def ready(self, task: int) -> float:
        """When the last of its inputs is there."""
        return max((self.end[u] for u in self.prices.dag.calls[task].upstream), default=0.0)

    def offers(self, task: int) -> list[Placement]:
        """The task on each worker of its resources, and on a fresh one where one more may be named."""
        ready, crew = self.ready(task), self.crews[self.needs[task]]
        found = [self.offer(task, ready, bench) for bench in crew.benches.values()]
        if self.may_name(task):
            found.append(self.fresh(task, ready))
        return found

    def best(self, task: int) -> Placement:
        """The earliest end; of equal ones a worker that is there, the first.

        The same as the smallest of offers(task), but only those are made that could be it: of the workers that hold
        equally much of its inputs the one that could begin first. O(log workers) and those that hold its largest input.
        """
        return min(self.leading(task, self.ready(task)), key=Placement.end_then_number)

    def leading(self, task: int, ready: float) -> list[Placement]:
        """The offers that could be best, not empty."""
        found = list(self._leading(task, ready))
        if self.may_name(task):
            found.append(self.fresh(task, ready))
        return found

    def may_name(self, task: int) -> bool:
        """Whether one more worker may be named for it."""
        return len(self.benches) < self.n_workers or not self.crews[self.needs[task]].benches

    def offer(self, task: int, ready: float, bench: PlannedWorker) -> Placement:
        """The task on this worker, as early as there is a gap."""
        lasts = self.lasts(task, bench)
        begin = self.crews[self.needs[task]].begin_on(bench, ready, lasts)
        return Placement(begin + lasts, begin, bench, lasts)

    def lasts(self, task: int, bench: PlannedWorker | None) -> float:
        """How long it keeps the worker busy: fetching what is not at hand, then everything else."""
        prices, fetch = self.prices, 0.0
        for seconds, u in prices.inputs[task]:
            if bench is None or u not in bench.at_hand:
                fetch = seconds
                break
        return max(fetch, prices.outside_s[task]) + prices.busy[task]

    def fresh(self, task: int, ready: float) -> Placement:
        """The task on a worker of its own, started when it is ready; in an eager pool all start at submission."""
        lasts = self.lasts(task, None)
        begin = self.crews[self.needs[task]].fresh(ready)
        return Placement(begin + lasts, begin, None, lasts)

    def put(self, task: int, offer: Placement) -> PlannedWorker:
        """Decide."""
        bench = offer.bench
        if bench is None:
            bench = PlannedWorker(len(self.benches), self.needs[task])
            self.benches.append(bench)
        self.crews[bench.resources].put(bench, offer.begin, offer.end)
        for u in (task, *self.prices.kept[task]):
            bench.at_hand.add(u)
            self.holders[u][bench.number] = bench
        self.begin[task], self.end[task], self.worker[task] = offer.begin, offer.end, bench.number
        return bench

    @property
    def makespan_s(self) -> float:
        """The last end so far."""
        return max(self.end)

    def plan(self, planner: str, *, linger_s: float = 0.0) -> Plan:
        """Every step pinned; who begins earlier goes first."""
        dag = self.prices.dag
        order = sorted(range(len(dag)), key=lambda task: (self.begin[task], task))
        turn = {task: number for number, task in enumerate(order)}
        steps = tuple(
            Step(
                task=task,
                upstream=call.upstream,
                worker=f"w{self.worker[task]}",
                resources=self.needs[task],
                priority=turn[task],
            )
            for task, call in enumerate(dag.calls)
        )
        terms = (
            {f"w{bench.number}": WorkerTerms(linger_s=linger_s) for bench in self.benches}
            if linger_s
            else {}
        )
        return Plan(dag=dag, steps=steps, planner=planner, workers=terms)

    # ---- parts ----

    def _leading(self, task: int, ready: float) -> Iterator[Placement]:
        """Of all workers of its resources, those that could be best: whom the largest input is at hand, and the first.

        Who has not the largest input fetches it, whatever else is at hand.
        """
        crew, inputs = self.crews[self.needs[task]], self.prices.inputs[task]
        if inputs:
            near = self.holders[inputs[0][1]]
            if len(near) <= _FEW:
                yield from (
                    self.offer(task, ready, b)
                    for b in near.values()
                    if b.resources == self.needs[task]
                )
            else:
                for lasts, among in self._by_length(task, near).items():
                    yield from self._first(crew, ready, lasts, among)
        yield from self._first(crew, ready, self.lasts(task, None), None)

    def _first(
        self, crew: WorkerGroup, ready: float, lasts: float, among: Collection[int] | None
    ) -> Iterator[Placement]:
        found = crew.first(ready, lasts, among)
        if found is not None:
            begin, number = found
            yield Placement(begin + lasts, begin, crew.benches[number], lasts)

    def _by_length(
        self, task: int, near: dict[int, PlannedWorker]
    ) -> Mapping[float, Collection[int]]:
        """How long the task lasts -> workers on which it does, of those that hold its largest input."""
        if len(self.prices.inputs[task]) == 1:
            return {self.lasts(task, next(iter(near.values()))): near.keys()}
        found: dict[float, set[int]] = {}
        for number, bench in near.items():
            found.setdefault(self.lasts(task, bench), set()).add(number)
        return found
