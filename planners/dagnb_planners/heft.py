"""HEFT: the task that is farthest from the end goes first, each to the worker where it ends first.

Source: Topcuoglu, Hariri, Wu, "Performance-effective and low-complexity task scheduling for heterogeneous computing",
IEEE TPDS 13(3), 2002, doi:10.1109/71.993206: upward rank (eq. 8), insertion-based earliest finish time (eq. 5, 6).
Here in dagnb's own cost model: workers are started when first needed, values go through the store, what a worker holds
it need not fetch. Equal ranks go in topological order.
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
    """n_workers: how many workers to plan for at most; None tries 1, 2, 4, ... in the simulator and keeps the best."""

    name: ClassVar[str] = "heft"

    n_workers: int | None = None

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        check_workers("Heft", self.n_workers)

    def plan(self, problem: Problem) -> Plan:
        """Every step pinned. O(tasks log tasks + edges) a number of workers as a rule, and a simulation of a few."""
        prices = RankPrices(problem)
        order = by_rank(upward(prices))
        return swept(
            problem, self.name, lambda n: in_order(Placing(prices, n), order), self.n_workers
        )


def by_rank(ranks: Sequence[float]) -> list[int]:
    """Tasks, the largest rank first; of equal ones the first, so that upstream tasks go before in any case."""
    return sorted(range(len(ranks)), key=lambda task: (-ranks[task], task))


def in_order(placing: Placing, order: Sequence[int]) -> Placing:
    """The schedule after each of these tasks went where it ends first."""
    for task in order:
        placing.put(task, placing.best(task))
    return placing
