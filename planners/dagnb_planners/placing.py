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

Which of the workers with equal resources could begin a task first?
-------------------------------------------------------------------
    worker 3   opens |####|  gap  |######|     free ->
                     ^begin       ^gap end     ^end of the last

A list scheduler asks this for every task. So three lists are kept sorted: workers by the
end of their last task, gaps by their end, and workers by their first begin. An answer takes
O(log workers), and a look at the workers that could be first instead of all of them.

A worker that was idle has to start again before it runs a task: at once in an eager pool or within
`linger_s`, by a warm start while its container is kept, else by a cold start.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

from dagnb.graph.dag import Dag
from dagnb.graph.resources import Resources
from dagnb.planning.kept import with_kept_results
from dagnb.planning.plan import Plan, Step
from dagnb.planning.planner import Problem
from dagnb_planners.ranks import RankPrices

_NUMBER = itemgetter(1)


@dataclass(slots=True, eq=False)
class PlannedWorker:
    """One worker of the plan.

    busy: (begin, end) of its tasks, ascending. at_hand: tasks whose values it holds.
    """

    number: int
    resources: Resources
    busy: list[tuple[float, float]] = field(default_factory=list)
    at_hand: set[int] = field(default_factory=set)


class WorkerGroup:
    """Workers of equal resources, by number. Moments are seconds since the submission."""

    def __init__(self, problem: Problem, resources: Resources, *, inserts: bool) -> None:
        """Starts empty. inserts: whether a task may go into a gap between others."""
        costs, pool = problem.costs, problem.pool
        self.pool, self.inserts = pool, inserts
        self.workers: dict[int, PlannedWorker] = {}
        self.wake_s = costs.wake_s
        self.warm_s = costs.start(resources, is_warm=True).total_s + costs.program_s
        self.cold_s = costs.start(resources, is_warm=False).total_s + costs.program_s
        self.n_warm = pool.warm.get(resources, 0)
        # (end of its last task, number), ascending; likewise (begin of its first task, number).
        self._free: list[tuple[float, int]] = []
        self._opens: list[tuple[float, int]] = []
        # (end, begin, number) of gaps between two tasks of a worker.
        self._gaps: list[tuple[float, float, int]] = []

    def first(
        self,
        ready: float,
        lasts: float,
        among: Collection[int] | None = None,
    ) -> tuple[float, int] | None:
        """Returns (begin, number of the worker) of the earliest begin; ties go to the first worker.

        among: only these workers. Returns None if the group has none of them.
        """
        best = None
        if self.inserts:
            best = self._in_a_gap(ready, lasts, among)
            early = self._before_all(ready)
            low = bisect_left(self._opens, (early + lasts, -1))
            best = _sooner(best, early, self._opens[low:], among)

        # Busy workers in the order in which they end: the first of them begins first.
        n_idle = bisect_left(self._free, (ready, -1))
        for i in range(n_idle, len(self._free)):
            if among is None or self._free[i][1] in among:
                if best is None or self._free[i] < best:
                    best = self._free[i]
                break
        for low, high, begin in self._idle_ranges(ready, n_idle):
            best = _sooner(best, begin, self._free[low:high], among)
        return best

    def idlest(self) -> PlannedWorker:
        """Returns the worker whose last task ends first; there must be a worker."""
        return self.workers[self._free[0][1]]

    def begin_on(self, worker: PlannedWorker, ready: float, lasts: float) -> float:
        """Returns the earliest begin on this worker, after the task is ready and it is awake."""
        busy = worker.busy
        end = busy[-1][1]
        if ready > end:
            return ready + self._start_s(ready - end)
        if not self.inserts or ready + lasts > busy[-1][0]:
            return end
        n_begun = bisect_left(busy, (ready, math.inf))
        free = max(ready, busy[n_begun - 1][1]) if n_begun else self._before_all(ready)
        for begin, until in busy[n_begun:]:
            if free + lasts <= begin:
                return free
            free = until
        return end

    def begin_on_new(self, ready: float) -> float:
        """Returns the earliest begin on one more worker.

        It starts when the task is ready; in an eager pool all start at submission.
        """
        if self.pool.eager:
            return max(ready, self.cold_s)
        if self.n_warm > len(self.workers) or self._has_warm_container(ready):
            return ready + self.warm_s
        return ready + self.cold_s

    def put(self, worker: PlannedWorker, begin: float, end: float) -> None:
        """Makes the worker busy from begin to end, and updates the sorted lists."""
        busy, number = worker.busy, worker.number
        if not busy:
            self.workers[number] = worker
            busy.append((begin, end))
            insort(self._free, (end, number))
            insort(self._opens, (begin, number))
            return

        position = bisect_left(busy, (begin, end))
        before = busy[position - 1][1] if position else -math.inf
        if position == len(busy):
            # After all other tasks: the worker is free later.
            del self._free[bisect_left(self._free, (before, number))]
            insort(self._free, (end, number))
        elif before < busy[position][0] and self.inserts:
            # Into a gap, of which a part may remain. Gaps of no length are not in the list.
            if position:
                del self._gaps[bisect_left(self._gaps, (busy[position][0], before, number))]
            self._add_gap(end, busy[position][0], number)
        if position:
            self._add_gap(before, begin, number)
        else:
            # Before all other tasks: the worker begins sooner.
            del self._opens[bisect_left(self._opens, (busy[0][0], number))]
            insort(self._opens, (begin, number))
        busy.insert(position, (begin, end))

    # ---- parts ----

    def _add_gap(self, begin: float, end: float, number: int) -> None:
        if begin < end and self.inserts:
            insort(self._gaps, (end, begin, number))

    def _in_a_gap(
        self,
        ready: float,
        lasts: float,
        among: Collection[int] | None,
    ) -> tuple[float, int] | None:
        """Returns the earliest begin in a gap that is long enough."""
        gaps, best, worker = self._gaps, math.inf, -1
        # Gaps are sorted by their end, so those that end too early are skipped.
        for i in range(bisect_left(gaps, (ready + lasts, -math.inf)), len(gaps)):
            end, begin, number = gaps[i]
            begin = max(begin, ready)
            if begin + lasts > end or (among is not None and number not in among):
                continue
            if begin < best or (begin == best and number < worker):
                best, worker = begin, number
        if worker < 0:
            return None
        return best, worker

    def _idle_ranges(self, ready: float, n_idle: int) -> tuple[tuple[int, int, float], ...]:
        """Returns (from, to, begin): ranges of `_free` that are idle when ready, and their begin.

        n_idle: the first so many of `_free` are idle. Awake workers come first in the answer, then
        warm, then cold ones.
        """
        pool = self.pool
        if not n_idle:
            return ()
        if pool.eager:
            return ((0, n_idle, ready + self.wake_s),)
        awake = bisect_left(self._free, (ready - pool.linger_s, -1), 0, n_idle)
        warm = bisect_left(self._free, (ready - pool.linger_s - pool.keep_alive_s, -1), 0, awake)
        return (
            (awake, n_idle, ready + self.wake_s),
            (warm, awake, ready + self.warm_s),
            (0, warm, ready + self.cold_s),
        )

    def _before_all(self, ready: float) -> float:
        """Returns the begin before all other tasks of a worker, which is started for this one."""
        if self.pool.eager:
            return max(ready, self.cold_s)
        return ready + self.cold_s

    def _start_s(self, idle_s: float) -> float:
        """Returns the seconds that a worker needs to begin after so long an idle time."""
        pool = self.pool
        if pool.eager or idle_s <= pool.linger_s:
            return self.wake_s
        if idle_s <= pool.linger_s + pool.keep_alive_s:
            return self.warm_s
        return self.cold_s

    def _has_warm_container(self, moment: float) -> bool:
        """Returns True if a container of these resources is idle and warm at that moment."""
        left = moment - self.pool.linger_s
        low = bisect_left(self._free, (left - self.pool.keep_alive_s, -1))
        return low < len(self._free) and self._free[low][0] < left


def _sooner(
    best: tuple[float, int] | None,
    begin: float,
    workers: list[tuple[float, int]],
    among: Collection[int] | None,
) -> tuple[float, int] | None:
    """Returns the best so far, or the first of these workers, all of which can begin at `begin`."""
    if not workers or (best is not None and best[0] < begin):
        return best
    if among is not None:
        workers = [pair for pair in workers if pair[1] in among]
        if not workers:
            return best
    first = (begin, min(workers, key=_NUMBER)[1])
    if best is None or first < best:
        return first
    return best


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
    return with_kept_results(Plan(dag=dag, steps=tuple(steps), planner=planner))


def turns(order: Sequence[int]) -> list[int]:
    """Returns the position of each item in the order.

    >>> turns([2, 0, 1])
    [1, 2, 0]
    """
    turns = [0] * len(order)
    for turn, item in enumerate(order):
        turns[item] = turn
    return turns
