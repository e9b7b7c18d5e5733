"""The forecast of a plan: its makespan, cost and bound before it runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dagnb.forecast.plan_forecast import forecast_of
from dagnb.planning.evidence import known_share
from dagnb.planning.plan import Plan
from dagnb.planning.planner import HINTED, UNKNOWN, Basis, Costs, Pool, Problem, Uncertainty
from dagnb.simulation.scenarios import MOST_QUICK, forecast
from dagnb.simulation.simulate import simulate
from tests import graphs
from tests.unit.forecast.past_runs import floating

COSTS = Costs(
    default_run_s=1.0,
    uncertainty=Uncertainty(batch=0.3),
    basis={0: Basis("4 equal calls"), 1: UNKNOWN},
)
POOL = Pool(cap=2)


def planned(costs: Costs = COSTS) -> Plan:
    dag = graphs.diamond()
    return replace(floating(dag), problem=Problem(dag=dag, costs=costs, pool=POOL))


def test_a_forecast_is_the_simulation_at_median_prices_with_a_band_around_it() -> None:
    plan = planned()

    expected = forecast_of(plan)

    assert expected is not None
    assert expected.trace == simulate(plan, COSTS, POOL)
    assert expected.outcome.makespan_s == expected.trace.makespan_s
    assert expected.forecast.p10_s < expected.trace.makespan_s < expected.forecast.p90_s
    assert expected.forecast.known == pytest.approx(0.25)


def test_the_gap_is_how_much_longer_than_the_bound_a_plan_is() -> None:
    expected = forecast_of(planned())

    assert expected is not None
    assert expected.gap == pytest.approx(expected.outcome.makespan_s / expected.bound.seconds - 1)
    assert 0 <= expected.gap < 0.1


@pytest.mark.parametrize("n", [10, 1_100])
def test_a_forecast_is_that_of_the_scenarios_at_any_number_of_tasks(n: int) -> None:
    dag = graphs.fan_out(n)
    plan = replace(floating(dag), problem=Problem(dag=dag, costs=COSTS, pool=POOL))

    expected = forecast_of(plan)

    assert expected is not None
    assert expected.forecast == forecast(plan, COSTS, POOL, known=known_share(COSTS, len(dag)))
    assert expected.forecast.n_scenarios == (MOST_QUICK if n == 10 else 36)


def test_a_plan_has_one_forecast_and_a_plan_without_problem_none() -> None:
    plan = planned()

    assert forecast_of(plan) is forecast_of(plan)
    assert forecast_of(floating(graphs.chain(2))) is None


def test_the_share_that_is_known_is_of_run_time() -> None:
    costs = Costs(run_s={0: 9.0, 1: 1.0}, basis={0: HINTED, 1: UNKNOWN})

    assert known_share(costs, 2) == pytest.approx(0.9)
    assert known_share(Costs(run_s={0: 0.0}, basis={0: Basis("1 equal call")}), 1) == 0.0
