"""HEFT: the task farthest from the end is placed first, each on the worker where it ends first.

Source: Topcuoglu, Hariri, Wu, "Performance-effective and low-complexity task scheduling for
heterogeneous computing", IEEE TPDS 13(3), 2002, doi:10.1109/71.993206: upward rank (eq. 8),
insertion-based earliest finish time (eq. 5, 6).
The cost model is dagnb's own: workers are started when they are first needed, values go through the
store, and a worker need not fetch what it holds. Tasks of equal rank keep topological order.
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
    """Pins every step to the worker where it ends first.

    n_workers: workers at most; None tries 1, 2, 4, ... in the simulator and keeps the best.
    """

    name: ClassVar[str] = "heft"

    n_workers: int | None = None

    def __post_init__(self) -> None:
        """Raises ConfigError for impossible settings."""
        check_workers("Heft", self.n_workers)

    def plan(self, problem: Problem) -> Plan:
        """Returns a plan with every step pinned.

        Usually O(tasks log tasks + edges) for each number of workers, plus a few simulations.
        """
        prices = RankPrices(problem)
        order = by_rank(upward(prices))

        def place(n: int) -> Placing:
            return in_order(Placing(prices, n), order)

        return swept(problem, self.name, place, self.n_workers)


def by_rank(ranks: Sequence[float]) -> list[int]:
    """Returns tasks by rank, the largest first; ties keep the order of the DAG."""
    # A task without cost has the rank of its downstream task; the DAG's order puts it before that.
    return sorted(range(len(ranks)), key=lambda task: (-ranks[task], task))


def in_order(placing: Placing, order: Sequence[int]) -> Placing:
    """Puts each of these tasks on the worker where it ends first. Returns the schedule."""
    for task in order:
        placing.put(task, placing.best(task))
    return placing
