"""The time left of a run, as its view shows it: asked for anew when enough has changed.

To ask takes some hundredths of a second (forecast/time_left.py). So it is asked when a part of the
tasks has ended or a part of the time left has passed, and so seldom that a view takes little of a
processor; in between, the time that has passed since is taken off.
"""

from __future__ import annotations

import math

from dagnb.forecast.time_left import RestOfRun, TimeLeft
from dagnb.planning.plan import Plan
from dagnb.planning.planner import Costs, Pool
from dagnb.protocol.messages import TaskState
from dagnb.protocol.run_description import RunDescription
from dagnb.simulation.list_schedule import RunProgress
from dagnb.trace.trace import Phase
from dagnb.views.snapshot import Snapshot

ENDED_SHARE = 0.05
"""share of the tasks that end before the time left is asked for anew"""

PASSED_SHARE = 0.1
"""share of the time left that passes before it is asked for anew, although nothing has ended"""

LEAST_S = 0.5
"""seconds that pass at least"""

LOOK_S, FUNCTION_S, LOOK_SHARE = 0.015, 0.004, 0.03
"""seconds of a processor that a look takes, and for each function; the share that it may take"""

_SETTLED = frozenset({TaskState.DONE, TaskState.FAILED, TaskState.SKIPPED, TaskState.CANCELLED})


class Remaining:
    """The time left of one run, from what is known of it at each look."""

    def __init__(self, description: RunDescription, plan: Plan | None = None) -> None:
        """Begin before the first task.

        plan: with the costs that are expected. Without it only what this run measures is known.
        """
        self._plan = description.plan
        self._costs, self._pool = Costs(), description.pool or Pool()
        if plan is not None and plan.problem is not None:
            # Costs are by task, which only the plan itself knows of each step.
            self._plan, self._costs, self._pool = plan, plan.problem.costs, plan.problem.pool
        n_functions = len(set(description.functions))
        self._pause_s = max(LEAST_S, (LOOK_S + n_functions * FUNCTION_S) / LOOK_SHARE)
        self._rest: RestOfRun | None = None
        self._ran_s: dict[int, float] = {}
        self._begun_s: dict[int, float] = {}
        self._n_spans = 0
        self._left: TimeLeft | None = None
        self._asked_at, self._n_ended = -math.inf, -1

    def left(self, now: Snapshot) -> TimeLeft | None:
        """Returns the time left from this moment on; None when the run is over. O(tasks)."""
        if now.is_over:
            return None
        self._read(now)
        settled = {step for step, state in enumerate(now.seen.states) if state in _SETTLED}
        if self._left is None or self._is_due(now, len(settled)):
            if self._rest is None:
                self._rest = RestOfRun(self._plan, self._costs, self._pool)
            self._asked_at, self._n_ended = now.seen.now, len(settled)
            self._left = self._rest.left(self._progress(now, settled), self._measured(settled))
        return self._left.later(now.seen.now - self._asked_at)

    def _is_due(self, now: Snapshot, n_ended: int) -> bool:
        assert self._left is not None
        passed_s = now.seen.now - self._asked_at
        if passed_s < self._pause_s:
            return False
        functions = now.description.functions
        if any(functions[step] in self._left.unknown for step in self._ran_s):
            return True  # a function is unknown no more
        if n_ended - self._n_ended >= ENDED_SHARE * len(now.seen.states):
            return True
        return passed_s >= PASSED_SHARE * self._left.p10_s

    def _read(self, now: Snapshot) -> None:
        """Take the durations of functions that returned from the spans that came since."""
        for span in now.spans[self._n_spans :]:
            if span.phase is Phase.RUN:
                self._begun_s[span.task] = max(0.0, span.duration_s)
            # DUMP follows only if the function returned; one that raised may have stopped early.
            elif span.phase is Phase.DUMP and span.task in self._begun_s:
                self._ran_s[span.task] = self._begun_s[span.task]
        self._n_spans = len(now.spans)

    def _progress(self, now: Snapshot, settled: set[int]) -> RunProgress:
        running = {}
        for step in now.running:
            since, _ = now.started[step]
            running[step] = max(0.0, now.seen.now - since)
        return RunProgress(done=settled, running=running, n_workers=now.seen.n_instances)

    def _measured(self, settled: set[int]) -> dict[int, float]:
        return {step: seconds for step, seconds in self._ran_s.items() if step in settled}
