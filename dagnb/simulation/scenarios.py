"""Percentiles of a makespan, from simulations of several scenarios.

A simulation with all costs at their medians gives too short a makespan: a fan-in waits for the
slowest of its upstream tasks, and one of many is slower than its median nearly always.

A scenario is a set of costs as reality may turn out. Two sources of noise, both log-normal:

    shared     one factor for all tasks of a run, such as a slow day. The n scenarios take its
               quantiles (0.5/n, 1.5/n, ...), not draws: few scenarios cover the whole range.
    own        a factor for each task, drawn.

All plans are simulated with the same scenarios (common random numbers): otherwise the difference
between two plans would be mostly chance.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from itertools import repeat
from statistics import NormalDist

from dagnb.planning.plan import Forecast, Plan
from dagnb.planning.planner import Costs, LinearCost, Pool
from dagnb.simulation.simulate import outcome
from dagnb.simulation.simulated_run import layout_for

STEPS = 2_000
"""Simulated steps that a forecast may take by default: about 0.1 s."""
MOST = 16
"""Scenarios at most by default."""
_SCORE_90 = NormalDist().inv_cdf(0.9)


def scenarios(costs: Costs, n_tasks: int, n: int, seed: int = 0) -> Iterator[Costs]:
    """Returns n sets of costs, equally likely. Of one, the medians. O(n_tasks) each."""
    if n == 1 or costs.uncertainty.is_certain:
        yield from repeat(costs, n)
        return
    for number in range(n):
        shared = math.exp(costs.uncertainty.batch * NormalDist().inv_cdf((number + 0.5) / n))
        # Seeded by its number: the draws of a scenario do not depend on how many there are.
        yield _scenario(costs, n_tasks, shared, random.Random(f"{seed}/{number}"))


def _scenario(costs: Costs, n_tasks: int, shared: float, chance: random.Random) -> Costs:
    uncertainty = costs.uncertainty
    run_s = {}
    for task in range(n_tasks):
        own = math.exp(uncertainty.of(task) * chance.gauss(0.0, 1.0))
        run_s[task] = costs.run(task) * shared * own
    moving = math.exp(uncertainty.transfer * chance.gauss(0.0, 1.0))
    starting = math.exp(uncertainty.start * chance.gauss(0.0, 1.0))
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
    """Returns quantiles of the plan's makespan over its scenarios; see makespans."""
    return quantiles(makespans(plan, costs, pool, n), costs, known=known)


def quantiles(ordered: list[float], costs: Costs, *, known: float = 0.0) -> Forecast:
    """Returns P10, P50 and P90 of makespans, which are ascending.

    known: share of the predicted run time that rests on measurements or hints, 0 to 1.
    """
    p50 = quantile(ordered, 0.5)
    if len(ordered) == 1:
        # One simulation has no spread of its own; the shared factor is known to scale everything.
        reach = math.exp(_SCORE_90 * costs.uncertainty.batch)
        p10, p90 = p50 / reach, p50 * reach
    else:
        p10, p90 = quantile(ordered, 0.1), quantile(ordered, 0.9)
    return Forecast(p10_s=p10, p50_s=p50, p90_s=p90, n_scenarios=len(ordered), known=known)


def affordable(plan: Plan, costs: Costs) -> int:
    """Returns the number of scenarios for about STEPS simulated steps: 1 to MOST."""
    if costs.uncertainty.is_certain:
        return 1  # all scenarios would be equal
    return max(1, min(MOST, STEPS // len(plan.steps)))


def makespans(plan: Plan, costs: Costs, pool: Pool, n: int | None = None) -> list[float]:
    """Returns the makespan in each of n scenarios, ascending.

    n: None takes as many as are affordable; certain costs have one scenario whatever n is.
    """
    if n is None or costs.uncertainty.is_certain:
        n = affordable(plan, costs)
    layout = layout_for(plan, pool)
    drawn = scenarios(costs, len(plan.dag), n)
    return sorted(outcome(plan, scenario, pool, layout).makespan_s for scenario in drawn)


def quantile(ordered: list[float], p: float) -> float:
    """Returns the p-quantile of values that are ascending and equally likely.

    The k-th of n values is the quantile (k + 0.5) / n; between two of them the line is straight.
    """
    position = min(max(p * len(ordered) - 0.5, 0.0), len(ordered) - 1.0)
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)
