"""The best plan of a small DAG, by constraint programming: no guess, but a proof or a bound.

The solver's bound holds for every plan without copies of tasks on so many workers. What counts is simulated: the model
leaves some delays out (see job_shop), so of the plans of the solver and of other planners the best is kept.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from dagnb import registry
from dagnb.errors import ConfigError, PlanError, UnknownNameError
from dagnb.graph.shape import width
from dagnb.planning.bounds import Bound, certificate, gap, lower_bound
from dagnb.planning.plan import Plan
from dagnb.planning.planner import Problem
from dagnb.simulation.simulate import outcome
from dagnb_planners.job_shop import EXACT, Model
from dagnb_planners.sweep import MARGIN, score

HINTS = ("flexible", "one_pass", "wukong", "heft")
"""planners that are asked first, as far as they are there: the solver begins with the best of their plans"""
RIVALS = ("best",)
"""planners that are asked where nothing was proven; they take longer"""
SMALL = 14
"""up to so many tasks each may have a worker of its own"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exact:
    """limit_s: of the solver, in its own deterministic seconds, about as long as real ones on an idle core.

    max_tasks: larger DAGs are refused. workers: how many at most; None takes the cap of the pool, or without one as
    many as tasks, of more than 14 a third more than the DAG is wide.
    """

    name: ClassVar[str] = "exact"

    limit_s: float = 60.0
    max_tasks: int = 40
    workers: int | None = None

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        if not self.limit_s > 0:
            raise ConfigError(f"Exact(limit_s={self.limit_s!r}): must be more than 0 s.")
        if self.max_tasks < 1:
            raise ConfigError(
                f"Exact(max_tasks={self.max_tasks!r}): at least 1 task must be allowed."
            )
        if self.workers is not None and self.workers < 1:
            raise ConfigError(
                f"Exact(workers={self.workers!r}): at least 1 worker; leave it out for the pool's cap."
            )

    def plan(self, problem: Problem) -> Plan:
        """The best simulated plan. Its notes say whether it is optimal. Raises PlanError where there are many tasks."""
        n = len(problem.dag)
        if n > self.max_tasks:
            raise PlanError(
                f"the planner 'exact' was asked for {n} tasks, more than its {self.max_tasks}: the search would not "
                f"end. Take planner='best', or Exact(max_tasks={n}) with patience."
            )
        solver, bound = ortools(), lower_bound(problem.dag, problem.costs, problem.pool)
        plan, made_s = _shortest(problem, asked(problem, HINTS))
        if made_s <= 0:
            return replace(plan, planner=self.name, notes=("optimal",))
        model = Model(solver, problem, self._workers(problem), made_s)
        model.begin_with(plan)
        answer = model.solve(self.limit_s)
        plan, made_s = _shortest(problem, [plan, *answer.plans])
        if answer.bound_s > bound.seconds and not problem.costs.failures:
            bound = Bound(
                answer.bound_s,
                f"of plans without copies of tasks, on at most {model.n_workers} workers",
            )
        if gap(made_s, bound) > 2 * EXACT:
            plan, made_s = _shortest(problem, [plan, *asked(problem, RIVALS)])
        return replace(plan, planner=self.name, notes=(_verdict(made_s, bound), answer.figures))

    def _workers(self, problem: Problem) -> int:
        n = len(problem.dag)
        most = n if n <= SMALL else math.ceil(MARGIN * width(problem.dag))
        if problem.pool.cap is not None:
            warm = 0 if problem.pool.eager else sum(problem.pool.warm.values())
            most = max(problem.pool.cap, warm)
        return min(n, most, self.workers or n)


def ortools() -> Any:
    """The module of the solver. Raises ConfigError when it is not installed."""
    try:
        return importlib.import_module("ortools.sat.python.cp_model")
    except ImportError as error:
        raise ConfigError(
            "the planner 'exact' needs OR-tools, which is not installed here. Install it: pip install 'dagnb[exact]', "
            "or take planner='best'."
        ) from error


def asked(problem: Problem, names: Iterable[str]) -> Iterator[Plan]:
    """The plans of these planners, as far as they are there and do not refuse the problem."""
    for name in names:
        try:
            yield registry.find("planner", name)().plan(problem)
        except (UnknownNameError, PlanError, ConfigError):
            continue


def _shortest(problem: Problem, plans: Iterable[Plan]) -> tuple[Plan, float]:
    """The plan of the shortest simulated run, and how long that is; of equal ones the cheaper, then the first."""
    tried = [(outcome(plan, problem.costs, problem.pool), plan) for plan in plans]
    found, plan = min(tried, key=lambda pair: score(pair[0]))
    return plan, found.makespan_s


def _verdict(made_s: float, bound: Bound) -> str:
    if gap(made_s, bound) <= 2 * EXACT:
        return f"optimal: {bound.seconds:.6g} s is the bound ({bound.reason})"
    return f"best found, bound {bound.seconds:.6g} s ({bound.reason}): {certificate(made_s, bound)}"
