"""The busy times of workers with equal resources: which of them could begin a task first?

    worker 3   opens |####|  gap  |######|     free ->
                     ^begin       ^gap end     ^end of the last

A list scheduler asks this question for every task. So three lists are kept sorted: workers by the
end of their last task, gaps by their end, and workers by their first begin. An answer takes
O(log workers), and a look at the workers that could be first instead of all of them.

A worker that was idle has to start again before it runs a task: at once in an eager pool or within
`linger_s`, by a warm start while its container is kept, else by a cold start.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Collection
from dataclasses import dataclass, field
from operator import itemgetter

from dagnb.graph.resources import Resources
from dagnb.planning.planner import Problem

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
