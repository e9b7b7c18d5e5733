"""Local search on the simulator: what made the run as long as it is, is moved.

A candidate is an assignment of steps to workers and an order. It is simulated; the chain of steps that ends last is
walked back, each step begun no sooner because of an input, a busy worker, or a worker's start; a move is chosen by that
cause, and kept if the run does not get longer. Chance is seeded: equal problems give equal plans.

Source: the move-by-cause idea follows the critical-path neighbourhoods of job-shop search, van Laarhoven, Aarts,
Lenstra 1992, doi:10.1287/opre.40.1.113.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from dagnb.planning.plan import Plan
from dagnb.planning.planner import Problem
from dagnb.simulation.simulate import outcome_of, play
from dagnb.simulation.simulated_run import layout_for
from dagnb.trace.span import Phase

_BUSY = frozenset(
    {Phase.FETCH, Phase.LOAD, Phase.RUN, Phase.DUMP, Phase.STORE, Phase.COMMIT, Phase.PROGRAM}
)
_SLIP = 1e-9

Score = tuple[float, float, float]
"""(makespan, mean end of the steps, cost): what is compared, smaller is better"""


@dataclass(frozen=True, slots=True)
class Candidate:
    """workers: of each step, None for floating. order: steps, who goes first first."""

    workers: tuple[str | None, ...]
    order: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Lived:
    """How a candidate came out. begin, end: of each step on its worker. before: the step its worker did just before."""

    score: Score
    begin: Sequence[float]
    end: Sequence[float]
    before: Sequence[int]
    staffed: Sequence[str]


class Search:
    """Improves one plan of a problem without copies of tasks."""

    def __init__(self, problem: Problem, plan: Plan, seed: int = 0) -> None:
        """Simulates the plan once."""
        self.problem, self.plan = problem, plan
        self.chance = random.Random(seed)
        self.upstream = [step.upstream for step in plan.steps]
        order = sorted(range(len(plan.steps)), key=lambda step: (plan.steps[step].priority, step))
        self.best = Candidate(tuple(step.worker for step in plan.steps), tuple(order))
        self.lived = self.live(self.best)
        self.fresh = 0

    def run(self, evaluations: int, enough_s: float = 0.0) -> Plan:
        """Try so many moves, fewer when the makespan is down to enough_s; the best plan met."""
        for _ in range(evaluations):
            if self.lived.score[0] <= enough_s * (1 + _SLIP):
                break
            tried = self.moved()
            if tried is None:
                break
            lived = self.live(tried)
            if lived.score <= self.lived.score:
                self.best, self.lived = tried, lived
        return self.as_plan(self.best)

    def as_plan(self, candidate: Candidate) -> Plan:
        """The candidate as a plan, workers named w0, w1, ... in the order of their first step."""
        turn = {step: number for number, step in enumerate(candidate.order)}
        names: dict[str, str] = {}
        for step in candidate.order:
            worker = candidate.workers[step]
            if worker is not None:
                names.setdefault(worker, f"w{len(names)}")
        steps = tuple(
            replace(step, worker=names[worker] if worker is not None else None, priority=turn[i])
            for i, (step, worker) in enumerate(zip(self.plan.steps, candidate.workers, strict=True))
        )
        return replace(self.plan, steps=steps, workers={})

    def live(self, candidate: Candidate) -> Lived:
        """Simulate it."""
        plan = self.as_plan(candidate)
        simulated = play(
            plan, self.problem.costs, self.problem.pool, layout_for(plan, self.problem.pool)
        )
        n = len(plan.steps)
        begin, end, staffed = [float("inf")] * n, [0.0] * n, [""] * n
        for task, worker, phase, begin_s, end_s, *_ in simulated.rows:
            if task >= 0 and phase in _BUSY:
                begin[task] = min(begin[task], begin_s)
                end[task] = max(end[task], end_s)
                staffed[task] = worker
        before, last = [-1] * n, dict[str, int]()
        for step in sorted(range(n), key=begin.__getitem__):
            before[step] = last.get(staffed[step], -1)
            last[staffed[step]] = step
        result = outcome_of(simulated)
        return Lived((result.makespan_s, sum(end) / n, result.gb_s), begin, end, before, staffed)

    def path(self) -> list[int]:
        """Steps from the last to end back to the first, each begun no sooner because of the next."""
        lived = self.lived
        here = max(self.plan.sinks, key=lambda sink: (lived.end[sink], sink))
        found = [here]
        while True:
            causes = [
                *self.upstream[here],
                *((lived.before[here],) if lived.before[here] >= 0 else ()),
            ]
            if not causes:
                return found
            here = max(causes, key=lambda step: (lived.end[step], step))
            found.append(here)

    def moved(self) -> Candidate | None:
        """A neighbour: one step of the critical path, or one in its way, goes elsewhere. None: there is no move."""
        path = self.path()
        for _ in range(8):
            step = self.chance.choice(path)
            blocker = self.lived.before[step]
            is_blocked = blocker >= 0 and all(
                self.lived.end[u] <= self.lived.end[blocker] for u in self.upstream[step]
            )
            if is_blocked and self.chance.random() < 0.4:
                if self.chance.random() < 0.5 and blocker not in self.upstream[step]:
                    return self.swapped(step, blocker)
                step = blocker
            target = self.target(step)
            if target is not None:
                return self.placed(step, target)
        return None

    def target(self, step: int) -> str | None:
        """Another worker for a step: where an input is, where a reader is, any of its kind, or a fresh one."""
        needs = self.plan.steps[step].resources
        draw = self.chance.random()
        around: Sequence[int] = (
            self.upstream[step]
            if draw < 0.45
            else self.plan.downstream[step]
            if draw < 0.65
            else ()
        )
        choices = [
            w for s in around if (w := self.best.workers[s]) is not None and self.fits(s, needs)
        ]
        if not choices and draw < 0.85:
            alike = (
                w for s, w in enumerate(self.best.workers) if w is not None and self.fits(s, needs)
            )
            choices = list(dict.fromkeys(alike))
        elif draw >= 0.85 and self.may_grow():
            self.fresh += 1
            choices = [f"+{self.fresh}"]
        choices = [worker for worker in choices if worker != self.best.workers[step]]
        return self.chance.choice(choices) if choices else None

    def fits(self, step: int, needs: object) -> bool:
        """Whether a step has these resources, so that its worker may take others of them."""
        return self.plan.steps[step].resources == needs

    def may_grow(self) -> bool:
        """Whether one more worker may be named."""
        cap = self.problem.pool.cap
        return (
            cap is None or len({worker for worker in self.best.workers if worker is not None}) < cap
        )

    def placed(self, step: int, worker: str) -> Candidate:
        """The step on that worker; the order as things began last."""
        workers = list(self.best.workers)
        workers[step] = worker
        return Candidate(tuple(workers), self.ordered())

    def swapped(self, step: int, blocker: int) -> Candidate:
        """The step before what was in its way."""
        order = list(self.best.order)
        a, b = order.index(step), order.index(blocker)
        if a < b:
            return Candidate(self.best.workers, self.ordered())
        order.insert(b, order.pop(a))
        return Candidate(self.best.workers, tuple(order))

    def ordered(self) -> tuple[int, ...]:
        """Steps in the order in which they began."""
        return tuple(sorted(self.best.order, key=lambda step: self.lived.begin[step]))
