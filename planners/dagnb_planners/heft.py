"""HEFT: the task farthest from the end goes first, each to the worker where it ends first.

Source: Topcuoglu, Hariri, Wu, "Performance-effective and low-complexity task scheduling for
heterogeneous computing", IEEE TPDS 13(3), 2002, doi:10.1109/71.993206: upward rank (eq. 8),
insertion-based earliest finish time (eq. 5, 6).
Here in dagnb's own cost model: workers are started when first needed, values go through the store,
and a worker need not fetch what it holds. Equal ranks go in topological order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from dagnb.planning.plan import Plan
from dagnb.planning.planner import Problem
from dagnb_planners.placing import Placing
from dagnb_planners.ranks import RankPrices, upward
from dagnb_planners.sweep import check_workers, swept


@dataclass(frozen=True, slots=True, kw_only=True)
class Heft:
    """Pins every step where it ends first.

    n_workers: to plan for at most; None tries 1, 2, 4, ... in the simulator and keeps the best.
    """

    name: ClassVar[str] = "heft"

    n_workers: int | None = None

    def __post_init__(self) -> None:
        """Raises ConfigError for impossible settings."""
        check_workers("Heft", self.n_workers)

    def plan(self, problem: Problem) -> Plan:
        """Returns a plan with every step pinned.

        As a rule O(tasks log tasks + edges) for each number of workers, and a simulation of a few.
        """
        prices = RankPrices(problem)
        order = by_rank(upward(prices))

        def place(n: int) -> Placing:
            return in_order(Placing(prices, n), order)

        return swept(problem, self.name, place, self.n_workers)


def by_rank(ranks: Sequence[float]) -> list[int]:
    """Returns tasks by rank, the largest first; of equal ones the first in the DAG."""
    # Tasks of no cost have the rank of their downstream: the DAG's order keeps upstream before it.
    return sorted(range(len(ranks)), key=lambda task: (-ranks[task], task))


def in_order(placing: Placing, order: Sequence[int]) -> Placing:
    """Returns the schedule after each of these tasks went where it ends first."""
    for task in order:
        placing.put(task, placing.best(task))
    return placing
