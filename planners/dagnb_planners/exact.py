"""The best plan of a small DAG, by constraint programming: with a proof, or with a bound.

    plans of quick planners -> best simulated one -> solver, which starts from it -> plans, bound
      -> nothing proven: slower planners, too -> best simulated one of all

The solver's bound holds for every plan without copies of tasks on so many workers. Plans are
compared by simulation, because the model leaves out some delays (see job_shop): the best of the
solver's plans and of the other planners' plans is kept.
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
from dagnb.planning.evidence import is_known
from dagnb.planning.plan import Plan
from dagnb.planning.planner import Problem
from dagnb.simulation.simulate import outcome
from dagnb_planners.job_shop import EXACT, Model
from dagnb_planners.sweep import MARGIN, score

# Planners asked first, if installed: the solver begins with the best of their plans.
HINTS = ("flexible", "one_pass", "wukong", "heft")
# Planners asked if nothing was proven; they take longer.
RIVALS = ("best",)
# In DAGs of at most so many tasks, each may have a worker: fewer could exclude the best plan.
SMALL = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class Exact:
    """Searches all plans.

    limit_s: time limit of the solver in its deterministic seconds, which are about as long as real
    ones on an idle core. max_tasks: larger DAGs are refused. workers: workers at most. None takes
    the cap of the pool. Without a cap it is one worker per task, but for more than 14 tasks 1.3
    times the width of the DAG.
    """

    name: ClassVar[str] = "exact"

    limit_s: float = 60.0
    max_tasks: int = 40
    workers: int | None = None

    def __post_init__(self) -> None:
        """Raises ConfigError for impossible settings."""
        if not self.limit_s > 0:
            raise ConfigError(f"Exact(limit_s={self.limit_s!r}): must be more than 0 s.")
        if self.max_tasks < 1:
            raise ConfigError(
                f"Exact(max_tasks={self.max_tasks!r}): at least 1 task must be allowed."
            )
        if self.workers is not None and self.workers < 1:
            raise ConfigError(
                f"Exact(workers={self.workers!r}): at least 1 worker;"
                " leave it out for the pool's cap."
            )

    def plan(self, problem: Problem) -> Plan:
        """Returns the best simulated plan; its notes say whether it is optimal.

        Raises PlanError for more than max_tasks tasks.
        """
        n = len(problem.dag)
        if n > self.max_tasks:
            raise PlanError(
                f"the planner 'exact' was asked for {n} tasks, more than its {self.max_tasks}: the"
                f" search would take too long. Take planner='best', or Exact(max_tasks={n}), whose"
                " search may stop without a proof."
            )
        solver, bound = ortools(), lower_bound(problem.dag, problem.costs, problem.pool)
        plan, makespan_s = _shortest(problem, plans_of(problem, HINTS))
        # The model counts time in fractions of the makespan, which must not be 0.
        if makespan_s <= 0:
            return replace(plan, planner=self.name, notes=("optimal",))

        model = Model(solver, problem, self._workers(problem), makespan_s)
        model.begin_with(plan)
        answer = model.solve(self.limit_s)
        plan, makespan_s = _shortest(problem, [plan, *answer.plans])
        # With failing attempts the model may take longer than the simulation, so that its bound
        # proves nothing.
        if answer.bound_s > bound.seconds and not problem.costs.failures:
            reason = f"of plans without copies of tasks, on at most {model.n_workers} workers"
            bound = Bound(answer.bound_s, reason)
        if gap(makespan_s, bound) > 2 * EXACT:
            plan, makespan_s = _shortest(problem, [plan, *plans_of(problem, RIVALS)])
        notes = (_verdict(problem, makespan_s, bound), answer.figures)
        return replace(plan, planner=self.name, notes=notes)

    def _workers(self, problem: Problem) -> int:
        """Returns the number of workers that the model has."""
        n, pool = len(problem.dag), problem.pool
        most = n
        if n > SMALL:
            most = math.ceil(MARGIN * width(problem.dag))
        if pool.cap is not None:
            # Warm containers exist even if there are more of them than the cap allows.
            warm = 0 if pool.eager else sum(pool.warm.values())
            most = max(pool.cap, warm)
        return min(n, most, self.workers or n)


def ortools() -> Any:
    """Returns the module of the solver. Raises ConfigError when it is not installed."""
    try:
        return importlib.import_module("ortools.sat.python.cp_model")
    except ImportError as error:
        raise ConfigError(
            "the planner 'exact' needs OR-tools, which is not installed here."
            " Install it: pip install 'dagnb[exact]', or take planner='best'."
        ) from error


def plans_of(problem: Problem, names: Iterable[str]) -> Iterator[Plan]:
    """Yields the plans of these planners that are installed and do not refuse the problem."""
    for name in names:
        try:
            yield registry.find("planner", name)().plan(problem)
        except (UnknownNameError, PlanError, ConfigError):
            continue


def _shortest(problem: Problem, plans: Iterable[Plan]) -> tuple[Plan, float]:
    """Returns the plan of the shortest simulated run, and its makespan.

    Ties go to the cheaper plan, then to the first.
    """
    simulated = [(outcome(plan, problem.costs, problem.pool), plan) for plan in plans]
    best, plan = min(simulated, key=lambda pair: score(pair[0]))
    return plan, best.makespan_s


def _verdict(problem: Problem, makespan_s: float, bound: Bound) -> str:
    # Both the known makespan and the bound are rounded to parts of EXACT.
    is_optimal = gap(makespan_s, bound) <= 2 * EXACT
    if not is_known(problem):
        return "optimal, if guessed durations hold" if is_optimal else "best found"
    bound_text = f"{bound.seconds:.6g} s"
    if is_optimal:
        return f"optimal: {bound_text} is the bound ({bound.reason})"
    return f"best found, bound {bound_text} ({bound.reason}): {certificate(makespan_s, bound)}"
