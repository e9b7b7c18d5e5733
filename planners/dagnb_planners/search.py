"""Local search on the simulator: it moves the steps that make the run long.

    candidate: the worker of each step, and an order
      -> simulate
      -> critical chain: walked back from the step that ends last
      -> one step of the chain, or the step that blocks it, goes to another worker or changes its
         turn, or their worker begins to hold its order
      -> the change is kept if the run does not become longer
      -> until the simulated runs have cost the budget

Each step of the chain could not begin sooner because of an input, a busy worker, or a worker's
start; the move is chosen by that cause. The random numbers have a fixed seed, so that equal
problems give equal plans. For the same reason no clock is read: a simulated run costs so many
microseconds for each span in it, which differs little between plans, pools and sizes.

Source: moves by cause follow the critical-path neighbourhoods of job-shop search, van Laarhoven,
Aarts, Lenstra 1992, doi:10.1287/opre.40.1.113.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from dagnb.planning.kept import with_kept_results
from dagnb.planning.plan import Plan, WorkerTerms
from dagnb.planning.planner import Problem
from dagnb.simulation.simulate import outcome_of, play
from dagnb.simulation.simulated_run import layout_for
from dagnb.trace.trace import ACTS, Phase
from dagnb_planners.placing import turns

_BUSY = frozenset((Phase.PROGRAM, *ACTS))
# Equal runs may differ by rounding.
_SLIP = 1e-9
# Steps of the chain that are tried before the search gives up: some have no other worker. With 8
# a search of a small DAG ended by chance after a quarter of its budget.
_DRAWS = 64
# Share of the moves at a worker that holds its order in which it ceases to.
_RELEASES = 0.1

# Seconds to simulate and compare a candidate, for each span of its run. Measured: 4.6 to 9.4 us, on
# DAGs of 11 to 5,000 tasks, in pools with and without a cap.
SPAN_S = 7e-6

# (makespan, mean end of the steps, cost): smaller is better.
Score = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A plan as it is searched.

    workers: of each step, None for floating. order: of the steps. holding: workers that hold it.
    """

    workers: tuple[str | None, ...]
    order: tuple[int, ...]
    holding: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class SimulatedCandidate:
    """The simulated run of a candidate.

    begin, end: of each step on its worker. before: the step its worker ran before, or -1.
    price_s: seconds that this simulation took, estimated.
    """

    score: Score
    price_s: float
    begin: Sequence[float]
    end: Sequence[float]
    before: Sequence[int]


