"""Laws of every planner (dagnb.planning.planner.Planner), tried on random and on named DAGs."""

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
from dagnb.planning.plan import Plan, Way
from dagnb.planning.planner import Costs, Planner, Pool, Problem, needs_costs
from dagnb.simulation.simulate import outcome
from dagnb.testing import graphs, strategies


def any_problem(law: Callable[[Any, Problem], None]) -> Callable[[Any], None]:
    """Makes a test that tries the law on random problems: the same ones every time, for every law.

    A problem that breaks the law is searched for again by hypothesis, which reports a small one.
    """

    def test(self: Any) -> None:
        try:
            for problem in _random_problems(self.examples):
                law(self, problem)
        except Exception as error:  # noqa: BLE001  # a planner of the user's may raise anything
            broken = error
        else:
            return
        _try_with_hypothesis(self.examples, lambda problem: law(self, problem))
        # The law was kept this time: the planner decides differently on equal problems.
        raise broken

    # functools.wraps would not do: pytest would take `problem` for a fixture.
    test.__name__, test.__qualname__, test.__doc__ = law.__name__, law.__qualname__, law.__doc__
    return test


@functools.cache
def _random_problems(n: int) -> tuple[Problem, ...]:
    """Returns n problems. Cached: drawing them takes longer than planning them."""
    problems: list[Problem] = []
    _try_with_hypothesis(n, problems.append)
    return tuple(problems)


def _try_with_hypothesis(n: int, law: Callable[[Problem], None]) -> None:
    @settings(
        max_examples=n,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
        # Phase.explain is left out: it takes longer than the search.
        phases=(Phase.generate, Phase.shrink),
    )
    @given(problem=strategies.problems())
    def attempt(problem: Problem) -> None:
        law(problem)

    attempt()


def problem_of(dag: Dag, cap: int | None = None) -> Problem:
    """Returns the problem of this DAG with default costs."""
    return Problem(dag=dag, costs=Costs(), pool=Pool(cap=cap))


def renamed(dag: Dag) -> Dag:
    """Returns the DAG with other names of tasks and functions, in reverse alphabetical order."""
    functions: dict[str, str] = {}
    calls = []
    for i, call in enumerate(dag.calls):
        function = functions.setdefault(call.function, f"y{len(dag) - len(functions):06}")
        calls.append(replace(call, name=f"z{len(dag) - i:06}", function=function))
    return Dag(tuple(calls), dag.sinks)


def overtaken(plan: Plan) -> list[tuple[int, int]]:
    """Returns (reader, step) where a worker would run the reader before a more urgent step of its.

    A worker runs the reader of a kept value right behind its input. So every step that lies between
    both in the order of that worker must be one that the reader waits for.
    """
    above: list[set[int]] = []
    for step in plan.steps:
        above.append(set(step.upstream).union(*(above[u] for u in step.upstream)))
    pairs = []
    for (upstream, reader), way in plan.ways.items():
        first, last = plan.steps[upstream], plan.steps[reader]
        if way is not Way.LOCAL or first.worker is None:
            continue
        for position, step in enumerate(plan.steps):
            is_between = first.priority < step.priority < last.priority
            if step.worker == first.worker and is_between and position not in above[reader]:
                pairs.append((reader, position))
    return pairs


class PlannerLaws:
    """Laws of every planner. Derive, and define `planner`.

    examples: random problems a law; fewer for a slow planner.
    sizes: the planner may give a worker more CPUs and memory than its tasks ask for.
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
            requested = problem.dag.calls[step.task].options.resources or DEFAULT
            given = step.resources
            if self.sizes:
                given = replace(given, cpus=requested.cpus, memory_mb=requested.memory_mb)
                assert (step.resources.cpus or 0) >= (requested.cpus or 0)
                assert (step.resources.memory_mb or 0) >= (requested.memory_mb or 0)
            assert given == requested

    @any_problem
    def test_equal_problems_give_equal_plans(self, problem: Problem) -> None:
        same = Problem(
            dag=copy.deepcopy(problem.dag), costs=replace(problem.costs), pool=replace(problem.pool)
        )

        assert self.planner.plan(problem) == self.planner.plan(same)

    @any_problem
    def test_planning_leaves_the_problem_as_it_was(self, problem: Problem) -> None:
        dag, costs = copy.deepcopy(problem.dag), problem.costs
        run_s, output_bytes = dict(costs.run_s), dict(costs.output_bytes)

        self.planner.plan(problem)

        assert (problem.dag, costs.run_s, costs.output_bytes) == (dag, run_s, output_bytes)

    @any_problem
    def test_names_of_tasks_decide_nothing(self, problem: Problem) -> None:
        other = replace(problem, dag=renamed(problem.dag))

        assert self.planner.plan(problem).steps == self.planner.plan(other).steps

    @any_problem
    def test_costs_decide_nothing_if_the_planner_says_so(self, problem: Problem) -> None:
        if needs_costs(self.planner):
            return
        other = replace(problem, costs=Costs())

        assert self.planner.plan(problem).steps == self.planner.plan(other).steps

    @any_problem
    def test_no_more_workers_are_named_than_the_pool_has_or_one_a_kind_of_resources(
        self, problem: Problem
    ) -> None:
        steps = [step for step in self.planner.plan(problem).steps if step.worker is not None]

        cap = problem.pool.cap if problem.pool.cap is not None else len(problem.dag)
        workers = {step.worker for step in steps}
        kinds = {step.resources for step in steps}
        # A worker has one kind of resources: even with a cap of 1 each kind needs a worker.
        assert not steps or len(workers) <= cap + len(kinds) - 1

    @any_problem
    def test_upstream_steps_go_first_on_a_worker_even_if_nothing_takes_time(
        self, problem: Problem
    ) -> None:
        free = Costs(
            run_s=dict.fromkeys(range(len(problem.dag)), 0.0), default_output_bytes=0, commit_s=0.0
        )
        for costs in (problem.costs, free):
            steps = self.planner.plan(replace(problem, costs=costs)).steps
            # Otherwise a worker would wait for a step that it runs later itself.
            for step in steps:
                for upstream in (steps[u] for u in step.upstream):
                    if upstream.worker == step.worker is not None:
                        assert upstream.priority <= step.priority

    @any_problem
    def test_no_reader_of_a_kept_value_overtakes_a_step_of_its_worker(
        self, problem: Problem
    ) -> None:
        assert overtaken(self.planner.plan(problem)) == []

    @any_problem
    def test_every_plan_comes_to_an_end(self, problem: Problem) -> None:
        # Containers, too: an instance may leave while tasks of its worker are not ready yet.
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
        assert len(plan.steps) >= len(dag)  # a task may have copies
