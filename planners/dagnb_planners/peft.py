"""PEFT: HEFT that looks ahead by a table of what is below each task at best.

Source: Arabnejad, Barbosa, "List scheduling algorithm for heterogeneous systems by an optimistic cost table", IEEE TPDS
25(3), 2014, doi:10.1109/TPDS.2013.57: the table (eq. 3), its mean as the order among ready tasks (eq. 6), a task goes
where its end plus its table entry is smallest (eq. 7).

    OCT(t, w) = max over downstream d of min over workers x of OCT(d, x) + busy(d) + (x is w ? 0 : fetch(t, d))

Here workers of equal resources are equally fast, so x is either w or any other, and staying is never worse: the entry
is the longest way below the task without the transfers that staying saves. Transfers remain where the resources of d
are others than those of t. So the entry is the same on every worker that may run the task and decides the order only;
that the way below it is too short where branches queue for a worker is the known weakness of PEFT on equal workers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dagnb.planning.plan import Plan
from dagnb.planning.planner import Problem
from dagnb_planners.cpop import ready_first
from dagnb_planners.heft import in_order
from dagnb_planners.placing import Placing
from dagnb_planners.ranks import RankPrices
from dagnb_planners.sweep import check_workers, swept


@dataclass(frozen=True, slots=True, kw_only=True)
class Peft:
    """n_workers: how many workers to plan for at most; None tries 1, 2, 4, ... and keeps the best by simulation."""

    name: ClassVar[str] = "peft"

    n_workers: int | None = None

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        check_workers("Peft", self.n_workers)

    def plan(self, problem: Problem) -> Plan:
        """Every step pinned. O(tasks log tasks + edges) a number of workers as a rule, and a simulation of a few."""
        prices = RankPrices(problem)
        order = ready_first(problem.dag, optimistic(prices))
        return swept(
            problem, self.name, lambda n: in_order(Placing(prices, n), order), self.n_workers
        )


def optimistic(prices: RankPrices) -> list[float]:
    """The table's entry of each task: seconds from its end to the end of the run, at best. O(tasks + edges)."""
    dag, entries = prices.dag, [0.0] * len(prices.dag)
    needs = [call.options.needs for call in dag.calls]
    for d in reversed(range(len(dag))):
        fetch_s = {u: seconds for seconds, u in prices.inputs[d]}
        for u in dag.calls[d].upstream:
            fetch = fetch_s.get(u, 0.0) if needs[u] != needs[d] else 0.0
            entries[u] = max(
                entries[u], entries[d] + prices.busy[d] + max(fetch, prices.outside_s[d])
            )
    return entries
