"""Percentiles of a makespan by simulating scenarios: the maximum over fan-ins makes a plan of medians too short.

All plans meet the same scenarios (common random numbers), so that differences between plans are not chance. What the
tasks of a run share (a slow day) is one factor a scenario, spread evenly over its quantiles; what is a task's own is
drawn.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from statistics import NormalDist

from dagnb.planning.costs import Costs, LinearCost
from dagnb.planning.forecast import Forecast
from dagnb.planning.plan import Plan
from dagnb.planning.planner import Pool
from dagnb.simulation.simulate import outcome
from dagnb.simulation.universe import layout_for

STEPS = 2_000
"""simulated steps that a forecast may cost by default: about 0.1 s"""
MOST = 16
_SCORE_90 = NormalDist().inv_cdf(0.9)


def scenarios(costs: Costs, n_tasks: int, n: int, seed: int = 0) -> Iterator[Costs]:
    """n price lists as reality may turn out, equally likely. n 1 is the median one. O(n_tasks) each."""
    if n == 1 or costs.uncertainty.is_certain:
        for _ in range(n):
            yield costs
        return
    for number in range(n):
        shared = math.exp(costs.uncertainty.batch * NormalDist().inv_cdf((number + 0.5) / n))
        yield _drawn(costs, n_tasks, shared, random.Random(f"{seed}/{number}"))


def _drawn(costs: Costs, n_tasks: int, shared: float, chance: random.Random) -> Costs:
    doubt = costs.uncertainty
    run_s = {
        task: costs.run(task) * shared * math.exp(doubt.of(task) * chance.gauss(0.0, 1.0))
        for task in range(n_tasks)
    }
    moving = math.exp(doubt.transfer * chance.gauss(0.0, 1.0))
    starting = math.exp(doubt.start * chance.gauss(0.0, 1.0))
    return costs.with_(
        run_s=run_s,
        fetch=LinearCost(costs.fetch.base_s * moving, costs.fetch.s_per_byte * moving),
        store=LinearCost(costs.store.base_s * moving, costs.store.s_per_byte * moving),
        cold=costs.cold.times(starting),
        warm=costs.warm.times(starting),
        starts={key: start.times(starting) for key, start in costs.starts.items()},
    )


def forecast(
    plan: Plan, costs: Costs, pool: Pool, n: int | None = None, *, known: float = 0.0
) -> Forecast:
    """Quantiles of the plan's makespan over its scenarios: see makespans."""
    return quantiles(makespans(plan, costs, pool, n), costs, known=known)


def quantiles(found: list[float], costs: Costs, *, known: float = 0.0) -> Forecast:
    """Of makespans, ascending. Of one they are itself and what the shared factor alone does to it."""
    if len(found) == 1:
        reach = math.exp(_SCORE_90 * costs.uncertainty.batch)
        p10, p50, p90 = found[0] / reach, found[0], found[0] * reach
    else:
        p10, p50, p90 = (quantile(found, p) for p in (0.1, 0.5, 0.9))
    return Forecast(p10_s=p10, p50_s=p50, p90_s=p90, n_scenarios=len(found), known=known)


def affordable(plan: Plan, costs: Costs) -> int:
    """How many scenarios STEPS allow, 1 to MOST; 1 where nothing is in doubt."""
    return 1 if costs.uncertainty.is_certain else max(1, min(MOST, STEPS // len(plan.steps)))


def makespans(plan: Plan, costs: Costs, pool: Pool, n: int | None = None) -> list[float]:
    """In each of n scenarios, ascending; None takes as many as are affordable; 1 where nothing is in doubt."""
    n = affordable(plan, costs) if n is None else n
    drawn = scenarios(costs, len(plan.dag), 1 if costs.uncertainty.is_certain else n)
    layout = layout_for(plan, pool)
    return sorted(outcome(plan, priced, pool, layout).makespan_s for priced in drawn)


def quantile(ordered: list[float], p: float) -> float:
    """Of n values, ascending and equally likely: linear between the middles of their shares, (k + 0.5) / n."""
    at = min(max(p * len(ordered) - 0.5, 0.0), len(ordered) - 1.0)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)
