"""The three makespans: plan, replay, real; and which acts the difference lies in."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dagnb.forecast.makespans import causes, makespans
from dagnb.planning.costs import Costs, Uncertainty
from dagnb.planning.forecast import Forecast
from dagnb.planning.plan import Plan
from dagnb.planning.planner import Pool, Problem
from dagnb.trace.span import Phase
from tests import graphs
from tests.unit.forecast.past_runs import description_of, floating, lived

POOL = Pool(cap=2)
EXPECTED = Costs(default_run_s=1.0, doubt=Uncertainty(batch=0.1))
REAL = EXPECTED.with_(run_s={1: 3.0})
TOLD = {"pool": {"cap": 2}}


def planned() -> Plan:
    """a -> b, c -> d"""
    dag = graphs.diamond()
    return replace(floating(dag), problem=Problem(dag=dag, costs=EXPECTED, pool=POOL))


def test_a_run_as_the_simulator_plays_it_differs_by_its_predictions_alone() -> None:
    plan = planned()
    trace = lived(plan, REAL, POOL)

    found = makespans(description_of(plan, **TOLD), trace, plan)

    assert found.real_s == pytest.approx(5.0, abs=0.1)
    assert found.plan_s == pytest.approx(3.0, rel=0.05)
    assert found.model_s == pytest.approx(0.0, abs=1e-3)
    assert found.prediction_s == pytest.approx(2.0, abs=0.1)
    assert found.in_band is False


def test_the_largest_causes_are_named() -> None:
    plan = planned()

    found = makespans(description_of(plan, **TOLD), lived(plan, REAL, POOL), plan).causes

    assert (found[0].task, found[0].phase) == ("b", Phase.RUN)
    assert found[0].seconds == pytest.approx(2.0)
    assert [abs(cause.seconds) for cause in found] == sorted(
        (abs(c.seconds) for c in found), reverse=True
    )


def test_equal_traces_have_no_causes() -> None:
    plan = planned()
    trace = lived(plan, REAL, POOL)

    assert causes(trace, trace, [step.upstream for step in plan.steps], plan.sinks) == ()


def test_without_the_plan_the_story_tells_what_was_foretold() -> None:
    plan = planned()
    told = {"p10_s": 4.0, "p50_s": 4.5, "p90_s": 6.0, "n_scenarios": 16, "known": 1.0}

    found = makespans(description_of(plan, forecast=told, **TOLD), lived(plan, REAL, POOL))

    assert found.forecast == Forecast(p10_s=4.0, p50_s=4.5, p90_s=6.0, n_scenarios=16, known=1.0)
    assert (found.plan_s, found.in_band) == (4.5, True)
    assert "plan       4.500 s, 4 to 6 s in 8 of 10" in str(found)


def test_a_run_of_which_nothing_was_foretold_has_two_makespans() -> None:
    plan = planned()

    found = makespans(description_of(plan), lived(plan, REAL, POOL))

    assert (found.plan_s, found.prediction_s, found.in_band, found.causes) == (None, None, None, ())
    assert str(found).startswith("replay")
