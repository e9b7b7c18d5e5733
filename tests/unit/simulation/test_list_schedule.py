"""List schedules: makespans nearly as the simulator has them."""

from __future__ import annotations

import random

import pytest
from dagnb_planners.heft import Heft

from dagnb.graph.dag import Dag
from dagnb.planning.plan import Plan
from dagnb.planning.planner import Costs, Pool, Problem, StartCost
from dagnb.simulation.list_schedule import ListSchedule
from dagnb.simulation.simulate import outcome
from tests import graphs
from tests.unit.forecast.past_runs import floating

PROCESSES = Pool(cap=4)
CONTAINERS = Pool(cap=4, eager=False)


def costs_of(dag: Dag, seed: int = 1) -> Costs:
    chance = random.Random(seed)
    run_s = {task: chance.uniform(0.5, 2.0) for task in range(len(dag))}
    return Costs(run_s=run_s, cold=StartCost(invoke_s=1.0), default_output_bytes=10**7)


def pinned(dag: Dag, pool: Pool) -> Plan:
    return Heft().plan(Problem(dag=dag, costs=costs_of(dag), pool=pool))


@pytest.mark.parametrize("pool", [PROCESSES, CONTAINERS])
@pytest.mark.parametrize("make", ["floating", "pinned"])
@pytest.mark.parametrize(
    "dag", [graphs.chain(6), graphs.fan_in(30), graphs.diamond(), graphs.wide(50)]
)
def test_a_list_schedule_is_nearly_as_long_as_the_simulated_run(
    dag: Dag, make: str, pool: Pool
) -> None:
    plan = floating(dag) if make == "floating" else pinned(dag, pool)
    schedule = ListSchedule(plan, costs_of(dag), pool)

    for seed in (1, 2):
        costs = costs_of(dag, seed)
        assert schedule.makespan_s(costs) == pytest.approx(
            outcome(plan, costs, pool).makespan_s, rel=0.1
        )


def test_each_worker_imports_once_for_each_function() -> None:
    """a0, ..., a7 on four workers, 1 s each, and 3 s of imports on each worker"""
    names = [f"a{i}" for i in range(8)]
    dag = Dag.from_edges(names, [], functions=["a"] * 8)
    costs = Costs(default_run_s=1.0, cold=StartCost(), import_s=dict.fromkeys(range(8), 3.0))
    plan = floating(dag)

    seconds = ListSchedule(plan, costs, PROCESSES).makespan_s(costs)

    assert seconds == pytest.approx(outcome(plan, costs, PROCESSES).makespan_s, rel=0.02)
    assert seconds == pytest.approx(5.0, rel=0.02)


def test_failed_attempts_and_slow_transfers_take_time() -> None:
    dag, pool = graphs.chain(2), Pool(cap=1)
    usual = Costs(default_run_s=1.0, default_output_bytes=10**8, cold=StartCost())
    schedule = ListSchedule(floating(dag), usual, pool)
    slow = usual.with_(
        fetch=usual.fetch.__class__(3 * usual.fetch.base_s, 3 * usual.fetch.s_per_byte),
        failures={0: ((0.5, 0.25),)},
    )

    added_s = schedule.makespan_s(slow) - schedule.makespan_s(usual)

    # Two stores and a fetch take 0.2 s each, twice as long again; the failed attempt 0.75 s.
    assert added_s == pytest.approx(0.75 + 3 * 2 * 0.2, rel=0.02)


def test_costs_of_nothing_have_a_schedule_of_nothing() -> None:
    dag = graphs.chain(2)
    costs = Costs(default_run_s=0.0, default_output_bytes=0, commit_s=0.0, cold=StartCost())

    assert ListSchedule(floating(dag), costs, PROCESSES).makespan_s(costs) == 0.0


@pytest.mark.parametrize("pool", [PROCESSES, CONTAINERS])
def test_no_more_workers_run_at_a_time_than_the_pool_has(pool: Pool) -> None:
    """a plan made for another pool: each of 40 tasks on a worker of its own"""
    dag = graphs.wide(40)
    plan = pinned(dag, Pool())
    assert len({step.worker for step in plan.steps}) > 20
    costs = costs_of(dag)

    seconds = ListSchedule(plan, costs, pool).makespan_s(costs)

    # A list schedule starts a container for each worker; in the simulator they are lent on, warm.
    assert seconds == pytest.approx(outcome(plan, costs, pool).makespan_s, rel=0.5)
    assert seconds > sum(costs.run_s.values()) / 4
