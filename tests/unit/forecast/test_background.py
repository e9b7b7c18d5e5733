"""The forecast that is made beside a run: the plan before and after, and what may go wrong."""

from __future__ import annotations

import logging
import threading

import pytest

from dagnb.errors import HistoryError
from dagnb.forecast.background import PREDICTED_STEPS, BackgroundForecast, predicted
from dagnb.forecast.plan_forecast import forecast_of
from dagnb.planning.planner import Costs, Pool, Problem
from tests import graphs
from tests.unit.forecast.past_runs import floating

LIMIT_S = 20.0
DIAMOND = graphs.diamond()
PROBLEM = Problem(dag=DIAMOND, costs=Costs(default_run_s=1.0), pool=Pool(cap=2))


def test_a_plan_has_no_problem_until_its_costs_are_known_and_then_its_forecast() -> None:
    costs_known, plan = threading.Event(), floating(DIAMOND)

    def problem() -> Problem:
        assert costs_known.wait(LIMIT_S)
        return PROBLEM

    background = BackgroundForecast(plan, problem)
    before, waited_for = background.plan, background.waited(0.0)
    costs_known.set()
    after = background.waited(LIMIT_S)

    assert before is waited_for is plan
    assert (after, after.problem) == (plan, PROBLEM)
    assert background.plan is after
    forecast = forecast_of(after)
    assert forecast is not None
    assert predicted(after) is forecast.forecast


def test_a_plan_without_readable_costs_stays_as_it_was(caplog: pytest.LogCaptureFixture) -> None:
    def problem() -> Problem:
        raise HistoryError("it is gone")

    plan = floating(DIAMOND)
    with caplog.at_level(logging.WARNING):
        completed = BackgroundForecast(plan, problem).waited(LIMIT_S)

    assert completed is plan
    assert predicted(plan) is None
    assert caplog.messages == ["the run goes on without its forecast: it is gone"]


def test_a_large_plan_is_priced_and_not_simulated() -> None:
    dag = graphs.fan_out(PREDICTED_STEPS)
    problem = Problem(dag=dag, costs=Costs(), pool=Pool(cap=2))

    completed = BackgroundForecast(floating(dag), lambda: problem).waited(LIMIT_S)

    assert completed.problem is problem
    forecast = forecast_of(completed)
    assert forecast is not None
    assert "forecast" not in vars(forecast)
    assert predicted(completed) is None
