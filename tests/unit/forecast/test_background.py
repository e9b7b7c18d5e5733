"""The forecast that is made beside a run: the plan before and after, and what may go wrong."""

from __future__ import annotations

import logging
import threading

import pytest

from dagnb.errors import HistoryError
from dagnb.forecast import background as background_module
from dagnb.forecast.background import PREDICTED_STEPS, BackgroundForecast, predicted
from dagnb.forecast.plan_forecast import forecast_of
from dagnb.planning.plan import Plan
from dagnb.planning.planner import Costs, Pool, Problem
from tests import graphs
from tests.unit.forecast.past_runs import floating
from tests.unit.known_costs import known

LIMIT_S = 20.0
DIAMOND = graphs.diamond()
PROBLEM = Problem(dag=DIAMOND, costs=known(Costs(default_run_s=1.0)), pool=Pool(cap=2))


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


def large_plan() -> tuple[Plan, Problem]:
    dag = graphs.fan_out(PREDICTED_STEPS)
    return floating(dag), Problem(dag=dag, costs=known(Costs(), len(dag)), pool=Pool(cap=2))


def is_simulated(plan: Plan) -> bool:
    forecast = forecast_of(plan)
    return forecast is not None and "forecast" in vars(forecast)


def test_a_large_plan_is_priced_at_once_and_not_simulated_when_its_run_ends_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan, problem = large_plan()
    priced = threading.Event()
    monkeypatch.setattr(background_module, "STEP_S", LIMIT_S)

    def problem_of() -> Problem:
        assert priced.wait(LIMIT_S)
        return problem

    background = BackgroundForecast(plan, problem_of)
    background.end()
    priced.set()
    completed = background.waited(LIMIT_S)
    background.join(LIMIT_S)

    assert completed.problem is problem
    assert not is_simulated(completed)
    assert predicted(completed) is None


def test_a_large_plan_is_simulated_while_its_run_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, problem = large_plan()
    monkeypatch.setattr(background_module, "STEP_S", 0.0)

    background = BackgroundForecast(plan, lambda: problem)
    completed = background.waited(LIMIT_S)
    background.join(LIMIT_S)

    forecast = forecast_of(completed)
    assert forecast is not None
    assert is_simulated(completed)
    assert predicted(completed) is forecast.forecast
