"""The exact planner: optimal where checked by hand, never longer than another planner."""

from __future__ import annotations

import importlib
import subprocess
import sys
from typing import Any

import pytest
from dagnb_planners import exact
from dagnb_planners.exact import Exact
from dagnb_planners.flexible import Flexible
from dagnb_planners.heft import Heft
from dagnb_planners.one_pass import OnePass

from benchmarks.exact import fought, random_problem, simulated
from dagnb.errors import ConfigError, PlanError
from dagnb.graph.dag import Dag
from dagnb.planning.bounds import lower_bound
from dagnb.planning.plan import Plan
from dagnb.planning.planner import Costs, LinearCost, Planner, Pool, Problem, StartCost
from tests import graphs
from tests.conftest import missing_service

FREE: dict[str, Any] = {
    "fetch": LinearCost(),
    "store": LinearCost(),
    "load": LinearCost(),
    "dump": LinearCost(),
    "commit_s": 0.0,
    "wake_s": 0.0,
    "cold": StartCost(),
    "warm": StartCost(),
    "default_run_s": 1.0,
}
"""prices at which only functions take time"""


@pytest.fixture(scope="module", autouse=True)
def solver() -> None:
    try:
        exact.ortools()
    except ConfigError as error:
        missing_service(str(error))


def solved(dag: Dag, pool: Pool, **prices: Any) -> tuple[Plan, float]:
    problem = Problem(dag=dag, costs=Costs(**{**FREE, **prices}), pool=pool)
    plan = Exact().plan(problem)
    plan.check(dag)
    return plan, simulated(problem, plan)


@pytest.mark.parametrize(
    ("run_s", "cap", "best_s"),
    [
        ((3.0, 3.0, 2.0, 2.0, 2.0), 2, 6.0),  # the longest first would end at 7
        ((5.0, 4.0, 3.0, 3.0, 3.0), 2, 9.0),
        ((2.0, 1.0, 1.0), None, 2.0),
    ],
)
def test_independent_tasks_are_partitioned_optimally(
    run_s: tuple[float, ...], cap: int | None, best_s: float
) -> None:
    dag = graphs.drawn(*"abcde"[: len(run_s)])

    plan, makespan_s = solved(dag, Pool(cap=cap), run_s=dict(enumerate(run_s)))

    assert makespan_s == pytest.approx(best_s)
    assert plan.notes[0].startswith("optimal")
    assert plan.notes[1].startswith("CP-SAT: optimal")


@pytest.mark.parametrize(("transfer_s", "best_s"), [(10.0, 4.0), (0.25, 3.25)])
def test_branches_of_a_diamond_stay_together_where_a_transfer_is_longer_than_a_task(
    transfer_s: float, best_s: float
) -> None:
    """a -> b -> d
    `-> c -/    alone 4 s; in parallel 3 s and a transfer to c, and one of c to d
    """
    edges = {(0, 1): 10**6, (0, 2): 10**6, (1, 3): 0, (2, 3): 0}

    plan, makespan_s = solved(
        graphs.diamond(),
        Pool(cap=2),
        edge_bytes=edges,
        fetch=LinearCost(transfer_s, 0.0),
        default_output_bytes=0,
    )

    assert makespan_s == pytest.approx(best_s)
    assert plan.notes[0].startswith("optimal")


def test_a_second_container_is_not_worth_its_start() -> None:
    """a, b of 1 s each; a cold start takes 5 s, so both begin at 5 s on two, and that is best."""
    _, both_s = solved(graphs.drawn("a", "b"), Pool(eager=False), cold=StartCost(create_s=5.0))
    _, later_s = solved(
        graphs.fan_out(2), Pool(eager=False), cold=StartCost(create_s=5.0), default_output_bytes=0
    )

    assert both_s == pytest.approx(6.0)
    assert later_s == pytest.approx(8.0)  # one worker runs all three


def test_on_sixty_random_dags_it_is_never_longer_than_another_planner(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All 200 and all planners are for benchmarks/exact.py."""
    monkeypatch.setattr(exact, "RIVALS", ())
    planners: list[Planner] = [Flexible(), OnePass(), Heft()]
    for seed, duel in enumerate(fought(range(60), ())):
        problem = random_problem(seed)
        others = [simulated(problem, planner.plan(problem)) for planner in planners]

        assert duel.exact_s <= min(others) * (1 + 1e-9), seed
        assert duel.exact_s >= lower_bound(problem.dag, problem.costs, problem.pool).seconds * (
            1 - 1e-9
        ), seed
        assert "infeasible" not in duel.notes[-1], (
            seed
        )  # the model admits whatever can be simulated
        assert "CP-SAT: optimal" in duel.notes[-1], seed


def test_equal_problems_give_equal_plans() -> None:
    problem = random_problem(24)

    assert Exact().plan(problem) == Exact().plan(problem)


def test_more_tasks_than_allowed_are_refused_with_the_cure() -> None:
    with pytest.raises(PlanError, match=r"asked for 41 tasks, more than its 40.*planner='best'"):
        Exact().plan(Problem(dag=graphs.chain(41), costs=Costs(), pool=Pool()))


@pytest.mark.parametrize("terms", [{"limit_s": 0.0}, {"max_tasks": 0}, {"workers": 0}])
def test_settings_that_mean_nothing_are_refused(terms: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(terms))):
        Exact(**terms)


def test_without_the_solver_the_error_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)

    with pytest.raises(ConfigError, match=r"pip install 'dagnb\[exact\]'"):
        Exact().plan(random_problem(0))


def test_an_interrupt_after_planning_is_python_s_own_again() -> None:
    """A solver that takes SIGINT for itself leaves the system's default behind.

    And that ends the process.
    """
    code = """
import signal
from dagnb.planning.planner import Costs
from dagnb.planning.planner import Pool, Problem
from dagnb.testing.graphs import SMALL
from dagnb_planners.exact import Exact

Exact().plan(Problem(dag=SMALL["diamond"], costs=Costs(), pool=Pool(cap=2)))
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted, and alive")
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )

    assert ended.stdout == "interrupted, and alive\n", ended.stderr
