"""The number of workers: a list scheduler is tried with 1, 2, 4, ... and the simulator decides.

    schedules (estimated times)  ->  candidates close to the best  ->  simulated  ->  best plan
      ->  simulated once more, with workers that hold their order  ->  the shorter one

Two groups of schedules are not simulated: those whose own estimate is far behind the best, and
those with too few workers for the work there is. Large DAGs are not simulated with held orders.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

from dagnb.errors import ConfigError
from dagnb.graph.shape import width
from dagnb.planning.plan import Plan
from dagnb.planning.planner import Problem
from dagnb.simulation.scenarios import makespans, quantile
from dagnb.simulation.simulate import Outcome, outcome
from dagnb_planners.holding import held
from dagnb_planners.placing import Placing
from dagnb_planners.ranks import RankPrices

# Tasks of several levels overlap, so a few more workers than the widest level has tasks may pay.
MARGIN = 1.3
# Estimates are about 2 % off, seldom more than 15 %. A schedule is no candidate if its estimate is
# more than this factor above the best simulated makespan.
TRUST = 1.25
# Of DAGs with more than LARGE tasks the best FEW by estimate are simulated, if they are within a
# factor of CLOSE; a single candidate is not simulated at all.
LARGE, FEW, CLOSE = 1_000, 3, 1.05


def counts(problem: Problem) -> Iterator[int]:
    """Yields 1, 2, 4, ... up to the most that may pay: 1.3 times the width, or the cap."""
    most = min(max(1, round(MARGIN * width(problem.dag))), len(problem.dag))
    if problem.pool.cap is not None:
        most = min(most, problem.pool.cap)
    n = 1
    while n < most:
        yield n
        n *= 2
    yield most


def score(result: Outcome) -> tuple[float, float]:
    """Returns the sort key of a simulated run: the makespan, then the cost."""
    return result.makespan_s, result.gb_s


def simulated_score(problem: Problem, plan: Plan) -> tuple[float, float]:
    """Returns the sort key of a plan: makespan and cost of its simulated run."""
    return score(outcome(plan, problem.costs, problem.pool))


def makespan_at_percentile(problem: Problem, plan: Plan) -> float:
    """Returns the makespan over scenarios, at the problem's percentile, seconds."""
    return quantile(makespans(plan, problem.costs, problem.pool), problem.percentile)


def check_workers(planner: str, n_workers: int | None) -> None:
    """Raises ConfigError for an impossible number of workers."""
    if n_workers is not None and n_workers < 1:
        raise ConfigError(
            f"{planner}(n_workers={n_workers}): at least 1 worker; leave it out to have it chosen."
        )


def swept(
    problem: Problem,
    planner: str,
    place: Callable[[int], Placing],
    n_workers: int | None,
) -> Plan:
    """Returns the plan with n_workers; None: with the best number of workers.

    place: number of workers at most -> schedule.
    """
    if n_workers is not None:
        plan = place(n_workers).plan(planner)
    else:
        plan = best_of(problem, planner, list(schedules(problem, place)))
    return plan if len(problem.dag) > LARGE else held_if_shorter(problem, plan)


def held_if_shorter(problem: Problem, plan: Plan) -> Plan:
    """Returns the plan with orders held if its run is shorter then.

    Where costs are uncertain it must be shorter at the problem's percentile, too: a worker that
    holds waits in vain when a task takes longer than was thought.
    """
    holding = held(plan)
    if simulated_score(problem, holding)[0] >= simulated_score(problem, plan)[0]:
        return plan
    if problem.costs.uncertainty.is_certain:
        return holding
    return min(plan, holding, key=partial(makespan_at_percentile, problem))


def schedules(problem: Problem, place: Callable[[int], Placing]) -> Iterator[Placing]:
    """Yields schedules, with most workers first, without those that cannot be best."""
    work_s, soonest = sum(RankPrices(problem).busy), math.inf
    # Many workers first: their makespan shows which smaller numbers are too small for the work.
    for n in sorted(counts(problem), reverse=True):
        if work_s / n <= TRUST * soonest:
            placing = place(n)
            soonest = min(soonest, placing.makespan_s)
            yield placing


def best_of(problem: Problem, planner: str, placings: list[Placing]) -> Plan:
    """Returns the plan of the shortest simulated run.

    Ties go to the cheaper plan, then to the one with fewer workers.
    """
    candidates = _candidates(problem, placings)
    if len(candidates) == 1:
        return candidates[0].plan(planner)
    best: tuple[tuple[float, float], int, Plan] | None = None
    for placing in candidates:
        # Candidates are ordered by their estimates: all that follow are even further behind.
        if best is not None and placing.makespan_s > TRUST * best[0][0]:
            break
        plan = placing.plan(planner)
        tried = (simulated_score(problem, plan), len(placing.workers), plan)
        if best is None or tried[:2] < best[:2]:
            best = tried
    assert best is not None  # counts() gives at least one
    return best[2]


def _candidates(problem: Problem, placings: list[Placing]) -> list[Placing]:
    """Returns the schedules that may be best, ordered by estimate, then by number of workers.

    Equal schedules are listed once.
    """
    different: dict[tuple[int, ...], Placing] = {}
    for placing in sorted(placings, key=lambda each: (each.makespan_s, len(each.workers))):
        different.setdefault(tuple(placing.number), placing)
    ordered = list(different.values())
    if len(problem.dag) <= LARGE:
        return ordered
    limit_s = CLOSE * ordered[0].makespan_s
    return [placing for placing in ordered[:FEW] if placing.makespan_s <= limit_s]
