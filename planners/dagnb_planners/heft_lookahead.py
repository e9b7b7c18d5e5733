"""HEFT with lookahead: a task goes to the worker where the latest downstream task ends first.

Source: Bittencourt, Sakellariou, Madeira, "DAG scheduling using a lookahead variant of the
heterogeneous earliest finish time algorithm", PDP 2010, doi:10.1109/PDP.2010.56, the variant that
minimises the largest earliest finish time of the downstream tasks (section 4).

The published algorithm costs workers x downstream tasks times as much as HEFT. This one looks only
where the answer can differ, so that 5,000 tasks take seconds:

    downstream tasks   the CHILDREN of largest rank
    placements         the PLACEMENTS best of the task (of workers that hold equally much of its
                       inputs, the one that could begin first), and the workers that hold other
                       inputs of those downstream tasks
    workers            the TRIED numbers of workers with which HEFT is best

Of the downstream tasks, only those on the task's own worker delay one another in a trial. Upstream
tasks that are not placed yet are left out.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from dagnb.planning.plan import Plan
from dagnb.planning.planner import Problem
from dagnb_planners.heft import by_rank, in_order
from dagnb_planners.placing import PlacementOption, Placing, PlannedWorker
from dagnb_planners.ranks import RankPrices, upward
from dagnb_planners.sweep import best_of, check_workers, schedules

PLACEMENTS = 4
CHILDREN = 3
TRIED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class HeftLookahead:
    """Pins every step to the worker where its downstream tasks would end first.

    n_workers: workers at most; None tries the numbers that suit HEFT, and keeps the best by
    simulation.
    """

    name: ClassVar[str] = "heft_lookahead"

    n_workers: int | None = None

    def __post_init__(self) -> None:
        """Raises ConfigError for impossible settings."""
        check_workers("HeftLookahead", self.n_workers)

    def plan(self, problem: Problem) -> Plan:
        """Returns a plan with every step pinned.

        Costs as much as HEFT, plus PLACEMENTS x CHILDREN times its placements.
        """
        prices = RankPrices(problem)
        ranks = upward(prices)
        order = by_rank(ranks)
        children = []
        for downstream in problem.dag.downstream:
            largest = heapq.nlargest(CHILDREN, downstream, key=lambda d: (ranks[d], -d))
            children.append(largest)

        def place(n: int) -> Placing:
            placing = Placing(prices, n)
            known = [0.0] * len(order)
            for task in order:
                placing.put(task, with_lookahead(placing, task, children[task], known))
                for child in problem.dag.downstream[task]:
                    known[child] = max(known[child], placing.end[task])
            return placing

        if self.n_workers is not None:
            return place(self.n_workers).plan(self.name)
        plain = schedules(problem, lambda n: in_order(Placing(prices, n), order))
        suited = sorted(plain, key=lambda placing: (placing.makespan_s, placing.n_workers))
        tried = [place(placing.n_workers) for placing in suited[:TRIED]]
        return best_of(problem, self.name, tried)


def with_lookahead(
    placing: Placing,
    task: int,
    children: list[int],
    known: list[float],
) -> PlacementOption:
    """Returns the placement after which the latest of the downstream tasks ends first.

    Ties go to the earliest end, then to the first worker.
    known: task -> seconds after submission at which its inputs that are placed already are there.
    """
    ready = placing.ready(task)
    candidates = placing.candidates(task, ready)
    nearby = heapq.nsmallest(PLACEMENTS, candidates, key=PlacementOption.end_then_number)
    if not children:
        return nearby[0]

    seen = {each.worker.number for each in nearby if each.worker is not None}
    for worker in workers_of_other_inputs(placing, task, children):
        if worker.number not in seen:
            nearby.append(placing.on_worker(task, ready, worker))
    # With a single choice the lookahead, which is the expensive part, changes nothing.
    if len(nearby) == 1:
        return nearby[0]

    def rank(placement: PlacementOption) -> tuple[float, tuple[float, float]]:
        worst = worst_end(placing, task, placement, children, known)
        return worst, placement.end_then_number()

    return min(nearby, key=rank)


def workers_of_other_inputs(
    placing: Placing,
    task: int,
    children: list[int],
) -> Iterable[PlannedWorker]:
    """Returns the workers, each once, of the largest other input of each downstream task."""
    workers: dict[int, PlannedWorker] = {}
    for child in children:
        for _, u in placing.prices.inputs[child]:
            number = placing.number[u]
            if u == task or number < 0:
                continue
            if placing.workers[number].resources == placing.needs[task]:
                workers[number] = placing.workers[number]
            break
    return workers.values()


def worst_end(
    placing: Placing,
    task: int,
    placement: PlacementOption,
    children: list[int],
    known: list[float],
) -> float:
    """Returns the latest end of the downstream tasks, each on the worker where it ends first.

    placement: the placement of the task that is tried.
    """
    prices, worst, free = placing.prices, placement.end, placement.end
    at_hand = {task, *prices.kept[task]}
    if placement.worker is not None:
        at_hand |= placement.worker.at_hand
    for child in children:
        ready = max(placement.end, known[child])
        end = min(each.end for each in placing.candidates(child, ready))
        # The other choice: the worker of the task itself, after it and earlier downstream tasks.
        if placing.needs[child] == placing.needs[task]:
            fetch = 0.0
            for seconds, u in prices.inputs[child]:
                if u not in at_hand:
                    fetch = seconds
                    break
            stay = max(free, ready) + max(fetch, prices.outside_s[child]) + prices.busy[child]
            if stay <= end:
                free = end = stay
        worst = max(worst, end)
    return worst
