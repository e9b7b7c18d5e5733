"""The laws of a planner. A test class of a planner inherits them and says which planner is meant."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields, is_dataclass, replace
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from dagnb.graph.dag import Dag
from dagnb.graph.resources import DEFAULT
from dagnb.planning.costs import Costs
from dagnb.planning.planner import Planner, Pool, Problem
from dagnb.simulation.simulate import outcome
from dagnb.testing import graphs, strategies


def any_problem(law: Callable[[Any, Problem], None]) -> Callable[[Any], None]:
    """Try the law on as many random problems as its class says, the same ones every time and for every law.

    What breaks it is then searched for again, to be told as small as can be.
    """

    def tried(self: Any) -> None:
        try:
            for problem in _drawn(self.examples):
                law(self, problem)
        except Exception as error:  # noqa: BLE001  # the planner is somebody's own code: it may raise anything
            broken = error
        else:
            return
        _attempted(self.examples, lambda problem: law(self, problem))
        raise broken  # it kept the law this time, so it decides differently on equal problems

    tried.__name__, tried.__qualname__, tried.__doc__ = law.__name__, law.__qualname__, law.__doc__
    return tried


@functools.cache
def _drawn(n: int) -> tuple[Problem, ...]:
    """So many random problems: to draw them takes longer than to plan them."""
    found: list[Problem] = []
    _attempted(n, found.append)
    return tuple(found)


def _attempted(n: int, law: Callable[[Problem], None]) -> None:
    @settings(
        max_examples=n,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
        phases=(
            Phase.generate,
            Phase.shrink,
        ),  # to explain what broke a law takes longer than to find it
    )
    @given(problem=strategies.problems())
    def attempt(problem: Problem) -> None:
        law(problem)

    attempt()


def problem_of(dag: Dag, cap: int | None = None) -> Problem:
    """The DAG at default costs."""
    return Problem(dag=dag, costs=Costs(), pool=Pool(cap=cap))


def renamed(dag: Dag) -> Dag:
    """The same DAG under other names, whose alphabetical order is the reverse; what was one function still is."""
    functions = list(dict.fromkeys(call.function for call in dag.calls))
    others = {function: f"y{len(functions) - i:06}" for i, function in enumerate(functions)}
    calls = tuple(
        replace(call, name=f"z{len(dag) - i:06}", function=others[call.function])
        for i, call in enumerate(dag.calls)
    )
    return Dag(calls, dag.sinks)


class PlannerLaws:
    """Derive, and give the planner. examples: random problems a law; fewer for a slow planner.

    sizes: it gives workers more CPUs and memory than a task asks for, never less.
    """

    planner: ClassVar[Any]
    sizes: ClassVar[bool] = False
    examples: ClassVar[int] = 30

    def test_it_is_a_frozen_value_with_a_name(self) -> None:
        planner, kind = self.planner, type(self.planner)

        assert isinstance(planner, Planner)
        assert kind() == kind()
        assert planner.name.isidentifier()
        assert is_dataclass(kind)
        assert "name" not in {field.name for field in fields(kind)}
        with pytest.raises((FrozenInstanceError, TypeError)):
            setattr(planner, "something", 3)  # noqa: B010  # a planner has no such attribute

    @any_problem
    def test_a_plan_fits_its_problem_and_names_its_planner(self, problem: Problem) -> None:
        plan = self.planner.plan(problem)

        plan.check(problem.dag)
        assert plan.dag is problem.dag
        assert plan.planner == self.planner.name

    @any_problem
    def test_every_task_has_a_step_of_its_own_resources(self, problem: Problem) -> None:
        steps = self.planner.plan(problem).steps

        assert {step.task for step in steps} == set(range(len(problem.dag)))
        for step in steps:
            asked = problem.dag.calls[step.task].options.resources or DEFAULT
            given = step.resources
            if self.sizes:
                given = replace(given, cpus=asked.cpus, memory_mb=asked.memory_mb)
                assert (step.resources.cpus or 0) >= (asked.cpus or 0)
                assert (step.resources.memory_mb or 0) >= (asked.memory_mb or 0)
            assert given == asked

    @any_problem
    def test_equal_problems_give_equal_plans(self, problem: Problem) -> None:
        same = Problem(
            dag=copy.deepcopy(problem.dag), costs=replace(problem.costs), pool=replace(problem.pool)
        )

        assert self.planner.plan(problem) == self.planner.plan(same)

    @any_problem
    def test_planning_leaves_the_problem_as_it_was(self, problem: Problem) -> None:
        dag, run_s, sizes = (
            copy.deepcopy(problem.dag),
            dict(problem.costs.run_s),
            dict(problem.costs.output_bytes),
        )

        self.planner.plan(problem)

        assert (problem.dag, problem.costs.run_s, problem.costs.output_bytes) == (dag, run_s, sizes)

    @any_problem
    def test_names_of_tasks_decide_nothing(self, problem: Problem) -> None:
        other = replace(problem, dag=renamed(problem.dag))

        assert self.planner.plan(problem).steps == self.planner.plan(other).steps

    @any_problem
    def test_no_more_workers_are_named_than_the_pool_has_or_one_a_kind_of_resources(
        self, problem: Problem
    ) -> None:
        steps = [step for step in self.planner.plan(problem).steps if step.worker is not None]

        cap = problem.pool.cap if problem.pool.cap is not None else len(problem.dag)
        assert (
            len({step.worker for step in steps})
            <= cap + len({step.resources for step in steps}) - 1
            or not steps
        )

    @any_problem
    def test_what_is_upstream_goes_first_on_a_worker_even_where_nothing_takes_time(
        self, problem: Problem
    ) -> None:
        free = Costs(
            run_s=dict.fromkeys(range(len(problem.dag)), 0.0), default_output_bytes=0, commit_s=0.0
        )
        for costs in (problem.costs, free):
            steps = self.planner.plan(replace(problem, costs=costs)).steps
            for step in steps:
                above = (steps[u] for u in step.upstream)
                assert all(
                    u.priority <= step.priority
                    for u in above
                    if u.worker == step.worker is not None
                )

    @any_problem
    def test_every_plan_comes_to_an_end(self, problem: Problem) -> None:
        containers = replace(problem.pool, eager=False, linger_s=0.0, keep_alive_s=7.0)
        for pool in (problem.pool, containers, replace(containers, single=True)):
            plan = self.planner.plan(replace(problem, pool=pool))

            assert outcome(plan, problem.costs, pool).makespan_s >= 0

    @pytest.mark.parametrize("shape", sorted(graphs.SMALL))
    @pytest.mark.parametrize("cap", [None, 1, 3])
    def test_every_named_shape_is_planned(self, shape: str, cap: int | None) -> None:
        dag = graphs.SMALL[shape]

        plan = self.planner.plan(problem_of(dag, cap))

        plan.check(dag)
        assert len(plan.steps) >= len(dag)
