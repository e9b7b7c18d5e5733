"""Scenarios: how prices may turn out, and the percentiles of the makespan that follow."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagnb.graph.resources import Resources
from dagnb.planning.planner import Costs, PastErrors, Pool, StartCost, Uncertainty
from dagnb.simulation.scenarios import LEAST_QUICK, MOST_QUICK, forecast, quantile, scenarios
from dagnb.simulation.simulate import simulate
from tests import graphs
from tests.unit.forecast.past_runs import floating

CHAIN = floating(graphs.chain(3))
POOL = Pool(cap=4)


def doubted(**doubt: object) -> Costs:
    return Costs(default_run_s=1.0, uncertainty=Uncertainty(**doubt))  # type: ignore[arg-type]  # its fields


def logs_of(costs: Costs, n: int) -> list[list[float]]:
    """The logs of the run times of three tasks, 1 s at the median, by scenario."""
    return [[math.log(priced.run(task)) for task in range(3)] for priced in scenarios(costs, 3, n)]


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

    assert predicted.n_scenarios == MOST_QUICK
    assert predicted.p50_s == pytest.approx(3.0, rel=0.02)
    assert predicted.p90_s / predicted.p50_s == pytest.approx(math.exp(0.2 * 1.2816), rel=0.03)
    assert predicted.p50_s / predicted.p10_s == pytest.approx(math.exp(0.2 * 1.2816), rel=0.03)


def test_fan_ins_are_longer_than_their_medians_say() -> None:
    """a0, ..., a7 -> b: the longest of eight decides"""
    plan, costs = floating(graphs.fan_in(8)), doubted(default_run=0.3)

    predicted = forecast(plan, costs, Pool(cap=8))

    assert predicted.p50_s > 1.15 * simulate(plan, costs, Pool(cap=8)).makespan_s


@pytest.mark.parametrize("n", [8, 100, 990, 1_010, 2_000])
def test_what_a_function_shares_is_not_surer_with_more_tasks(n: int) -> None:
    """No cliff either: one simulated scenario, and many list schedules, at 1,010 steps and more."""
    dag = graphs.wide(n)
    every, functions = dict.fromkeys(range(len(dag)), 1.0), dict.fromkeys(range(len(dag)), "f")
    costs = doubted(new_code=every, functions=functions, default_run=0.2)

    predicted = forecast(floating(dag), costs, POOL)

    assert math.log(predicted.p90_s / predicted.p10_s) == pytest.approx(2 * 1.2816, rel=0.15)
    assert predicted.n_scenarios >= LEAST_QUICK


def test_two_functions_are_in_doubt_apart_and_unseen_sizes_together() -> None:
    functions, every = {0: "f", 1: "g", 2: "g"}, dict.fromkeys(range(3), 1.0)

    by_code = logs_of(doubted(new_code=every, functions=functions), 40)
    by_size = logs_of(doubted(new_sizes=every, functions=functions), 40)

    assert all(run[1] == pytest.approx(run[2]) for run in by_code)
    assert statistics.correlation([r[0] for r in by_code], [r[1] for r in by_code]) < 0.4
    assert all(run == pytest.approx([run[0]] * 3) for run in by_size)
    for run in (by_code, by_size):
        assert statistics.pstdev(r[0] for r in run) == pytest.approx(1.0, rel=0.05)


def test_modes_stay_modes_and_beyond_the_slowest_seen_there_are_slower_ones() -> None:
    two_modes = (0.0,) * 7 + (3.0,) * 3
    tail = tuple(0.1 * i * i for i in range(10))

    modes = [x for run in logs_of(doubted(residuals={0: two_modes}), 400) for x in run[:1]]
    tails = [x for run in logs_of(doubted(residuals={0: tail}), 400) for x in run[:1]]

    assert set(modes) == {0.0, 3.0}
    assert modes.count(3.0) / len(modes) == pytest.approx(0.3, abs=0.06)
    assert max(tail) < max(tails) < 3 * max(tail)
    assert min(tails) < 0


def test_past_runs_are_drawn_by_weight_with_the_errors_of_all_functions() -> None:
    slow = PastErrors(by_function={"f": 0.5, "g": 0.1}, mean=0.4, weight=1.0)
    usual = PastErrors(by_function={"f": 0.0}, mean=0.0, weight=3.0)

    runs = logs_of(doubted(past=(slow, usual), functions={0: "f", 1: "g", 2: "h"}), 8)

    assert runs[:6] == [pytest.approx([0.0, 0.0, 0.0])] * 6
    assert runs[6:] == [pytest.approx([0.5, 0.1, 0.4])] * 2


def test_all_imports_of_a_run_are_slow_or_quick_together() -> None:
    laws = {"f": (-0.5, 0.5), "g": (-1.0, 1.0)}
    costs = doubted(imports=laws, functions={0: "f", 1: "g"}).with_(import_s={0: 1.0, 1: 1.0})

    drawn = [priced.import_s for priced in scenarios(costs, 2, 6)]

    low, high = math.exp(-0.5), math.exp(0.5)
    assert sorted(run[0] for run in drawn) == pytest.approx([low] * 3 + [high] * 3)
    assert all(run[1] == pytest.approx(run[0] ** 2) for run in drawn)


def test_starts_are_drawn_from_those_that_were_measured() -> None:
    residuals = {False: (0.0, 0.0, 0.0, 4.0)}
    costs = doubted(start_residuals=residuals).with_(cold=StartCost(invoke_s=1.0))

    seconds = [priced.cold.total_s for priced in scenarios(costs, 1, 8)]

    assert sorted(seconds) == pytest.approx([1.0] * 6 + [math.exp(4.0)] * 2)


def test_cold_and_warm_starts_have_each_their_own_spread() -> None:
    small = Resources(cpus=1.0)
    costs = doubted(start_residuals={False: (-1.0, 1.0), True: (0.0,)}).with_(
        cold=StartCost(invoke_s=1.0),
        warm=StartCost(invoke_s=0.1),
        starts={(small, False): StartCost(invoke_s=4.0), (small, True): StartCost(invoke_s=0.4)},
    )

    drawn = list(scenarios(costs, 1, 8))

    assert {round(math.log(priced.cold.total_s), 6) for priced in drawn} == {-1.0, 1.0}
    assert {priced.warm.total_s for priced in drawn} == {0.1}
    assert {priced.start(small, is_warm=True).total_s for priced in drawn} == {0.4}
    for priced in drawn:
        assert priced.start(small, is_warm=False).total_s == pytest.approx(4 * priced.cold.total_s)


def test_run_times_that_are_known_are_not_in_doubt() -> None:
    every = dict.fromkeys(range(3), 0.5)
    past = (PastErrors(by_function={}, mean=0.3),)
    doubt = Uncertainty(
        run=every, new_code=every, new_sizes=every, residuals={0: (0.1,)}, past=past
    )

    left = doubt.of_tasks_known([0, 2])

    assert [left.of(task) for task in range(3)] == pytest.approx([0.0, math.sqrt(0.75), 0.0])
    assert doubt.of_tasks_known(range(3)).is_certain
    assert not left.is_certain


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=20), st.floats(0, 1), st.floats(0, 1))
def test_quantiles_lie_among_the_values_and_ascend(values: list[float], p: float, q: float) -> None:
    ordered = sorted(values)

    low, high = quantile(ordered, min(p, q)), quantile(ordered, max(p, q))

    assert ordered[0] <= low <= high * (1 + 1e-12) + 1e-12
    assert high <= ordered[-1] * (1 + 1e-12)
    assert quantile([1.0, 2.0, 3.0], 0.5) == 2.0
