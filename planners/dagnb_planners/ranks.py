"""Ranks: how far a task is from the sinks and from the sources, by what everything costs.

Source: Topcuoglu, Hariri, Wu, "Performance-effective and low-complexity task scheduling for heterogeneous computing",
IEEE TPDS 2002, doi:10.1109/71.993206, equations 8 (upward) and 9 (downward).
"""

from __future__ import annotations

from dagnb.planning.planner import Problem


class RankPrices:
    """What each task costs its worker, seconds, by DAG position, whoever runs it.

    busy: unpickling, function, pickling, storing, handing over, letting go. outside_s: bringing inputs from outside.
    inputs: (seconds, upstream) of those that cost a transfer, the longest first: the first not at hand decides.
    kept: upstream whose whole value is at hand afterwards; a part of a value is none for other readers.
    """

    def __init__(self, problem: Problem) -> None:
        """O(tasks + edges)."""
        dag, costs = problem.dag, problem.costs
        self.problem, self.dag, self.costs = problem, dag, costs
        self.busy = [
            costs.loading(v, costs.arguments(dag, v))
            + sum(run_s for run_s, _ in costs.failures.get(v, ()))
            + costs.run(v)
            + costs.dumping(v)
            + costs.storing(v)
            + costs.commit_s
            + costs.releasing(v, costs.arguments(dag, v))
            for v in range(len(dag))
        ]
        self.outside = [costs.external_bytes.get(v, 0) for v in range(len(dag))]
        self.outside_s = [self.fetch(n, v) if n else 0.0 for v, n in enumerate(self.outside)]
        self.inputs = [self._transfers(v) for v in range(len(dag))]
        self.kept = [
            [u for _, u in inputs if costs.edge(u, v) >= costs.output(u)]
            for v, inputs in enumerate(self.inputs)
        ]

    def fetch(self, n_bytes: int, task: int) -> float:
        """Seconds until a value of this size is here."""
        return self.costs.fetching(task, [n_bytes])

    def _transfers(self, v: int) -> list[tuple[float, int]]:
        costs = self.costs
        sizes = [(costs.edge(u, v), u) for u in self.dag.calls[v].upstream]
        far = sorted((pair for pair in sizes if pair[0] > costs.inline_bytes), reverse=True)
        return [(self.fetch(n_bytes, v), u) for n_bytes, u in far]


def upward(prices: RankPrices) -> list[float]:
    """The longest way from the begin of each task to the end of the run, transfers included. O(tasks + edges)."""
    dag, ranks = prices.dag, [0.0] * len(prices.dag)
    carried = _carried(prices)
    for v in reversed(range(len(dag))):
        below = max((carried.get((v, d), 0.0) + ranks[d] for d in dag.downstream[v]), default=0.0)
        ranks[v] = prices.outside_s[v] + prices.busy[v] + below
    return ranks


def downward(prices: RankPrices) -> list[float]:
    """The longest way from the begin of the run to the begin of each task, transfers included. O(tasks + edges)."""
    dag, ranks = prices.dag, [0.0] * len(prices.dag)
    carried = _carried(prices)
    for v, call in enumerate(dag.calls):
        ranks[v] = max(
            (
                ranks[u] + prices.outside_s[u] + prices.busy[u] + carried.get((u, v), 0.0)
                for u in call.upstream
            ),
            default=0.0,
        )
    return ranks


def _carried(prices: RankPrices) -> dict[tuple[int, int], float]:
    """(u, v) -> seconds, of edges that cost a transfer"""
    return {(u, v): seconds for v, inputs in enumerate(prices.inputs) for seconds, u in inputs}
