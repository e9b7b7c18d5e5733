"""The laws of a planner. A new planner joins PLANNERS and obeys them all."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields, is_dataclass, replace
from typing import Any

import pytest
from dagnb_planners.flexible import Flexible
from dagnb_planners.one_pass import OnePass
from hypothesis import given, settings

from dagnb.graph.dag import Dag
from dagnb.graph.resources import DEFAULT
from dagnb.planning.costs import Costs
from dagnb.planning.planner import Planner, Pool, Problem
from tests import graphs, strategies

PLANNERS: list[Planner] = [Flexible(), OnePass(), OnePass(short_s=0.0, keep=1)]

every_planner = pytest.mark.parametrize("planner", PLANNERS, ids=repr)


def any_problem(law: Callable[..., None]) -> Callable[..., None]:
    """Try the law on random problems."""
    return settings(max_examples=30)(given(problem=strategies.problems())(law))


def problem_of(dag: Dag, cap: int | None = None) -> Problem:
    return Problem(dag=dag, costs=Costs(), pool=Pool(cap=cap))


def renamed(dag: Dag) -> Dag:
    """The same DAG under other names, whose alphabetical order is the reverse."""
    calls = tuple(
        replace(call, name=f"z{len(dag) - i:06}", function=f"y{len(dag) - i:06}") for i, call in enumerate(dag.calls)
    )
    return Dag(calls, dag.sinks)


@every_planner
def test_a_planner_is_a_frozen_value_with_a_name(planner: Any) -> None:
    kind: Any = type(planner)

    assert kind() == kind()
    assert planner.name.isidentifier()
    assert is_dataclass(kind)
    assert "name" not in {field.name for field in fields(kind)}
    with pytest.raises((FrozenInstanceError, TypeError)):
        planner.something = 3
    assert isinstance(planner, Planner)


@every_planner
@any_problem
def test_a_plan_fits_its_problem_and_names_its_planner(planner: Planner, problem: Problem) -> None:
    plan = planner.plan(problem)

    plan.check(problem.dag)
    assert plan.dag is problem.dag
    assert plan.planner == planner.name


@every_planner
@any_problem
def test_every_task_has_a_step_of_its_own_resources(planner: Planner, problem: Problem) -> None:
    steps = planner.plan(problem).steps

    assert {step.task for step in steps} == set(range(len(problem.dag)))
    assert all(step.resources == (problem.dag.calls[step.task].options.resources or DEFAULT) for step in steps)


@every_planner
@any_problem
def test_equal_problems_give_equal_plans(planner: Planner, problem: Problem) -> None:
    same = Problem(dag=copy.deepcopy(problem.dag), costs=replace(problem.costs), pool=replace(problem.pool))

    assert planner.plan(problem) == planner.plan(same)


@every_planner
@any_problem
def test_planning_leaves_the_problem_as_it_was(planner: Planner, problem: Problem) -> None:
    dag, run_s, sizes = copy.deepcopy(problem.dag), dict(problem.costs.run_s), dict(problem.costs.output_bytes)

    planner.plan(problem)

    assert (problem.dag, problem.costs.run_s, problem.costs.output_bytes) == (dag, run_s, sizes)


@every_planner
@any_problem
def test_names_of_tasks_decide_nothing(planner: Planner, problem: Problem) -> None:
    other = replace(problem, dag=renamed(problem.dag))

    assert planner.plan(problem).steps == planner.plan(other).steps


@every_planner
@any_problem
def test_no_more_workers_are_named_than_the_pool_has_or_one_a_kind_of_resources(
    planner: Planner, problem: Problem
) -> None:
    steps = [step for step in planner.plan(problem).steps if step.worker is not None]

    cap = problem.pool.cap if problem.pool.cap is not None else len(problem.dag)
    assert len({step.worker for step in steps}) <= cap + len({step.resources for step in steps}) - 1 or not steps


@every_planner
@pytest.mark.parametrize("name", sorted(graphs.SMALL))
@pytest.mark.parametrize("cap", [None, 1, 3])
def test_every_named_shape_is_planned(planner: Planner, name: str, cap: int | None) -> None:
    dag = graphs.SMALL[name]

    plan = planner.plan(problem_of(dag, cap))

    plan.check(dag)
    assert len(plan.steps) >= len(dag)


LARGE: dict[str, Callable[[], Dag]] = {
    "chain": lambda: graphs.chain(5_000),
    "wide": lambda: graphs.wide(9_998),
    "fan_out": lambda: graphs.fan_out(9_999),
    "fan_in": lambda: graphs.fan_in(9_999),
    "ladder": lambda: graphs.ladder(5_000),
    "layered": lambda: graphs.layered(100, 100),
    "tree_in": lambda: graphs.tree_in(12),
}


@pytest.fixture(scope="module", params=sorted(LARGE))
def large(request: pytest.FixtureRequest) -> Dag:
    return LARGE[request.param]()


@pytest.mark.stress
@every_planner
@pytest.mark.parametrize("cap", [None, 8])
def test_ten_thousand_tasks_are_planned_and_checked_without_recursion_or_delay(
    planner: Planner, large: Dag, cap: int | None
) -> None:
    begin_s = time.process_time()
    plan = planner.plan(problem_of(large, cap))
    took_s = time.process_time() - begin_s
    plan.check(large)

    assert len(plan.steps) == len(large)
    assert took_s < 1.5  # some 0.1 s alone; far below what anything quadratic would take
