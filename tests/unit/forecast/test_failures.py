"""Failures in forecasts: learnt from past runs, priced in plans and in bands."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from dagnb import task
from dagnb.forecast.costs import expected_costs
from dagnb.forecast.knowledge import Knowledge
from dagnb.graph.dag import Dag
from dagnb.planning.planner import Costs, Pool
from dagnb.run_history.history import History
from dagnb.simulation.scenarios import forecast
from dagnb.simulation.simulate import simulate
from tests.unit.forecast.past_runs import floating, remember

POOL = Pool(cap=2)
BACK_OFF_S = 4.0


@task(retries=2, backoff_s=BACK_OFF_S)
def flaky(n: int) -> int:
    return n


@task(retries=2)
def gathered(*parts: int) -> int:
    return sum(parts)


DAG = Dag.of(gathered(*[flaky(n) for n in range(20)]))
PLAN = floating(DAG)
REAL = Costs(default_run_s=1.0)


@pytest.fixture
def knowledge(tmp_path: Path) -> Knowledge:
    return Knowledge(History(tmp_path / "history.sqlite"))


def lived_with_failures(knowledge: Knowledge, n_runs: int, n_failing: int) -> None:
    """Remember runs in which so many calls of `flaky` fail once, after half a second."""
    source = random.Random(1)
    calls = [task for task, call in enumerate(DAG.calls) if call.function == "flaky"]
    for i in range(n_runs):
        failures = dict.fromkeys(source.sample(calls, n_failing), ((0.5, 0.25),))
        remember(knowledge.history, f"r{i}", PLAN, REAL.with_(failures=failures), POOL)


def test_failed_attempts_are_kept_with_the_task_that_succeeded(knowledge: Knowledge) -> None:
    lived_with_failures(knowledge, 1, 3)

    (run,), _ = knowledge.history.samples(["flaky", "gathered"])

    assert sorted(sample.failed for sample in run.samples)[:-3] == [()] * 18
    for sample in sorted(run.samples, key=lambda sample: sample.failed)[-3:]:
        assert sample.failed == (pytest.approx((0.5, 0.25)),)
        assert sample.run_s == pytest.approx(1.0)


def test_functions_that_never_failed_cost_nothing_more(knowledge: Knowledge) -> None:
    lived_with_failures(knowledge, 4, 0)

    costs = expected_costs(DAG, knowledge, "here")

    assert costs.failures == {}
    assert costs.uncertainty.failures == {}


def test_a_plan_has_as_many_failures_as_are_expected_of_all_tasks(knowledge: Knowledge) -> None:
    lived_with_failures(knowledge, 12, 4)

    costs = expected_costs(DAG, knowledge, "here")

    # 4 of 24 attempts fail, and some of these again.
    assert sum(map(len, costs.failures.values())) == 4
    assert {DAG.calls[task].function for task in costs.failures} == {"flaky"}
    usual_s = simulate(PLAN, costs.with_(failures={}), POOL).makespan_s
    assert simulate(PLAN, costs, POOL).makespan_s > usual_s + 0.5


def test_back_offs_are_those_of_the_policy_of_the_task(knowledge: Knowledge) -> None:
    """They were 0.25 s in past runs; now they are up to 4 s before the second attempt, 4 s at mean
    before the third."""
    lived_with_failures(knowledge, 4, 4)

    laws = expected_costs(DAG, knowledge, "here").uncertainty.failures

    law = next(iter(laws.values()))
    assert law.most == 2
    assert [max(waits) for waits in law.back_offs] == pytest.approx([3.75, 7.5])
    assert law.usual(2, 1.0) == (pytest.approx((0.5, 2.0)), pytest.approx((0.5, 4.0)))


def test_a_dag_without_a_policy_waits_as_it_did(knowledge: Knowledge) -> None:
    lived_with_failures(knowledge, 4, 4)
    bare = Dag(tuple(DAG.calls), DAG.sinks)

    laws = expected_costs(bare, knowledge, "here").uncertainty.failures

    (waits,) = next(iter(laws.values())).back_offs
    assert waits == pytest.approx([0.25] * len(waits))


def test_the_band_of_a_run_with_retries_is_that_of_its_failures(knowledge: Knowledge) -> None:
    lived_with_failures(knowledge, 8, 0)
    never = forecast(PLAN, expected_costs(DAG, knowledge, "here"), POOL)
    knowledge.history.forget()
    lived_with_failures(knowledge, 8, 4)
    often = forecast(PLAN, expected_costs(DAG, knowledge, "here"), POOL)

    assert often.p50_s > never.p50_s + 1.0
    assert often.p90_s - often.p10_s > 2 * (never.p90_s - never.p10_s)
