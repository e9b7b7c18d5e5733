"""Planners and workers that hold their order: asked for where the simulated run is shorter."""

from __future__ import annotations

from dataclasses import replace

import pytest
from dagnb_planners.best import Best
from dagnb_planners.flexible import Flexible
from dagnb_planners.heft import Heft
from dagnb_planners.holding import held, unheld
from dagnb_planners.search import Search
from dagnb_planners.sweep import held_if_shorter

from dagnb.graph.dag import Dag
from dagnb.planning.plan import Plan, Step, next_in_order
from dagnb.planning.planner import Problem, Uncertainty
from dagnb.simulation.simulate import outcome
from tests import graphs
from tests.unit.planners.prices import problem

DAG = graphs.drawn("a b", "c", "b d")
"""a -> b -> d, and c"""
SECONDS = {"a": 1.0, "b": 2.0, "c": 5.0, "d": 6.0}


def by_hand(dag: Dag, order: str) -> Plan:
    """The plan "a:w1 b:w0 c:w0", by priority."""
    steps: list[Step | None] = [None] * len(dag)
    for priority, pair in enumerate(order.split()):
        name, worker = pair.split(":")
        task = dag.positions[name]
        upstream = dag.calls[task].upstream
        steps[task] = Step(task=task, upstream=upstream, worker=worker, priority=priority)
    return Plan(dag=dag, steps=tuple(filter(None, steps)), planner="by hand")


def makespan_s(asked: Problem, plan: Plan) -> float:
    return outcome(plan, asked.costs, asked.pool).makespan_s


def holders(plan: Plan) -> set[str]:
    return {name for name, terms in plan.workers.items() if terms.hold}


PLAN = by_hand(DAG, "a:w1 b:w0 c:w0 d:w1")


def test_orders_are_held_where_the_run_is_shorter_then() -> None:
    """Without, w0 begins c at 0 s and b at 5 s: 13 s. With, b at 1 s, and d at 3 s: 9 s."""
    asked = problem(DAG, cap=2, seconds=SECONDS)

    plan = held_if_shorter(asked, PLAN)

    assert makespan_s(asked, PLAN) == 13.0
    assert makespan_s(asked, plan) == 9.0
    assert holders(plan) == {"w0", "w1"}


def test_orders_are_not_held_where_that_makes_no_difference() -> None:
    asked = problem(DAG, cap=2, seconds=SECONDS)
    apart = by_hand(DAG, "a:w0 b:w0 c:w1 d:w0")

    assert held_if_shorter(asked, apart) is apart


def test_orders_that_would_wait_for_each_other_are_not_held() -> None:
    dag = graphs.drawn("a b", "c d")
    crossed = by_hand(dag, "d:w0 b:w1 a:w0 c:w1")

    assert held(crossed) is crossed


def test_unheld_plans_are_those_without_orders() -> None:
    assert holders(unheld(held(PLAN))) == set()
    assert next_in_order(unheld(held(PLAN))) == {}


def test_a_plan_that_floats_has_no_order_to_hold() -> None:
    asked = problem(DAG, cap=2, seconds=SECONDS)
    plan = Flexible().plan(asked)

    assert held(plan) == plan


def test_uncertain_costs_are_asked_at_the_percentile() -> None:
    """a may take 20 times as long, and whoever waits for it begins c that much later."""
    asked = problem(DAG, cap=2, seconds={**SECONDS, "d": 2.3})
    sure = held_if_shorter(asked, PLAN)
    wild = Uncertainty(run={DAG.positions["a"]: 3.0})
    unsure = replace(asked, costs=replace(asked.costs, uncertainty=wild), percentile=0.9)

    assert holders(sure)
    assert not holders(held_if_shorter(unsure, PLAN))


@pytest.mark.parametrize("n_workers", [2, None])
def test_heft_runs_as_it_is_scheduled(n_workers: int | None) -> None:
    """Its schedule: a, b, d on one worker, which waits for nobody; c on the other."""
    asked = problem(DAG, cap=2, seconds=SECONDS)

    assert makespan_s(asked, Heft(n_workers=n_workers).plan(asked)) == 9.0


def test_a_step_that_was_overtaken_has_its_worker_hold_the_order() -> None:
    """c overtook b, which comes before it: changing their turns would change nothing."""
    asked = problem(DAG, cap=2, seconds=SECONDS)
    searching = Search(asked, PLAN)
    b, c = DAG.positions["b"], DAG.positions["c"]

    moved = searching.swapped(b, c)

    assert moved == replace(searching.best, holding=frozenset({"w0"}))
    plan = searching.as_plan(moved)
    assert holders(plan) == {"w1"}  # named in the order of first steps
    assert makespan_s(asked, plan) == 9.0


def test_the_search_keeps_the_orders_of_its_start() -> None:
    asked = problem(DAG, cap=2, seconds=SECONDS)

    plan = Search(asked, held(PLAN)).run(0.0)

    assert len(holders(plan)) == 2
    assert makespan_s(asked, plan) == 9.0


def test_the_search_holds_no_order_that_goes_against_the_dag() -> None:
    asked = problem(DAG, cap=2, seconds=SECONDS)
    searching = Search(asked, PLAN)
    a, b, c, d = (DAG.positions[name] for name in "abcd")

    plan = searching.as_plan(
        replace(searching.best, order=(b, a, c, d), holding=frozenset({"w0", "w1"}))
    )

    assert holders(plan) == set()


def test_best_gives_plans_that_can_be_checked() -> None:
    asked = problem(DAG, cap=2, seconds=SECONDS)

    Best(budget_s=0.05).plan(asked).check(DAG)
