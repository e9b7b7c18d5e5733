"""What a plan comes to before it runs: its simulated trace, percentiles, cost, how far from the best it can be."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from dagnb.graph.brief import brief
from dagnb.planning.bounds import Bound, lower_bound
from dagnb.planning.costs import Costs
from dagnb.planning.forecast import Forecast
from dagnb.planning.plan import Plan
from dagnb.planning.planner import Problem
from dagnb.simulation.scenarios import affordable, forecast, quantiles
from dagnb.simulation.simulate import Outcome, outcome_of, play, trace_of
from dagnb.trace.trace import Trace


@dataclass(frozen=True)
class PlanForecast:
    """A plan and what it was made for; what is not asked for is not computed."""

    plan: Plan
    problem: Problem

    __repr__ = brief

    @cached_property
    def trace(self) -> Trace:
        """The run as it would be at median prices."""
        return self._played[0]

    @cached_property
    def forecast(self) -> Forecast:
        """Percentiles of the makespan."""
        costs, known = self.problem.costs, known_share(self.problem.costs, len(self.problem.dag))
        if affordable(self.plan, costs) == 1:
            return quantiles(
                [self.outcome.makespan_s], costs, known=known
            )  # the one scenario is the median one
        return forecast(self.plan, costs, self.problem.pool, known=known)

    @cached_property
    def outcome(self) -> Outcome:
        """Cost and starts at median prices."""
        return self._played[1]

    @cached_property
    def _played(self) -> tuple[Trace, Outcome]:
        """One simulation gives both."""
        simulated = play(self.plan, self.problem.costs, self.problem.pool)
        return trace_of(simulated), outcome_of(simulated)

    @cached_property
    def bound(self) -> Bound:
        """No plan of this problem can be shorter, at median prices."""
        return lower_bound(self.problem.dag, self.problem.costs, self.problem.pool)

    @property
    def gap(self) -> float:
        """How much longer than the bound, 0.1 for 10 %."""
        return self.outcome.makespan_s / self.bound.seconds - 1.0 if self.bound.seconds > 0 else 0.0


def forecast_of(plan: Plan) -> PlanForecast | None:
    """The outlook of a plan that knows what it was made for, the same at every call; None for others."""
    if plan.problem is None:
        return None
    kept: dict[str, PlanForecast] = plan.__dict__
    return kept.setdefault("_outlook", PlanForecast(plan, plan.problem))


def known_share(costs: Costs, n_tasks: int) -> float:
    """How much of the predicted run time rests on measurements or hints, 0 to 1."""
    total = sum(costs.run(task) for task in range(n_tasks))
    sure = sum(
        costs.run(task)
        for task in range(n_tasks)
        if not costs.basis.get(task, "unknown").startswith("unknown")
    )
    return sure / total if total > 0 else 0.0
