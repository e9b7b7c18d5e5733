"""How many workers? A list scheduler is tried with 1, 2, 4, ... of them; the simulator says which plan is best.

Not all of them are simulated: those that the schedules themselves, whose times are estimates, put far behind are not,
nor those with too few workers for the work there is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from dagnb.errors import ConfigError
from dagnb.graph.shape import width
from dagnb.planning.plan import Plan
from dagnb.planning.planner import Problem
from dagnb.simulation.simulate import Outcome, outcome
from dagnb_planners.placing import Placing
from dagnb_planners.ranks import RankPrices

MARGIN = 1.3
"""tasks of several levels overlap, so a few more workers than the widest level has tasks may pay"""
TRUST = 1.25
"""an estimate that is so many times the best simulated makespan is no candidate: the estimates are some 2 % off, seldom
more than 15 %"""
LARGE, FEW, CLOSE = 1_000, 3, 1.05
"""of larger DAGs the best few by estimate are simulated, if they are so close; a single candidate is not"""


def counts(problem: Problem) -> Iterator[int]:
    """1, 2, 4, ... up to the cap, or a third more than the DAG is wide; that number last."""
    most = min(max(1, round(MARGIN * width(problem.dag))), len(problem.dag))
    if problem.pool.cap is not None:
        most = min(most, problem.pool.cap)
    n = 1
    while n < most:
        yield n
        n *= 2
    yield most


def score(result: Outcome) -> tuple[float, float]:
    """What is compared: the makespan, then the cost."""
    return result.makespan_s, result.gb_s


def check_workers(planner: str, n_workers: int | None) -> None:
    """Raises ConfigError for a number of workers that means nothing."""
    if n_workers is not None and n_workers < 1:
        raise ConfigError(
            f"{planner}(n_workers={n_workers}): at least 1 worker; leave it out to have it chosen."
        )


def swept(
    problem: Problem, planner: str, place: Callable[[int], Placing], n_workers: int | None
) -> Plan:
    """The plan with so many workers, or with the best number of them."""
    if n_workers is not None:
        return place(n_workers).plan(planner)
    return best_of(problem, planner, list(schedules(problem, place)))


def schedules(problem: Problem, place: Callable[[int], Placing]) -> Iterator[Placing]:
    """Schedules with ever fewer workers, without those that cannot be best: there is more work than time for them."""
    work_s, soonest = sum(RankPrices(problem).busy), math.inf
    for n in sorted(counts(problem), reverse=True):
        if work_s / n <= TRUST * soonest:
            placing = place(n)
            soonest = min(soonest, placing.makespan_s)
            yield placing


def best_of(problem: Problem, planner: str, placings: list[Placing]) -> Plan:
    """The plan of the shortest simulated run; of equal ones the cheaper, then that of fewer workers."""
    candidates = _candidates(problem, placings)
    if len(candidates) == 1:
        return candidates[0].plan(planner)
    best: tuple[tuple[float, float], int, Plan] | None = None
    for placing in candidates:
        if best is not None and placing.makespan_s > TRUST * best[0][0]:
            break
        plan = placing.plan(planner)
        tried = (score(outcome(plan, problem.costs, problem.pool)), len(placing.benches), plan)
        best = tried if best is None or tried[:2] < best[:2] else best
    assert best is not None  # counts() gives at least one
    return best[2]


def _candidates(problem: Problem, placings: list[Placing]) -> list[Placing]:
    """Those that may be best, by estimate, of equal ones that of fewer workers; equal schedules once."""
    found: dict[tuple[int, ...], Placing] = {}
    for placing in sorted(placings, key=lambda placing: (placing.makespan_s, len(placing.benches))):
        found.setdefault(tuple(placing.worker), placing)
    ordered = list(found.values())
    if len(problem.dag) <= LARGE:
        return ordered
    return [
        placing for placing in ordered[:FEW] if placing.makespan_s <= CLOSE * ordered[0].makespan_s
    ]
