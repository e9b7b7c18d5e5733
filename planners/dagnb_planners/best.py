"""The best plan that can be found in a given time: a portfolio, then local search, all judged by the simulator.

No planner wins everywhere: each can be made at least twice as bad as another by choosing the DAG (Coleman and
Krishnamachari, "PISA: an adversarial approach to comparing task graph scheduling algorithms", arXiv:2403.07120). So all
are asked, and none of them can be better than what is returned. The certificate is that of dagnb.planning.bounds.

Under doubt candidates are compared over scenarios, at the percentile that was asked for; there a plan that leaves
uncertain tasks floating often beats one that pins them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from dagnb.errors import ConfigError, PlanError
from dagnb.planning.bounds import certificate, lower_bound
from dagnb.planning.plan import Plan
from dagnb.planning.planner import Planner, Problem
from dagnb.simulation.scenarios import makespans, quantile
from dagnb.simulation.simulate import outcome
from dagnb_planners.cpop import Cpop
from dagnb_planners.dask_like import DaskLike
from dagnb_planners.flexible import Flexible
from dagnb_planners.heft import Heft
from dagnb_planners.heft_lookahead import HeftLookahead
from dagnb_planners.one_pass import OnePass
from dagnb_planners.peft import Peft
from dagnb_planners.search import Search
from dagnb_planners.sweep import score
from dagnb_planners.wukong import Wukong

STEP_S = 150e-6
"""what one step of a candidate takes to simulate and to look at: turns seconds of budget into evaluations, clockless"""
SHARE = 0.05
LEAST_S, MOST_S = 0.2, 3.0
FINALISTS = 2
DOUBTS = (0.4, 0.8)
"""tasks whose own doubt is larger are left floating, in a variant each"""
LARGE = 2_000
"""beyond so many tasks only the quick planners are asked"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """budget_s: about how long the search may take; None takes 5 % of the makespan, 0.2 to 3 s."""

    name: ClassVar[str] = "best"

    budget_s: float | None = None

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        if self.budget_s is not None and not self.budget_s >= 0:
            raise ConfigError(
                f"Best(budget_s={self.budget_s!r}): must be 0 s or more; leave it out for 5 % of the run."
            )

    def plan(self, problem: Problem) -> Plan:
        """The plan of the shortest simulated run, at the percentile asked for."""
        ranked = sorted(
            members(problem), key=lambda plan: score(outcome(plan, problem.costs, problem.pool))
        )
        bound = lower_bound(problem.dag, problem.costs, problem.pool)
        ranked.insert(0, self._improved(problem, ranked, bound.seconds))
        chosen = ranked[0] if problem.costs.uncertainty.is_certain else most_robust(problem, ranked)
        makespan_s = outcome(chosen, problem.costs, problem.pool).makespan_s
        told = f"from {chosen.planner}; {certificate(makespan_s, bound)}"
        return replace(chosen, planner=self.name, notes=(*chosen.notes, told))

    def _improved(self, problem: Problem, ranked: list[Plan], bound_s: float) -> Plan:
        """Local search from the best two, half of the budget each; of equal ones the first."""
        best = outcome(ranked[0], problem.costs, problem.pool).makespan_s
        seconds = (
            min(max(SHARE * best, LEAST_S), MOST_S) if self.budget_s is None else self.budget_s
        )
        starts = [plan for plan in ranked if any(step.worker for step in plan.steps)][:2]
        if not starts:
            return ranked[0]
        evaluations = int(seconds / (STEP_S * len(problem.dag) * len(starts)))
        found = [Search(problem, plan).run(evaluations, bound_s) for plan in starts]
        return min(
            [*found, ranked[0]], key=lambda plan: score(outcome(plan, problem.costs, problem.pool))
        )


def members(problem: Problem) -> Iterator[Plan]:
    """A plan of each planner of the portfolio; one that refuses the problem is left out."""
    asked: list[Planner] = [Flexible(), OnePass(), DaskLike(), Heft()]
    if len(problem.dag) <= LARGE:
        asked += [Wukong(), Cpop(), Peft(), HeftLookahead()]
    for planner in asked:
        try:
            yield planner.plan(problem)
        except (PlanError, ConfigError):
            continue


def most_robust(problem: Problem, ranked: list[Plan]) -> Plan:
    """Of all plans, and of variants of the first few, the one of the smallest makespan at the percentile."""
    variants = [
        variant for plan in ranked[:FINALISTS] for variant in relaxed_variants(problem, plan)
    ]

    def at_percentile(plan: Plan) -> float:
        return quantile(makespans(plan, problem.costs, problem.pool), problem.percentile)

    return min([*ranked, *variants], key=at_percentile)


def relaxed_variants(problem: Problem, plan: Plan) -> Iterator[Plan]:
    """The plan with uncertain steps floating, where that makes a difference."""
    before = plan.steps
    for doubt in DOUBTS:
        steps = tuple(
            replace(step, worker=None) if problem.costs.uncertainty.of(step.task) > doubt else step
            for step in plan.steps
        )
        if steps != before:
            before = steps
            yield replace(plan, steps=steps, workers={})
