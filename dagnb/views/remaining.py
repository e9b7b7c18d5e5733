"""Time left of a run: the forecast of its plan, from the point where the run is now.

First the moment is found at which the plan has done as much work as the run has done by now. The
time left is what the plan needs from that moment on, times the pace of this run: the ratio of real
to predicted durations so far.

    work done in the plan   |-----------------x------------|   sums of the tasks' durations
                                              |
    time of the plan        |-----------------x------------|   linear between ends of its tasks
                                              '------------'   left, at the plan's pace

This is cheaper than another simulation. It also holds when tasks began late, and on a machine that
is slower today than when it was measured.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from statistics import NormalDist

from dagnb.planning.plan import Forecast
from dagnb.protocol.messages import TaskState
from dagnb.trace.critical import windows
from dagnb.trace.trace import Phase, Trace
from dagnb.views.snapshot import Snapshot

_TASK_SIGMA = 0.3
"""standard deviation of a duration's logarithm, beside the factor that all tasks of a run share"""

_SCORE_90 = NormalDist().inv_cdf(0.9)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeLeft:
    """Seconds until the end: at most p50_s in half of all cases, p10_s to p90_s in 8 of 10."""

    p10_s: float
    p50_s: float
    p90_s: float


class Remaining:
    """The time left of one run; unknown without a forecast, or with one of guesses only."""

    def __init__(
        self, n_tasks: int, forecast: Forecast | None, planned: Trace | None = None
    ) -> None:
        """Begin before the first task.

        planned: the simulated run; without it, all tasks count as equally long.
        """
        self._forecast = forecast if forecast is not None and forecast.known > 0 else None
        self._length_s = float(n_tasks)
        self._work = [1.0] * n_tasks
        ends = [task + 1.0 for task in range(n_tasks)]
        if planned is not None and planned.makespan_s > 0:
            busy = windows(planned)
            # Plans with copies of tasks have more steps than tasks; the positions then do not fit.
            if len(busy) == n_tasks:
                self._length_s = planned.makespan_s
                for task, window in busy.items():
                    ends[task] = window.end_s
                    self._work[task] = window.end_s - window.begin_s

        self._run_s: dict[int, float] = {}  # planned seconds of each task's function
        if planned is not None:
            for span in planned.spans:
                if span.phase is Phase.RUN:
                    self._run_s[span.task] = span.duration_s

        order = sorted(range(n_tasks), key=lambda task: ends[task])
        self._ends = [ends[task] for task in order]
        self._sums = list(accumulate(self._work[task] for task in order))
        self._states = ""
        self._done = 0.0
        self._ran_s: dict[int, float] = {}
        self._n_spans = self._n_run = 0
        self._real_s = self._planned_s = 0.0

    def left(self, now: Snapshot) -> TimeLeft | None:
        """Seconds from this moment on; None when they are unknown, or the run is over.

        O(tasks) when the state of a task changed since the last call, else O(running tasks).
        """
        forecast = self._forecast
        if forecast is None or now.is_over:
            return None
        if now.seen.states != self._states:
            self._states = now.seen.states
            self._done = 0.0
            for work, state in zip(self._work, self._states, strict=True):
                if state == TaskState.DONE:
                    self._done += work

        pace = self._pace(now, forecast)
        begun = self._begun(now, pace * forecast.p50_s / self._length_s)
        share = pace * max(0.0, 1.0 - self._reached(self._done + begun) / self._length_s)
        return TimeLeft(
            p10_s=share * forecast.p10_s,
            p50_s=share * forecast.p50_s,
            p90_s=share * forecast.p90_s,
        )

    def _pace(self, now: Snapshot, forecast: Forecast) -> float:
        """The ratio of real to predicted durations in this run; 1 while little was measured.

        It is the posterior mean of a log-normal factor that all tasks share. Its prior is as wide
        as the forecast; each measured task adds evidence with the deviation _TASK_SIGMA.
        """
        for span in now.spans[self._n_spans :]:
            if span.phase is Phase.RUN:
                self._ran_s[span.task] = max(0.0, span.duration_s)
            # DUMP follows only if the function returned; one that raised may have stopped early.
            elif span.phase is Phase.DUMP and self._run_s.get(span.task, 0.0) > 0:
                self._n_run += 1
                self._real_s += self._ran_s.get(span.task, 0.0)
                self._planned_s += self._run_s[span.task]
        self._n_spans = len(now.spans)
        if not self._n_run or self._real_s <= 0 or not 0 < forecast.p10_s < forecast.p90_s:
            return 1.0

        prior = (math.log(forecast.p90_s / forecast.p10_s) / (2 * _SCORE_90)) ** 2
        trust = prior / (prior + _TASK_SIGMA**2 / self._n_run)
        return math.exp(trust * math.log(self._real_s / self._planned_s))

    def _begun(self, now: Snapshot, seconds_a_unit: float) -> float:
        """Work done of running tasks, in the plan's units; at most what was planned for each."""
        work = 0.0
        for task, (since, _) in now.started.items():
            if now.seen.states[task] == TaskState.RUNNING:
                so_far = max(0.0, now.seen.now - since) / (seconds_a_unit or 1.0)
                work += min(so_far, self._work[task])
        return work

    def _reached(self, work: float) -> float:
        """The moment at which the plan has done so much work; linear between ends of its tasks."""
        position = bisect_right(self._sums, work)
        # All work is done, but the run is not over: its last commits are on their way.
        if position == len(self._sums):
            return self._ends[-1]
        work_before = end_before = 0.0
        if position:
            work_before, end_before = self._sums[position - 1], self._ends[position - 1]
        share = (work - work_before) / (self._sums[position] - work_before)
        return end_before + share * (self._ends[position] - end_before)
