"""The forecast of a plan before it runs: trace, percentiles, cost, distance from the bound."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from dagnb.graph.brief import brief
from dagnb.planning.bounds import Bound, lower_bound
from dagnb.planning.evidence import is_known, known_share, unknown_functions
from dagnb.planning.plan import Forecast, Plan
from dagnb.planning.planner import Problem
from dagnb.simulation.scenarios import forecast
from dagnb.simulation.simulate import Outcome, outcome_of, play, trace_of
from dagnb.trace.trace import Trace


@dataclass(frozen=True)
class PlanForecast:
    """A plan and the problem it was made for. Each property is computed when first read."""

    plan: Plan
    problem: Problem

    __repr__ = brief

    @cached_property
    def trace(self) -> Trace:
        """The simulated run at median costs."""
        return self._simulated[0]

    @cached_property
    def unknown(self) -> tuple[str, ...]:
        """The functions without measurements and hints, in the order of the DAG."""
        return unknown_functions(self.problem.dag, self.problem.costs)

    @cached_property
    def known(self) -> float:
        """The share of predicted run time that rests on measurements or hints, 0 to 1."""
        return known_share(self.problem.costs, len(self.problem.dag))

    @cached_property
    def is_known(self) -> bool:
        """True if the forecast says something: guesses are a small part of it."""
        return is_known(self.problem)

    @cached_property
    def forecast(self) -> Forecast:
        """The percentiles of the makespan, seconds."""
        costs, pool = self.problem.costs, self.problem.pool
        return forecast(self.plan, costs, pool, known=self.known)

    @cached_property
    def outcome(self) -> Outcome:
        """The makespan, cost and starts at median costs."""
        return self._simulated[1]

    @cached_property
    def _simulated(self) -> tuple[Trace, Outcome]:
        """The results of one simulation, which gives both."""
        simulated = play(self.plan, self.problem.costs, self.problem.pool)
        return trace_of(simulated), outcome_of(simulated)

    @cached_property
    def bound(self) -> Bound:
        """The makespan that no plan of this problem can be below, at median costs."""
        return lower_bound(self.problem.dag, self.problem.costs, self.problem.pool)

    @property
    def gap(self) -> float:
        """The distance from the bound, relative to it: 0.1 for 10 %."""
        bound_s = self.bound.seconds
        if bound_s <= 0:
            return 0.0
        return self.outcome.makespan_s / bound_s - 1.0


def forecast_of(plan: Plan) -> PlanForecast | None:
    """Returns the forecast of a plan, the same at every call; None if its problem is unknown."""
    if plan.problem is None:
        return None
    # Stored with the plan itself: a dictionary beside it would keep plans alive.
    cache: dict[str, PlanForecast] = plan.__dict__
    return cache.setdefault("_forecast", PlanForecast(plan, plan.problem))
