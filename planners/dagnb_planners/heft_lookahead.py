"""HEFT with a look ahead: a task goes where the worst of its downstream tasks would end first, not where it does.

Source: Bittencourt, Sakellariou, Madeira, "DAG scheduling using a lookahead variant of the heterogeneous earliest
finish time algorithm", PDP 2010, doi:10.1109/PDP.2010.56, the variant that minimises the largest earliest finish time
of the downstream tasks (section 4).

As published it costs workers x downstream as much as HEFT. Here it looks only where the answer can differ, so that
5,000 tasks take seconds: at the CHILDREN downstream tasks of the largest rank, at the OFFERS best offers for a task (of
workers that hold equally much of its inputs the one that could begin first), and at the workers that have other inputs
of those downstream tasks. What the trial of a task costs a downstream task is followed on the task's own worker;
elsewhere downstream tasks do not get in each other's way. An upstream task of theirs that has no place yet is left out.
Numbers of workers are the TRIED that suit HEFT best.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from dagnb.planning.plan import Plan
from dagnb.planning.planner import Problem
from dagnb_planners.heft import by_rank, in_order
from dagnb_planners.placing import Placement, Placing, PlannedWorker
from dagnb_planners.ranks import RankPrices, upward
from dagnb_planners.sweep import best_of, check_workers, schedules

OFFERS = 4
CHILDREN = 3
TRIED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class HeftLookahead:
    """n_workers: how many workers to plan for at most; None takes those numbers that suit HEFT, best by simulation."""

    name: ClassVar[str] = "heft_lookahead"

    n_workers: int | None = None

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        check_workers("HeftLookahead", self.n_workers)

    def plan(self, problem: Problem) -> Plan:
        """Every step pinned. HEFT's cost, and OFFERS x CHILDREN times its placing."""
        prices = RankPrices(problem)
        ranks = upward(prices)
        order = by_rank(ranks)
        children = [
            heapq.nlargest(CHILDREN, below, key=lambda d: (ranks[d], -d))
            for below in problem.dag.downstream
        ]

        def place(n: int) -> Placing:
            placing = Placing(prices, n)
            known = [0.0] * len(order)
            for task in order:
                placing.put(task, foreseen(placing, task, children[task], known))
                for child in problem.dag.downstream[task]:
                    known[child] = max(known[child], placing.end[task])
            return placing

        if self.n_workers is not None:
            return place(self.n_workers).plan(self.name)
        plain = schedules(problem, lambda n: in_order(Placing(prices, n), order))
        suited = sorted(plain, key=lambda placing: (placing.makespan_s, placing.n_workers))[:TRIED]
        return best_of(problem, self.name, [place(placing.n_workers) for placing in suited])


def foreseen(placing: Placing, task: int, children: list[int], known: list[float]) -> Placement:
    """The offer after which the worst of these ends first; of equal ones the earliest end, then the first worker.

    known: of each task, when its inputs that have a place are there.
    """
    ready = placing.ready(task)
    offers = heapq.nsmallest(OFFERS, placing.leading(task, ready), key=Placement.end_then_number)
    if not children:
        return offers[0]
    seen = {offer.bench.number for offer in offers if offer.bench is not None}
    offers += [
        placing.offer(task, ready, bench)
        for bench in beside(placing, task, children)
        if bench.number not in seen
    ]
    if len(offers) == 1:
        return offers[0]
    return min(
        offers,
        key=lambda offer: (
            worst_end(placing, task, offer, children, known),
            offer.end_then_number(),
        ),
    )


def beside(placing: Placing, task: int, children: list[int]) -> Iterable[PlannedWorker]:
    """Workers, each once, with the largest input that each of the downstream tasks has from somewhere else so far."""
    found: dict[int, PlannedWorker] = {}
    for child in children:
        others = (placing.worker[u] for _, u in placing.prices.inputs[child] if u != task)
        number = next((number for number in others if number >= 0), None)
        if number is not None and placing.benches[number].resources == placing.needs[task]:
            found[number] = placing.benches[number]
    return found.values()


def worst_end(
    placing: Placing, task: int, offer: Placement, children: list[int], known: list[float]
) -> float:
    """The last end of the downstream tasks if the task went there, each where it would end first."""
    prices, worst, free = placing.prices, offer.end, offer.end
    at_hand = {task, *prices.kept[task], *(offer.bench.at_hand if offer.bench else ())}
    for child in children:
        ready = max(offer.end, known[child])
        away = min(there.end for there in placing.leading(child, ready))
        if placing.needs[child] == placing.needs[task]:
            fetch = next((seconds for seconds, u in prices.inputs[child] if u not in at_hand), 0.0)
            here = max(free, ready) + max(fetch, prices.outside_s[child]) + prices.busy[child]
            if here <= away:
                free = away = here
        worst = max(worst, away)
    return worst
