"""A schedule while it is being made: when each worker is busy, what it has at hand, what a task would take there.

Estimates follow the virtual world: a worker does one thing at a time; a value is there for everybody, its maker too,
when its task has been handed over; what a worker made or fetched is at hand. Only the simulator is exact: here a
worker keeps its place, and an idle one starts warm.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from dataclasses import dataclass, field

from dagnb.graph.resources import Resources
from dagnb.planning.plan import Plan, Step, WorkerTerms
from dagnb_planners.ranks import Prices


@dataclass(slots=True)
class Bench:
    """One worker of the plan. busy: (begin, end) of what it does, ascending. at_hand: tasks whose values it holds."""

    number: int
    resources: Resources
    busy: list[tuple[float, float]] = field(default_factory=list)
    at_hand: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Offer:
    """A task on a worker: from begin to end it would keep the worker busy. bench None: a fresh worker."""

    end: float
    begin: float
    bench: Bench | None
    lasts: float


class Placing:
    """Tasks are put in any order in which upstream tasks come first. end: task -> moment its value is there."""

    def __init__(self, prices: Prices, n_workers: int, *, inserts: bool = True) -> None:
        """n_workers: at most so many, or one a kind of resources. inserts: a task may go into a gap."""
        self.prices, self.n_workers, self.inserts = prices, max(1, n_workers), inserts
        self.pool = prices.problem.pool
        self.needs = [call.options.needs for call in prices.dag.calls]
        self.benches: list[Bench] = []
        self.by_needs: dict[Resources, list[Bench]] = {}
        self.end = [math.inf] * len(prices.dag)
        self.begin = [0.0] * len(prices.dag)
        self.worker = [-1] * len(prices.dag)

    def ready(self, task: int) -> float:
        """When the last of its inputs is there."""
        return max((self.end[u] for u in self.prices.dag.calls[task].upstream), default=0.0)

    def offers(self, task: int) -> list[Offer]:
        """The task on each worker of its resources, and on a fresh one where one more may be named."""
        ready = self.ready(task)
        alike = self.by_needs.get(self.needs[task], [])
        found = [self.offer(task, ready, bench) for bench in alike]
        if not alike or len(self.benches) < self.n_workers:
            found.append(self.fresh(task, ready))
        return found

    def best(self, task: int) -> Offer:
        """The earliest end; of equal ones a worker that is there, the first."""
        return min(self.offers(task), key=lambda offer: offer.end)

    def offer(self, task: int, ready: float, bench: Bench) -> Offer:
        """The task on this worker, as early as there is a gap."""
        lasts = self.lasts(task, bench)
        begin = self._gap(bench, ready, lasts)
        return Offer(begin + lasts, begin, bench, lasts)

    def lasts(self, task: int, bench: Bench) -> float:
        """How long it keeps the worker busy: fetching what is not at hand, then everything else."""
        prices, fetch = self.prices, 0.0
        for n_bytes, u in prices.inputs[task]:
            if u not in bench.at_hand:
                fetch = prices.fetch(n_bytes, task)
                break
        return max(fetch, prices.outside_s(task)) + prices.busy[task]

    def fresh(self, task: int, ready: float) -> Offer:
        """The task on a worker of its own, started when it is ready; in an eager pool all start at submission."""
        inputs = self.prices.inputs[task]
        fetch = self.prices.fetch(inputs[0][0], task) if inputs else 0.0
        lasts = max(fetch, self.prices.outside_s(task)) + self.prices.busy[task]
        begin = self._first(self.needs[task], ready)
        return Offer(begin + lasts, begin, None, lasts)

    def _first(self, needs: Resources, ready: float) -> float:
        costs, pool = self.prices.costs, self.pool
        cold = costs.start(needs, is_warm=False).total_s + costs.program_s
        if pool.eager:
            return max(ready, cold)
        warm = costs.start(needs, is_warm=True).total_s + costs.program_s
        alike = self.by_needs.get(needs, [])
        begun = sum(1 for bench in alike if bench.busy)
        idle = pool.warm.get(needs, 0) > begun or any(self._rests(bench, ready) for bench in alike)
        return ready + (warm if idle else cold)

    def _rests(self, bench: Bench, at: float) -> bool:
        """Whether the worker's container is idle then, and warm."""
        end = bench.busy[-1][1] if bench.busy else math.inf
        return end + self.pool.linger_s < at <= end + self.pool.linger_s + self.pool.keep_alive_s

    def _gap(self, bench: Bench, ready: float, lasts: float) -> float:
        """The earliest begin, not before it is ready and the worker is awake, at which nothing is in the way."""
        busy = bench.busy
        if self.inserts and busy and ready < busy[-1][1]:
            at = bisect_left(busy, (ready, math.inf))
            free = max(ready, busy[at - 1][1]) if at else max(ready, busy[0][0])
            for begin, end in busy[at:]:
                if free + lasts <= begin:
                    return free
                free = max(free, end)
            return free
        end = busy[-1][1] if busy else 0.0
        return self._awake(bench, max(ready, end), end)

    def _awake(self, bench: Bench, at: float, end: float) -> float:
        """When the worker, idle since `end`, begins with what is ready at `at`."""
        costs, pool = self.prices.costs, self.pool
        if at <= end:
            return at
        if pool.eager or at - end <= pool.linger_s:
            return at + costs.wake_s
        is_warm = at - end <= pool.linger_s + pool.keep_alive_s
        return at + costs.start(bench.resources, is_warm=is_warm).total_s + costs.program_s

    def put(self, task: int, offer: Offer) -> Bench:
        """Decide."""
        bench = offer.bench
        if bench is None:
            bench = Bench(len(self.benches), self.needs[task])
            self.benches.append(bench)
            self.by_needs.setdefault(bench.resources, []).append(bench)
        insort(bench.busy, (offer.begin, offer.end))
        bench.at_hand.add(task)
        bench.at_hand.update(u for _, u in self.prices.inputs[task])
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
        terms = {f"w{bench.number}": WorkerTerms(linger_s=linger_s) for bench in self.benches} if linger_s else {}
        return Plan(dag=dag, steps=steps, planner=planner, workers=terms)
