"""How much longer a run will take: what was planned, from the point where the run is now.

The run is where the plan would be when as much of its work is done; what the plan takes from there on is left, at the
pace of this run: how much longer its functions took so far than was predicted. Cheaper than another simulation, and
right however late tasks began, and on a machine that is slower today.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from statistics import NormalDist

from dagnb.planning.forecast import Forecast
from dagnb.protocol.messages import TaskState
from dagnb.trace.critical import windows
from dagnb.trace.span import Phase
from dagnb.trace.trace import Trace
from dagnb.views.snapshot import Snapshot

_TASK_SIGMA = 0.3
"""standard deviation of the logarithm of what one task takes, beside what all tasks of a run share"""
_SCORE_90 = NormalDist().inv_cdf(0.9)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeLeft:
    """Seconds until the end: in half of all cases less than p50_s, in 8 of 10 between the others."""

    p10_s: float
    p50_s: float
    p90_s: float


class Remaining:
    """Of one run. Nothing is known of a run that nobody foretold, or only from guesses."""

    def __init__(
        self, n_tasks: int, forecast: Forecast | None, planned: Trace | None = None
    ) -> None:
        """planned: the simulated run; without it all tasks are taken as equally long."""
        self._forecast = forecast if forecast is not None and forecast.known > 0 else None
        busy = windows(planned) if planned is not None else {}
        if planned is not None and planned.makespan_s > 0 and len(busy) == n_tasks:
            self._length_s = planned.makespan_s
            self._work = [busy[task].end_s - busy[task].begin_s for task in range(n_tasks)]
            ends = [busy[task].end_s for task in range(n_tasks)]
        else:
            self._length_s, self._work, ends = (
                float(n_tasks),
                [1.0] * n_tasks,
                [task + 1.0 for task in range(n_tasks)],
            )
        self._run_s = (
            {s.task: s.duration_s for s in planned.spans if s.phase is Phase.RUN} if planned else {}
        )
        order = sorted(range(n_tasks), key=lambda task: ends[task])
        self._ends = [ends[task] for task in order]
        self._sums = list(accumulate(self._work[task] for task in order))
        self._seen = ""
        self._done = 0.0
        self._ran_s: dict[int, float] = {}
        self._n_spans = self._n_run = 0
        self._really_s = self._planned_s = 0.0

    def left(self, now: Snapshot) -> TimeLeft | None:
        """How long from this moment on; None when nothing is known, or nothing is left. O(tasks) if a state changed."""
        forecast = self._forecast
        if forecast is None or now.is_over:
            return None
        if now.seen.states != self._seen:
            self._seen = now.seen.states
            self._done = sum(
                w
                for w, state in zip(self._work, self._seen, strict=True)
                if state == TaskState.DONE
            )
        pace = self._pace(now, forecast)
        begun = self._begun(now, pace * forecast.p50_s / self._length_s)
        share = pace * max(0.0, 1.0 - self._reached(self._done + begun) / self._length_s)
        return TimeLeft(
            p10_s=share * forecast.p10_s, p50_s=share * forecast.p50_s, p90_s=share * forecast.p90_s
        )

    def _pace(self, now: Snapshot, forecast: Forecast) -> float:
        """How many times as long as predicted tasks take in this run: what was seen, and 1 as far as that is little.

        The posterior mean of a factor all tasks share, log-normal, known beforehand as far as the forecast is.
        """
        for span in now.spans[self._n_spans :]:
            if span.phase is Phase.RUN:
                self._ran_s[span.task] = max(0.0, span.duration_s)
            elif (
                span.phase is Phase.DUMP and self._run_s.get(span.task, 0.0) > 0
            ):  # without one it failed, maybe early
                self._n_run += 1
                self._really_s += self._ran_s.get(span.task, 0.0)
                self._planned_s += self._run_s[span.task]
        self._n_spans = len(now.spans)
        if not self._n_run or self._really_s <= 0 or not 0 < forecast.p10_s < forecast.p90_s:
            return 1.0
        before = (math.log(forecast.p90_s / forecast.p10_s) / (2 * _SCORE_90)) ** 2
        trust = before / (before + _TASK_SIGMA**2 / self._n_run)
        return math.exp(trust * math.log(self._really_s / self._planned_s))

    def _begun(self, now: Snapshot, seconds_a_unit: float) -> float:
        """What is done of the tasks that run; never more than was planned for them."""
        running = [i for i in now.started if now.seen.states[i] == TaskState.RUNNING]
        so_far = {
            i: max(0.0, now.seen.now - now.started[i][0]) / (seconds_a_unit or 1.0) for i in running
        }
        return sum(min(so_far[i], self._work[i]) for i in running)

    def _reached(self, work: float) -> float:
        """When the plan has done so much work: linear between the ends of its tasks."""
        place = bisect_right(self._sums, work)
        if place == len(self._sums):
            return self._ends[-1]
        before_work, before_at = (
            (self._sums[place - 1], self._ends[place - 1]) if place else (0.0, 0.0)
        )
        part = (work - before_work) / (self._sums[place] - before_work)
        return before_at + part * (self._ends[place] - before_at)
