"""The workers of equal resources in a schedule that is being made: who could begin a task first?

A list scheduler asks that of every task. Workers are kept sorted by when they are free, and the gaps between what they
do by their end; so an answer takes O(log workers) and a look at those that could be first, not a look at all.
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
    """One worker of the plan. busy: (begin, end) of what it does, ascending. at_hand: tasks whose values it holds."""

    number: int
    resources: Resources
    busy: list[tuple[float, float]] = field(default_factory=list)
    at_hand: set[int] = field(default_factory=set)


class WorkerGroup:
    """benches: by number. Moments are seconds since the submission."""

    def __init__(self, problem: Problem, resources: Resources, *, inserts: bool) -> None:
        """inserts: a task may go into a gap."""
        costs, pool = problem.costs, problem.pool
        self.pool, self.inserts = pool, inserts
        self.benches: dict[int, PlannedWorker] = {}
        self.wake_s = costs.wake_s
        self.warm_s = costs.start(resources, is_warm=True).total_s + costs.program_s
        self.cold_s = costs.start(resources, is_warm=False).total_s + costs.program_s
        self.n_warm = pool.warm.get(resources, 0)
        self._free: list[tuple[float, int]] = []
        self._opens: list[tuple[float, int]] = []
        self._gaps: list[tuple[float, float, int]] = []

    def first(
        self, ready: float, lasts: float, among: Collection[int] | None = None
    ) -> tuple[float, int] | None:
        """(begin, number) of the earliest begin, of equal ones the first worker; among: only of these."""
        found = self._in_a_gap(ready, lasts, among) if self.inserts else None
        if self.inserts:
            early = self._early(ready)
            low = bisect_left(self._opens, (early + lasts, -1))
            found = _sooner(found, early, self._opens[low:], among)
        at = bisect_left(self._free, (ready, -1))
        later = (self._free[i] for i in range(at, len(self._free)))
        busy = next((pair for pair in later if among is None or pair[1] in among), None)
        if busy is not None and (found is None or busy < found):
            found = busy
        for low, high, begin in self._rested(ready, at):
            found = _sooner(found, begin, self._free[low:high], among)
        return found

    def idlest(self) -> PlannedWorker:
        """Who is done first. Precondition: there is somebody."""
        return self.benches[self._free[0][1]]

    def begin_on(self, bench: PlannedWorker, ready: float, lasts: float) -> float:
        """The earliest begin on this worker, not before it is ready and the worker is awake."""
        busy = bench.busy
        end = busy[-1][1]
        if ready > end:
            return ready + self._start_s(ready - end)
        if not self.inserts or ready + lasts > busy[-1][0]:
            return end
        at = bisect_left(busy, (ready, math.inf))
        free = max(ready, busy[at - 1][1]) if at else self._early(ready)
        for begin, until in busy[at:]:
            if free + lasts <= begin:
                return free
            free = until
        return end

    def fresh(self, ready: float) -> float:
        """The earliest begin on one more worker, started then; in an eager pool all start at submission."""
        if self.pool.eager:
            return max(ready, self.cold_s)
        is_warm = self.n_warm > len(self.benches) or self._somebody_rests(ready)
        return ready + (self.warm_s if is_warm else self.cold_s)

    def put(self, bench: PlannedWorker, begin: float, end: float) -> None:
        """The worker is busy then."""
        busy = bench.busy
        if not busy:
            self.benches[bench.number] = bench
            busy.append((begin, end))
            insort(self._free, (end, bench.number))
            insort(self._opens, (begin, bench.number))
            return
        at = bisect_left(busy, (begin, end))
        before = busy[at - 1][1] if at else -math.inf
        if at == len(busy):
            del self._free[bisect_left(self._free, (before, bench.number))]
            insort(self._free, (end, bench.number))
        elif before < busy[at][0] and self.inserts:
            if at:
                del self._gaps[bisect_left(self._gaps, (busy[at][0], before, bench.number))]
            self._gap(end, busy[at][0], bench.number)
        if at:
            self._gap(before, begin, bench.number)
        else:
            del self._opens[bisect_left(self._opens, (busy[0][0], bench.number))]
            insort(self._opens, (begin, bench.number))
        busy.insert(at, (begin, end))

    # ---- parts ----

    def _gap(self, begin: float, end: float, number: int) -> None:
        if begin < end and self.inserts:
            insort(self._gaps, (end, begin, number))

    def _in_a_gap(
        self, ready: float, lasts: float, among: Collection[int] | None
    ) -> tuple[float, int] | None:
        gaps, best, worker = self._gaps, math.inf, -1
        for at in range(bisect_left(gaps, (ready + lasts, -math.inf)), len(gaps)):
            end, begin, number = gaps[at]
            begin = max(begin, ready)
            if begin + lasts > end or (among is not None and number not in among):
                continue
            if begin < best or (begin == best and number < worker):
                best, worker = begin, number
        return (best, worker) if worker >= 0 else None

    def _rested(self, ready: float, at: int) -> tuple[tuple[int, int, float], ...]:
        """Ranges of workers that ended before, and when they would begin: awake, warm, cold."""
        pool = self.pool
        if not at:
            return ()
        if pool.eager:
            return ((0, at, ready + self.wake_s),)
        awake = bisect_left(self._free, (ready - pool.linger_s, -1), 0, at)
        warm = bisect_left(self._free, (ready - pool.linger_s - pool.keep_alive_s, -1), 0, awake)
        return (
            (awake, at, ready + self.wake_s),
            (warm, awake, ready + self.warm_s),
            (0, warm, ready + self.cold_s),
        )

    def _early(self, ready: float) -> float:
        """The begin on a worker before all that it does so far: it is started for this."""
        return max(ready, self.cold_s) if self.pool.eager else ready + self.cold_s

    def _start_s(self, rested_s: float) -> float:
        """What it takes a worker to begin that had nothing to do for so long."""
        if self.pool.eager or rested_s <= self.pool.linger_s:
            return self.wake_s
        return (
            self.warm_s if rested_s <= self.pool.linger_s + self.pool.keep_alive_s else self.cold_s
        )

    def _somebody_rests(self, at: float) -> bool:
        """Whether a container of these resources is idle then, and warm."""
        left = at - self.pool.linger_s
        low = bisect_left(self._free, (left - self.pool.keep_alive_s, -1))
        return low < len(self._free) and self._free[low][0] < left


def _sooner(
    found: tuple[float, int] | None,
    begin: float,
    who: list[tuple[float, int]],
    among: Collection[int] | None,
) -> tuple[float, int] | None:
    """What was found, or the first of these, who can all begin then."""
    if not who or (found is not None and found[0] < begin):
        return found
    if among is not None:
        who = [pair for pair in who if pair[1] in among]
    first = (begin, min(who, key=_NUMBER)[1]) if who else None
    return min((pair for pair in (found, first) if pair is not None), default=None)
