"""PEFT: HEFT with a table that holds, for each task, the best case of the tasks below it.

Source: Arabnejad, Barbosa, "List scheduling algorithm for heterogeneous systems by an optimistic
cost table", IEEE TPDS 25(3), 2014, doi:10.1109/TPDS.2013.57: the table (eq. 3), its mean as the
order among ready tasks (eq. 6), a task goes where its end plus its table entry is smallest (eq. 7).

    OCT(t, w) = max over downstream d of
                min over workers x of OCT(d, x) + busy(d) + (0 if x is w else fetch(t, d))

In dagnb's cost model workers of equal resources are equally fast. So x is either w or any other
worker, and x = w is never worse: the entry is the longest way below the task without the transfers
that w saves.
Transfers remain where d needs other resources than t. So the entry is the same on every worker that
may run the task, and decides the order only. Where branches wait for a worker, the estimate of the
way below a task is too short, which is the known weakness of PEFT on equal workers.
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
    """Pins every step to the worker where it ends first, in the order of the table.

    n_workers: workers at most; None tries 1, 2, 4, ... and keeps the best by simulation.
    """

    name: ClassVar[str] = "peft"

    n_workers: int | None = None

    def __post_init__(self) -> None:
        """Raises ConfigError for impossible settings."""
        check_workers("Peft", self.n_workers)

    def plan(self, problem: Problem) -> Plan:
        """Returns a plan with every step pinned.

        Usually O(tasks log tasks + edges) for each number of workers, plus a few simulations.
        """
        prices = RankPrices(problem)
        order = ready_first(problem.dag, optimistic(prices))

        def place(n: int) -> Placing:
            return in_order(Placing(prices, n), order)

        return swept(problem, self.name, place, self.n_workers)


def optimistic(prices: RankPrices) -> list[float]:
    """Returns the table: seconds from the end of each task to that of the run, at best.

    O(tasks + edges).
    """
    dag, entries = prices.dag, [0.0] * len(prices.dag)
    needs = prices.needs
    for d in reversed(range(len(dag))):
        fetch_s = {u: seconds for seconds, u in prices.inputs[d]}
        for u in dag.calls[d].upstream:
            # On one worker nothing is fetched; other resources are always another worker.
            fetch = fetch_s.get(u, 0.0) if needs[u] != needs[d] else 0.0
            below = entries[d] + prices.busy[d] + max(fetch, prices.outside_s[d])
            entries[u] = max(entries[u], below)
    return entries
