"""How many workers? A list scheduler is tried with 1, 2, 4, ... of them; the simulator says which plan is best."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dagnb.graph.shape import width
from dagnb.planning.plan import Plan
from dagnb.planning.planner import Problem
from dagnb.simulation.simulate import Outcome, outcome

MARGIN = 1.3
"""tasks of several levels overlap, so a few more workers than the widest level has tasks may pay"""


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


def best_of(problem: Problem, plans: Iterator[Plan]) -> Plan:
    """The plan of the shortest simulated run; of equal ones the cheaper, then the first. Precondition: there is one."""
    tried = [(score(outcome(plan, problem.costs, problem.pool)), plan) for plan in plans]
    return min(tried, key=lambda pair: pair[0])[1]


def score(result: Outcome) -> tuple[float, float]:
    """What is compared: the makespan, then the cost."""
    return result.makespan_s, result.gb_s


def swept(problem: Problem, place: Callable[[int], Plan], n_workers: int | None) -> Plan:
    """The plan with so many workers, or with the best number of them."""
    if n_workers is not None:
        return place(n_workers)
    return best_of(problem, (place(n) for n in counts(problem)))
