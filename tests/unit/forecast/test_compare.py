"""Several planners on one problem: who is best, what each costs, who found nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from typing import ClassVar

import pytest

from dagnb.errors import PlanError
from dagnb.forecast.compare import Comparison, PlannerResult, compare_plans
from dagnb.graph import client_hook
from dagnb.planning.plan import Plan, Step
from dagnb.planning.planner import Costs, LinearCost, Planner, Pool, Problem, StartCost
from tests import graphs
from tests.unit.known_costs import known

SECOND = known(
    Costs(
        default_run_s=1.0,
        default_output_bytes=1_000_000,
        fetch=LinearCost(0.0, 1e-6),
        store=LinearCost(0.0, 1e-6),
        load=LinearCost(),
        dump=LinearCost(),
        commit_s=0.0,
        wake_s=0.0,
        cold=StartCost(),
        warm=StartCost(),
    )
)
"""every task runs 1 s and gives a megabyte, which takes 1 s to store and 1 s to fetch"""


@dataclass(frozen=True)
class Apart:
    """Every task on a worker of its own."""

    name: ClassVar[str] = "apart"

    def plan(self, problem: Problem) -> Plan:
        calls = enumerate(problem.dag.calls)
        steps = tuple(Step(task=i, upstream=call.upstream, worker=f"w{i}") for i, call in calls)
        return Plan(dag=problem.dag, steps=steps, planner=self.name)


@dataclass(frozen=True)
class Together:
    """Every task on one worker."""

    name: ClassVar[str] = "together"

    def plan(self, problem: Problem) -> Plan:
        calls = enumerate(problem.dag.calls)
        steps = tuple(Step(task=i, upstream=call.upstream, worker="w") for i, call in calls)
        return Plan(dag=problem.dag, steps=steps, planner=self.name)


@dataclass(frozen=True)
class Unable:
    """Finds nothing."""

    name: ClassVar[str] = "unable"

    def plan(self, problem: Problem) -> Plan:
        raise PlanError("there are too many tasks. Take fewer.")


@dataclass(frozen=True)
class Wrong:
    """Forgets the last task."""

    name: ClassVar[str] = "wrong"

    def plan(self, problem: Problem) -> Plan:
        return Plan(dag=problem.dag, steps=Apart().plan(problem).steps[:-1], planner=self.name)


PLANNERS: dict[str, Planner] = {p.name: p for p in (Unable(), Apart(), Together())}


def ticking() -> Callable[[], float]:
    """A clock that moves on by half a second whenever it is read."""
    moments = count()
    return lambda: next(moments) / 2


def join(**planners: Planner) -> Comparison:
    """a0 -> b, a1 -> b, on containers that start in no time"""
    dag = graphs.with_effects(graphs.fan_in(2))
    problem = Problem(dag=dag, costs=SECOND, pool=Pool(cap=3, eager=False))
    return compare_plans(problem, planners or PLANNERS, "a join", ticking())


def line(found: Comparison, planner: str) -> PlannerResult:
    return next(line for line in found.lines if line.planner == planner)


def test_the_shortest_plan_comes_first_and_those_without_one_last() -> None:
    comparison = join()

    assert [line.planner for line in comparison.lines] == ["apart", "together", "unable"]
    assert comparison.best is comparison.lines[0]


def test_a_line_has_makespan_cost_and_bytes_of_the_simulated_run() -> None:
    together, apart = line(join(), "together"), line(join(), "apart")

    assert together.forecast is not None
    assert together.forecast.p50_s == pytest.approx(
        6.0
    )  # 3 runs, 3 stores; what is at hand need not be fetched
    assert together.moved_bytes == 3_000_000
    assert together.outcome is not None
    assert (together.outcome.n_cold, together.outcome.gb_s) == (1, pytest.approx(6.0))
    assert apart.forecast is not None
    assert apart.forecast.p50_s == pytest.approx(
        5.0
    )  # 2 runs, 2 stores and a fetch, one after the other
    assert apart.moved_bytes == 4_000_000
    assert apart.outcome is not None
    assert (apart.outcome.n_cold, apart.outcome.gb_s) == (2, pytest.approx(10.0))


def test_the_bytes_of_a_line_are_those_of_its_trace_small_values_too() -> None:
    """a0 -> b, a1 -> b: three values of 10 bytes, which ride along with the commits"""
    costs = SECOND.with_(output_bytes=dict.fromkeys(range(3), 10))
    problem = Problem(dag=graphs.fan_in(2), costs=costs, pool=Pool(cap=3, eager=False))

    comparison = line(compare_plans(problem, PLANNERS, "a join", ticking()), "apart")

    assert comparison.plan_forecast is not None
    assert comparison.moved_bytes == comparison.plan_forecast.trace.moved_bytes() == 30


def test_the_gap_is_to_the_bound_that_no_plan_beats() -> None:
    comparison = join()

    assert line(comparison, "apart").gap == pytest.approx(0.0, abs=1e-9)
    assert line(comparison, "together").gap == pytest.approx(0.2)


def test_planning_time_is_what_passes_on_the_clock_while_a_planner_plans() -> None:
    assert [line.planning_s for line in join().lines] == [0.5, 0.5, 0.5]


def test_a_planner_that_finds_nothing_becomes_a_line_with_its_problem() -> None:
    comparison = line(join(), "unable")

    assert comparison.problem == "there are too many tasks. Take fewer."
    assert (comparison.plan, comparison.plan_forecast, comparison.forecast, comparison.outcome) == (
        None,
        None,
        None,
        None,
    )


def test_a_plan_that_does_not_fit_becomes_a_line_with_its_problem() -> None:
    comparison = line(join(wrong=Wrong()), "wrong")

    assert "the plan of 'wrong' does not fit its graph" in comparison.problem
    assert comparison.plan is None


def test_no_planner_is_best_where_none_found_a_plan() -> None:
    assert join(unable=Unable()).best is None
    assert Comparison("nothing", ()).best is None


def test_plans_keep_the_problem_so_that_their_pictures_have_times() -> None:
    comparison = join()

    assert comparison.best is not None
    assert comparison.best.plan is not None
    assert comparison.best.plan.problem is not None
    assert comparison.best.plan_forecast is not None
    assert comparison.best.plan_forecast.trace.makespan_s == pytest.approx(5.0)


def test_planners_keep_the_label_they_were_given_here() -> None:
    comparison = join(mine=Together(), yours=Apart())

    assert [line.planner for line in comparison.lines] == ["yours", "mine"]


def test_equal_plans_stand_in_the_order_of_their_names() -> None:
    comparison = join(b=Together(), a=Together())

    assert [line.planner for line in comparison.lines] == ["a", "b"]


def test_the_text_is_an_aligned_table_and_the_problems_below() -> None:
    assert str(join()).splitlines() == [
        "a join",
        "planner   P50 s  P90 s   GB s  cold starts  moved MB  gap %  planning ms",
        "apart     5.000  5.000  10.00            2     4.000    0.0        500.0",
        "together  6.000  6.000   6.00            1     3.000   20.0        500.0",
        "unable        -      -      -            -         -      -        500.0",
        "unable: there are too many tasks. Take fewer.",
    ]


def test_it_shows_its_table_where_nothing_can_draw_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_hook, "_client", None)
    comparison = join()

    assert comparison._repr_mimebundle_() == {"text/plain": str(comparison)}


def test_it_shows_the_picture_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = {"text/html": "<table></table>", "text/plain": "a table"}
    drawing = replace(client_hook.client(), show=lambda thing: drawn)
    monkeypatch.setattr(client_hook, "_client", drawing)

    assert join()._repr_mimebundle_() == drawn


def test_of_functions_that_never_ran_a_comparison_shows_no_seconds() -> None:
    problem = Problem(dag=graphs.fan_in(2), costs=Costs(), pool=Pool(cap=3, eager=False))

    compared = compare_plans(problem, {"apart": Apart(), "together": Together()}, "x")

    assert compared.unknown == ("a0", "a1", "b")
    lines = str(compared).splitlines()
    assert lines[1] == "No forecast yet: a0, a1, b never ran"
    assert [line.split()[1:7] for line in lines[3:]] == [["-"] * 6] * 2
    assert repr(compared) == "<comparison of 2 planners on x: no forecast yet>"
