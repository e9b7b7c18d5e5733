"""The best plan that can be found in a given time: a portfolio, then local search.

    all planners -> simulate -> local search from the best two -> most robust of all -> certificate

No planner wins everywhere: each can be made at least twice as bad as another by choosing the DAG
(Coleman and Krishnamachari, "PISA: an adversarial approach to comparing task graph scheduling
algorithms", arXiv:2403.07120). So all of them make a plan, and the plan that is returned is at
least as good in simulation. The certificate is that of dagnb.planning.bounds.

If costs are uncertain, candidates are compared over scenarios, at the requested percentile. Then a
plan that leaves uncertain tasks floating often beats one that pins them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

from dagnb.errors import ConfigError, PlanError
from dagnb.planning.bounds import certificate, lower_bound
from dagnb.planning.evidence import is_known
from dagnb.planning.kept import with_kept_results
from dagnb.planning.plan import Plan
from dagnb.planning.planner import Planner, Problem
from dagnb.simulation.simulate import outcome
from dagnb_planners.cpop import Cpop
from dagnb_planners.dask_like import DaskLike
from dagnb_planners.flexible import Flexible
from dagnb_planners.heft import Heft
from dagnb_planners.heft_lookahead import HeftLookahead
from dagnb_planners.holding import unheld
from dagnb_planners.one_pass import OnePass
from dagnb_planners.peft import Peft
from dagnb_planners.search import Search
from dagnb_planners.sweep import makespan_at_percentile, simulated_score
from dagnb_planners.wukong import Wukong

# The default budget: this share of the makespan, between LEAST_S and MOST_S.
SHARE = 0.05
LEAST_S, MOST_S = 0.2, 3.0
# Number of the best plans from which variants are made.
FINALISTS = 2
# For each of these limits one variant leaves the tasks floating whose uncertainty is larger.
UNCERTAINTIES = (0.4, 0.8)
# DAGs with more tasks get plans of the quick planners only.
LARGE = 2_000
# `dask_like` looks at pairs of a task and an idle worker. With more pairs than these it would take
# longer than all the others together (16 s at 5,000 tasks without a cap), and is left out.
MOST_PAIRS = 4_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """Takes the best plan of all planners, and improves it.

    budget_s: approximate seconds of the search; None takes 5 % of the makespan, 0.2 to 3 s.
    """

    name: ClassVar[str] = "best"

    budget_s: float | None = None

    def __post_init__(self) -> None:
        """Raises ConfigError for impossible settings."""
        if self.budget_s is not None and not self.budget_s >= 0:
            raise ConfigError(
                f"Best(budget_s={self.budget_s!r}): must be 0 s or more;"
                " leave it out for 5 % of the run."
            )

    def plan(self, problem: Problem) -> Plan:
        """Returns the plan of the shortest simulated run, at the problem's percentile."""
        ranked = sorted(members(problem), key=partial(simulated_score, problem))
        bound = lower_bound(problem.dag, problem.costs, problem.pool)
        ranked.insert(0, self._improved(problem, ranked, bound.seconds))
        chosen = ranked[0]
        if not problem.costs.uncertainty.is_certain:
            chosen = most_robust(problem, ranked)
        note = f"from {chosen.planner}"
        if is_known(problem):
            makespan_s = outcome(chosen, problem.costs, problem.pool).makespan_s
            note += f"; {certificate(makespan_s, bound)}"
        return replace(chosen, planner=self.name, notes=(*chosen.notes, note))

    def _improved(self, problem: Problem, ranked: list[Plan], bound_s: float) -> Plan:
        """Returns the best of a local search from the best two.

        The first has half of the budget, the second what is left of it.
        """
        # The search moves steps from worker to worker, and floating steps have none.
        starts: list[Plan] = []
        for plan in ranked:
            is_pinned = any(step.worker for step in plan.steps)
            if is_pinned and len(starts) < 2:
                starts.append(plan)
        if not starts:
            return ranked[0]
        seconds = self.budget_s
        if seconds is None:
            makespan_s = outcome(ranked[0], problem.costs, problem.pool).makespan_s
            seconds = min(max(SHARE * makespan_s, LEAST_S), MOST_S)
        improved: list[Plan] = []
        for n_left, plan in zip(range(len(starts), 0, -1), starts, strict=True):
            search = Search(problem, plan)
            improved.append(search.run(seconds / n_left, bound_s))
            seconds = max(0.0, seconds - search.spent_s)
        return min([*improved, ranked[0]], key=partial(simulated_score, problem))


def members(problem: Problem) -> Iterator[Plan]:
    """Yields a plan of each planner of the portfolio that does not refuse the problem."""
    planners: list[Planner] = [Flexible(), OnePass(), Heft()]
    n_tasks, cap = len(problem.dag), problem.pool.cap
    if n_tasks * min(n_tasks, cap or n_tasks) <= MOST_PAIRS:
        planners.append(DaskLike())
    if n_tasks <= LARGE:
        planners += [Wukong(), Cpop(), Peft(), HeftLookahead()]
    for planner in planners:
        try:
            yield planner.plan(problem)
        except (PlanError, ConfigError):
            continue


def most_robust(problem: Problem, ranked: list[Plan]) -> Plan:
    """Returns the plan with the smallest makespan at the percentile; variants count, too."""
    plans = list(ranked)
    for plan in ranked[:FINALISTS]:
        plans += relaxed_variants(problem, plan)
        if any(terms.hold for terms in plan.workers.values()):
            plans.append(unheld(plan))

    return min(plans, key=partial(makespan_at_percentile, problem))


def relaxed_variants(problem: Problem, plan: Plan) -> Iterator[Plan]:
    """Yields the plan with uncertain steps floating, where that makes a difference."""
    before = plan.steps
    for limit in UNCERTAINTIES:
        steps = []
        for step in plan.steps:
            is_uncertain = problem.costs.uncertainty.of(step.task) > limit
            steps.append(replace(step, worker=None) if is_uncertain else step)
        if tuple(steps) != before:
            before = tuple(steps)
            yield with_kept_results(replace(plan, steps=before, workers={}))
