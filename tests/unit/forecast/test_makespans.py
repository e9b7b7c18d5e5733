"""The three makespans: plan, replay, real; and which acts the difference lies in."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dagnb.forecast.makespans import causes, makespans
from dagnb.planning.plan import Forecast, Plan
from dagnb.planning.planner import Costs, Pool, Problem, Uncertainty
from dagnb.trace.trace import Phase
from tests import graphs
from tests.unit.forecast.past_runs import description_of, floating, lived
from tests.unit.known_costs import known

POOL = Pool(cap=2)
EXPECTED = known(Costs(default_run_s=1.0, uncertainty=Uncertainty(batch=0.1)))
REAL = EXPECTED.with_(run_s={1: 3.0})
TOLD = {"pool": {"cap": 2}}


def planned() -> Plan:
    """a -> b, c -> d"""
    dag = graphs.diamond()
    return replace(floating(dag), problem=Problem(dag=dag, costs=EXPECTED, pool=POOL))


def test_a_run_as_the_simulator_plays_it_differs_by_its_predictions_alone() -> None:
    plan = planned()
    trace = lived(plan, REAL, POOL)

    result = makespans(description_of(plan, **TOLD), trace, plan)

    assert result.real_s == pytest.approx(5.0, abs=0.1)
    assert result.plan_s == pytest.approx(3.0, rel=0.05)
    assert result.model_s == pytest.approx(0.0, abs=1e-3)
    assert result.prediction_s == pytest.approx(2.0, abs=0.1)
    assert result.in_band is False


def test_the_largest_causes_are_named() -> None:
    plan = planned()

    result = makespans(description_of(plan, **TOLD), lived(plan, REAL, POOL), plan).causes

    assert (result[0].task, result[0].phase) == ("b", Phase.RUN)
    assert result[0].seconds == pytest.approx(2.0)
    assert [abs(cause.seconds) for cause in result] == sorted(
        (abs(c.seconds) for c in result), reverse=True
    )


def test_equal_traces_have_no_causes() -> None:
    plan = planned()
    trace = lived(plan, REAL, POOL)

    assert causes(trace, trace, [step.upstream for step in plan.steps], plan.sinks) == ()


def test_without_the_plan_the_forecast_of_the_description_counts() -> None:
    plan = planned()
    expected = {"p10_s": 4.0, "p50_s": 4.5, "p90_s": 6.0, "n_scenarios": 16, "known": 1.0}

    result = makespans(description_of(plan, forecast=expected, **TOLD), lived(plan, REAL, POOL))

    assert result.forecast == Forecast(p10_s=4.0, p50_s=4.5, p90_s=6.0, n_scenarios=16, known=1.0)
    assert (result.plan_s, result.in_band) == (4.5, True)
    assert "plan       4.500 s, 4 to 6 s in 8 of 10" in str(result)


def test_a_run_without_forecast_has_two_makespans() -> None:
    plan = planned()

    result = makespans(description_of(plan), lived(plan, REAL, POOL))

    assert (result.plan_s, result.prediction_s, result.in_band, result.causes) == (
        None,
        None,
        None,
        (),
    )
    assert str(result).startswith("replay")
