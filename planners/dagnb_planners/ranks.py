"""Ranks: the distance of each task from the sinks and from the sources, by costs.

    source ----------> task ----------> sink
           downward(task)   upward(task), the task included

Source: Topcuoglu, Hariri, Wu, "Performance-effective and low-complexity task scheduling for
heterogeneous computing", IEEE TPDS 2002, doi:10.1109/71.993206, equations 8 (upward) and 9
(downward).
"""

from __future__ import annotations

from dagnb.planning.planner import Problem


class RankPrices:
    """The seconds that each task costs any worker, by position in the DAG.

    needs: the resources of its decorator.
    busy: seconds to unpickle, run, pickle, store, hand over, and free the memory.
    outside_s: seconds to fetch inputs from outside the DAG.
    inputs: (seconds, upstream) of the inputs that need a transfer, the longest first. Transfers run
    at the same time, so the first input that the worker does not hold decides.
    kept: upstream tasks whose whole value the worker holds afterwards. A part of a value is of no
    use to another task.
    """

    def __init__(self, problem: Problem) -> None:
        """Computes all of them. O(tasks + edges)."""
        dag, costs = problem.dag, problem.costs
        self.problem, self.dag, self.costs = problem, dag, costs
        self.needs = [call.options.needs for call in dag.calls]
        self.busy: list[float] = []
        self.outside_s: list[float] = []
        self.inputs: list[list[tuple[float, int]]] = []
        self.kept: list[list[int]] = []
        for v, call in enumerate(dag.calls):
            arguments = costs.arguments(dag, v)
            busy = (
                costs.loading(v, arguments)
                # Attempts that are known to fail keep the worker busy, too.
                + sum(run_s for run_s, _ in costs.failures.get(v, ()))
                + costs.run(v)
                + costs.dumping(v)
                + costs.storing(v)
                + costs.commit_s
                + costs.releasing(v, arguments)
            )
            self.busy.append(busy)
            n_outside = costs.external_bytes.get(v, 0)
            outside_s = self.fetch(n_outside, v) if n_outside else 0.0
            self.outside_s.append(outside_s)

            sizes = sorted([(costs.edge(u, v), u) for u in call.upstream], reverse=True)
            inputs, kept = [], []
            for n_bytes, u in sizes:
                # Small values come with the hand-over, so they need no transfer.
                if n_bytes <= costs.inline_bytes:
                    break
                inputs.append((self.fetch(n_bytes, v), u))
                if n_bytes >= costs.output(u):
                    kept.append(u)
            self.inputs.append(inputs)
            self.kept.append(kept)

    def fetch(self, n_bytes: int, task: int) -> float:
        """Returns the seconds to fetch a value of this size."""
        return self.costs.fetching(task, [n_bytes])


def upward(prices: RankPrices) -> list[float]:
    """Returns the longest way from the begin of each task to the end. O(tasks + edges)."""
    dag, ranks = prices.dag, [0.0] * len(prices.dag)
    transfers = _transfers(prices)
    for v in reversed(range(len(dag))):
        below = 0.0
        for d in dag.downstream[v]:
            below = max(below, transfers.get((v, d), 0.0) + ranks[d])
        ranks[v] = prices.outside_s[v] + prices.busy[v] + below
    return ranks


def downward(prices: RankPrices) -> list[float]:
    """Returns the longest way from the begin of the run to that of each task. O(tasks + edges)."""
    dag, ranks = prices.dag, [0.0] * len(prices.dag)
    transfers = _transfers(prices)
    for v, call in enumerate(dag.calls):
        for u in call.upstream:
            way = ranks[u] + prices.outside_s[u] + prices.busy[u] + transfers.get((u, v), 0.0)
            ranks[v] = max(ranks[v], way)
    return ranks


def _transfers(prices: RankPrices) -> dict[tuple[int, int], float]:
    """Returns (u, v) -> seconds, of edges that need a transfer."""
    transfers = {}
    for v, inputs in enumerate(prices.inputs):
        for seconds, u in inputs:
            transfers[u, v] = seconds
    return transfers
