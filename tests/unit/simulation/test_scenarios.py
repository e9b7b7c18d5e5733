"""Scenarios: how prices may turn out, and the percentiles of the makespan that follow."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagnb.planning.planner import Costs, Pool, StartCost, Uncertainty
from dagnb.simulation.scenarios import MOST, STEPS, forecast, quantile, scenarios
from dagnb.simulation.simulate import simulate
from tests import graphs
from tests.unit.forecast.past_runs import floating

CHAIN = floating(graphs.chain(3))
POOL = Pool(cap=4)


def doubted(**doubt: object) -> Costs:
    return Costs(default_run_s=1.0, uncertainty=Uncertainty(**doubt))  # type: ignore[arg-type]  # its fields


def test_without_doubt_there_is_one_scenario_and_no_band() -> None:
    costs = Costs(default_run_s=1.0)

    predicted = forecast(CHAIN, costs, POOL)

    assert list(scenarios(costs, 3, 4)) == [costs] * 4
    assert predicted.n_scenarios == 1
    assert (
        predicted.p10_s
        == predicted.p50_s
        == predicted.p90_s
        == simulate(CHAIN, costs, POOL).makespan_s
    )


def test_the_shared_factor_is_spread_evenly_and_the_same_for_all_tasks() -> None:
    runs_s = [
        [priced.run(task) for task in range(3)] for priced in scenarios(doubted(batch=0.5), 3, 8)
    ]

    assert all(run == [run[0]] * 3 for run in runs_s)
    logs = [math.log(run[0]) for run in runs_s]
    assert logs == sorted(logs)
    assert statistics.fmean(logs) == pytest.approx(0.0, abs=1e-9)
    assert statistics.pstdev(logs) == pytest.approx(0.5, rel=0.12)


def test_what_is_a_tasks_own_is_drawn_for_each() -> None:
    costs = doubted(run={0: 0.3, 1: 0.3})

    runs_s = [
        [math.log(priced.run(task)) for task in range(3)] for priced in scenarios(costs, 3, 400)
    ]

    assert statistics.pstdev(run[0] for run in runs_s) == pytest.approx(0.3, rel=0.1)
    assert statistics.correlation(
        [run[0] for run in runs_s], [run[1] for run in runs_s]
    ) == pytest.approx(0, abs=0.12)
    assert {run[2] for run in runs_s} == {0.0}


def test_transfers_and_starts_vary_each_as_a_whole() -> None:
    costs = doubted(transfer=0.5, start=0.5).with_(
        cold=StartCost(invoke_s=1.0), warm=StartCost(invoke_s=0.1)
    )

    for priced in scenarios(costs, 3, 5):
        assert priced.fetch.base_s / costs.fetch.base_s == pytest.approx(
            priced.store.s_per_byte / costs.store.s_per_byte
        )
        assert priced.cold.total_s == pytest.approx(10 * priced.warm.total_s)
        assert priced.run(0) == 1.0
    assert len({priced.cold for priced in scenarios(costs, 3, 5)}) == 5


def test_all_plans_meet_the_same_scenarios_and_other_seeds_others() -> None:
    costs = doubted(default_run=0.4, batch=0.2)

    assert list(scenarios(costs, 3, 5)) == list(scenarios(costs, 3, 5))
    assert list(scenarios(costs, 3, 5, seed=1)) != list(scenarios(costs, 3, 5))


def test_a_band_is_as_wide_as_its_doubt() -> None:
    predicted = forecast(CHAIN, doubted(batch=0.2), POOL)

    assert predicted.n_scenarios == MOST
    assert predicted.p50_s == pytest.approx(3.0, rel=0.02)
    assert predicted.p90_s / predicted.p50_s == pytest.approx(math.exp(0.2 * 1.2816), rel=0.03)
    assert predicted.p50_s / predicted.p10_s == pytest.approx(math.exp(0.2 * 1.2816), rel=0.03)


def test_fan_ins_are_longer_than_their_medians_say() -> None:
    """a0, ..., a7 -> b: the longest of eight decides"""
    plan, costs = floating(graphs.fan_in(8)), doubted(default_run=0.3)

    predicted = forecast(plan, costs, Pool(cap=8))

    assert predicted.p50_s > 1.15 * simulate(plan, costs, Pool(cap=8)).makespan_s


def test_a_plan_too_large_for_several_is_foretold_by_one_with_the_band_of_the_shared_factor() -> (
    None
):
    plan = floating(graphs.wide(STEPS))
    costs = doubted(batch=0.2, default_run=0.3)

    predicted = forecast(plan, costs, POOL)

    assert predicted.n_scenarios == 1
    assert predicted.p90_s / predicted.p50_s == pytest.approx(math.exp(0.2 * 1.2816), rel=1e-3)
    assert forecast(CHAIN, costs, POOL, 5).n_scenarios == 5


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=20), st.floats(0, 1), st.floats(0, 1))
def test_quantiles_lie_among_the_values_and_ascend(values: list[float], p: float, q: float) -> None:
    ordered = sorted(values)

    low, high = quantile(ordered, min(p, q)), quantile(ordered, max(p, q))

    assert ordered[0] <= low <= high * (1 + 1e-12) + 1e-12
    assert high <= ordered[-1] * (1 + 1e-12)
    assert quantile([1.0, 2.0, 3.0], 0.5) == 2.0