class Search:
    """Improves one plan of a problem without copies of tasks.

    spent_s: estimated seconds of the simulations so far.
    """

    def __init__(self, problem: Problem, plan: Plan, seed: int = 0) -> None:
        """Simulates the plan once."""
        self.problem, self.plan = problem, plan
        self.chance = random.Random(seed)
        self.upstream = [step.upstream for step in plan.steps]
        order = sorted(range(len(plan.steps)), key=lambda step: (plan.steps[step].priority, step))
        holding = frozenset(name for name, terms in plan.workers.items() if terms.hold)
        self.best = Candidate(tuple(step.worker for step in plan.steps), tuple(order), holding)
        self.simulated = self.simulate(self.best)
        self.spent_s = self.simulated.price_s
        self.n_new = 0

    def run(self, budget_s: float, enough_s: float = 0.0) -> Plan:
        """Tries moves and returns the best plan.

        budget_s: of the simulated runs, the last of which may exceed it. enough_s: a lower bound of
        the makespan, at which the search ends.
        """
        while self.spent_s < budget_s and self.simulated.score[0] > enough_s * (1 + _SLIP):
            tried = self.moved()
            if tried is None:
                break
            simulated = self.simulate(tried)
            self.spent_s += simulated.price_s
            # Equal scores are accepted, too, so that the search does not stop on a plateau.
            if simulated.score <= self.simulated.score:
                self.best, self.simulated = tried, simulated
        return self.as_plan(self.best)

    def as_plan(self, candidate: Candidate) -> Plan:
        """Returns the candidate as a plan, workers named in the order of their first step.

        Orders are held only where every step comes behind what it reads: no others are sure not to
        wait for each other.
        """
        priorities = turns(candidate.order)
        names: dict[str | None, str | None] = {None: None}
        for step in candidate.order:
            names.setdefault(candidate.workers[step], f"w{len(names) - 1}")
        steps = []
        for i, worker in enumerate(candidate.workers):
            step_plan = replace(self.plan.steps[i], worker=names[worker], priority=priorities[i])
            steps.append(step_plan)
        terms: dict[str, WorkerTerms] = {}
        if candidate.holding and self.is_sound(priorities):
            for worker, name in names.items():
                if name is not None and worker in candidate.holding:
                    terms[name] = WorkerTerms(hold=True)
        return with_kept_results(replace(self.plan, steps=tuple(steps), workers=terms))

    def is_sound(self, priorities: Sequence[int]) -> bool:
        """Returns whether every step comes behind what it reads. O(edges)."""
        for step, upstream in enumerate(self.upstream):
            for u in upstream:
                if priorities[u] > priorities[step]:
                    return False
        return True

    def simulate(self, candidate: Candidate) -> SimulatedCandidate:
        """Returns the simulated run of the candidate."""
        plan = self.as_plan(candidate)
        layout = layout_for(plan, self.problem.pool)
        simulated = play(plan, self.problem.costs, self.problem.pool, layout)
        n = len(plan.steps)
        begin, end, worker_of = [float("inf")] * n, [0.0] * n, [""] * n
        # Rows instead of a trace: making a trace of them takes longer than the simulation.
        for step, worker, phase, begin_s, end_s, *_ in simulated.rows:
            if step >= 0 and phase in _BUSY:
                begin[step] = min(begin[step], begin_s)
                end[step] = max(end[step], end_s)
                worker_of[step] = worker

        before, last = [-1] * n, dict[str, int]()
        for step in sorted(range(n), key=begin.__getitem__):
            before[step] = last.get(worker_of[step], -1)
            last[worker_of[step]] = step
        result = outcome_of(simulated)
        # The mean end tells two runs of equal length apart, so that the search has a direction.
        score = (result.makespan_s, sum(end) / n, result.gb_s)
        price_s = SPAN_S * len(simulated.rows)
        return SimulatedCandidate(score, price_s, begin, end, before)

    def path(self) -> list[int]:
        """Returns the steps of the critical chain, from the last to end back to the first.

        Each of them could not begin sooner because of the next one in the list.
        """
        run = self.simulated
        step = max(self.plan.sinks, key=lambda sink: (run.end[sink], sink))
        path = [step]
        while True:
            causes = list(self.upstream[step])
            if run.before[step] >= 0:
                causes.append(run.before[step])
            if not causes:
                return path
            step = max(causes, key=lambda cause: (run.end[cause], cause))
            path.append(step)

    def moved(self) -> Candidate | None:
        """Returns a candidate that differs by one move; None if there is no move.

        One step of the critical chain, or the step that blocks it, goes to another worker, or the
        two change their turns, or their worker begins or ceases to hold its order.
        """
        path, run = self.path(), self.simulated
        for _ in range(_DRAWS):
            step = self.chance.choice(path)
            blocker = run.before[step]
            is_blocked = blocker >= 0
            for u in self.upstream[step]:
                is_blocked = is_blocked and run.end[u] <= run.end[blocker]
            if is_blocked and self.chance.random() < 0.4:
                if self.chance.random() < 0.5 and blocker not in self.upstream[step]:
                    return self.swapped(step, blocker)
                step = blocker
            worker = self.best.workers[step]
            if worker in self.best.holding and self.chance.random() < _RELEASES:
                return replace(self.best, holding=self.best.holding - {worker})
            target = self.target(step)
            if target is not None:
                return self.placed(step, target)
        return None

    def target(self, step: int) -> str | None:
        """Returns another worker for a step, None if there is none.

        With 45 % probability one that holds an input, 20 % one that runs a downstream step, 20 %
        any of the same resources, 15 % a new one. Where the first two give none, any is taken.
        """
        needs = self.plan.steps[step].resources
        draw = self.chance.random()
        around: Sequence[int] = ()
        if draw < 0.45:
            around = self.upstream[step]
        elif draw < 0.65:
            around = self.plan.downstream[step]

        choices = self.workers_of(around, needs)
        if not choices and draw < 0.85:
            choices = list(dict.fromkeys(self.workers_of(range(len(self.plan.steps)), needs)))
        elif draw >= 0.85 and self.may_add_worker():
            self.n_new += 1
            choices = [f"+{self.n_new}"]
        choices = [worker for worker in choices if worker != self.best.workers[step]]
        return self.chance.choice(choices) if choices else None

    def workers_of(self, steps: Sequence[int], needs: object) -> list[str]:
        """Returns the workers of these steps, of steps with these resources only."""
        workers = []
        for step in steps:
            worker = self.best.workers[step]
            if worker is not None and self.plan.steps[step].resources == needs:
                workers.append(worker)
        return workers

    def may_add_worker(self) -> bool:
        """Returns True if one more worker may be named."""
        cap = self.problem.pool.cap
        return cap is None or len(set(self.best.workers) - {None}) < cap

    def placed(self, step: int, worker: str) -> Candidate:
        """Returns the candidate with the step on that worker, ordered as the steps began."""
        workers = list(self.best.workers)
        workers[step] = worker
        return Candidate(tuple(workers), self.ordered(), self.best.holding)

    def swapped(self, step: int, blocker: int) -> Candidate:
        """Returns the candidate with the step before the step that blocks it.

        Where the order has it before already, its worker took the other one because that was ready
        first; then the worker holds the order.
        """
        order = list(self.best.order)
        a, b = order.index(step), order.index(blocker)
        if a < b:
            worker = self.best.workers[step]
            return replace(self.best, holding=self.best.holding | {str(worker)})
        order.insert(b, order.pop(a))
        return replace(self.best, order=tuple(order))

    def ordered(self) -> tuple[int, ...]:
        """Returns all steps in the order in which they began."""
        return tuple(sorted(self.best.order, key=self.simulated.begin.__getitem__))
