"""The forecast of a run, made in a thread while the run goes on already.

Costs and forecasts help people and the history; a planner that reads no costs has no use for them.
So its run begins at once, and the plan is completed when its costs are known:

    plan without a problem ---> costs of the history before the run ---> plan with its problem
                                                                    ---> forecast

To forecast a large plan takes seconds of a processor, as much as its workers need for short tasks.
So it is made when the run has lasted for as long: it then slows a run by little, and a run that is
over by then needs none.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace

from dagnb.errors import DagnbError
from dagnb.forecast.plan_forecast import forecast_of
from dagnb.planning.plan import Forecast, Plan
from dagnb.planning.planner import Problem

PREDICTED_STEPS = 1_000
"""plans of at most this many steps are simulated at once, larger ones later"""

STEP_S = 1.5e-4
"""about the seconds of a processor that a forecast takes for each step"""

_log = logging.getLogger(__name__)


class BackgroundForecast:
    """The plan of one run, completed in a daemon thread. Nothing waits for it unless it asks."""

    def __init__(self, plan: Plan, problem_of: Callable[[], Problem]) -> None:
        """Start the thread. problem_of: returns the problem with its costs, at any pace."""
        self._plan = plan
        self._problem_of = problem_of
        self.completed: Future[Plan] = Future()
        self._over = threading.Event()
        # A daemon, because the end of the process must not wait for a prediction.
        self._thread = threading.Thread(target=self._complete, name="dagnb-forecast", daemon=True)
        self._thread.start()

    @property
    def plan(self) -> Plan:
        """The plan as far as it is known now: without a problem until costs are known."""
        return self.completed.result() if self.completed.done() else self._plan

    def waited(self, timeout_s: float) -> Plan:
        """Returns the plan when it is complete; after so many seconds as far as it is known."""
        try:
            return self.completed.result(timeout_s)
        except TimeoutError:
            return self._plan

    def join(self, timeout_s: float) -> None:
        """Waits until nothing is computed any more."""
        self._thread.join(timeout_s)

    def _complete(self) -> None:
        plan = self._plan
        try:
            plan = replace(plan, problem=self._problem_of())
            predicted(plan)
        except DagnbError as error:
            _log.warning("the run goes on without its forecast: %s", error)
        finally:
            self.completed.set_result(plan)
        self._predict_later(plan)

    def _predict_later(self, plan: Plan) -> None:
        """Forecast a large plan, if its run lasts that long."""
        plan_forecast = forecast_of(plan)
        if plan_forecast is None or not plan_forecast.is_known:
            return
        if len(plan.steps) <= PREDICTED_STEPS:
            return  # it is made already
        if not self._over.wait(STEP_S * len(plan.steps)):
            _ = plan_forecast.trace  # first, so that who sees the forecast need not wait for it
            _ = plan_forecast.forecast

    def end(self) -> None:
        """Let no forecast begin any more: the run is over."""
        self._over.set()


def predicted(plan: Plan) -> Forecast | None:
    """Returns the forecast of a plan; None where costs are unknown, or guesses.

    It is also None for a large plan that has not been simulated yet.
    """
    plan_forecast = forecast_of(plan)
    if plan_forecast is None or not plan_forecast.is_known:
        return None
    if len(plan.steps) > PREDICTED_STEPS and "forecast" not in vars(plan_forecast):
        return None
    _ = plan_forecast.trace  # with the forecast, so that views which read it need not wait
    return plan_forecast.forecast
