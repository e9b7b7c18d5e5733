"""Who runs what when, as constraints: a job shop with optional intervals, one a task and worker.

Intervals do not overlap on a worker (Laborie, "IBM ILOG CP Optimizer for detailed scheduling", CPAIOR 2009,
doi:10.1007/978-3-642-01929-6_12); the solver is CP-SAT of OR-tools (Perron and Didier). Costs are the simulator's:

    window   a task holds its worker from the transfer of its inputs, all at once, until it was handed over
    ready    when the last input was handed over, half a round trip before the window ends, for everybody
    at hand  what this worker made, or fetched for a task before
    start    at submission in an eager pool; else each further worker is started by a task of its resources that became
             ready, one worker a task, and may serve another one

The model leaves out what makes runs longer: waking up, invoking others, and that a worker which idles may be staffed
by an instance that does not hold its values. Nothing it has makes a run longer than simulated, but where tasks fail
before they succeed: the worker is charged with the last attempt only, and with all transfers. So elsewhere its bound
holds for every plan without copies of tasks on so many workers.

Time is counted in ticks of the known makespan / (3,000,000 x tasks), all rounded down: a way through the DAG
rounds three times a task, so no bound is more than 1e-6 of the makespan too low, and none too high.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from dagnb.graph.resources import DEFAULT, Resources
from dagnb.planning.bounds import Heads, heads, lower_bound
from dagnb.planning.plan import Plan, Step
from dagnb.planning.planner import Problem
from dagnb.simulation.simulate import simulate
from dagnb.trace.span import Phase

EXACT = 1e-6
"""how precise time is counted, relative to the makespan"""
_ROUNDINGS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the solver came to. plans: none when nothing better than known can be. figures: its own, in words."""

    plans: Sequence[Plan]
    bound_s: float
    is_closed: bool
    figures: str


@dataclass(frozen=True, slots=True)
class ModelWorker:
    """A worker of the model. start: its start in ticks, from submission or from the task that asked for it."""

    needs: Resources | None
    start: int
    is_at_once: bool


class Model:
    """The problem as constraints; times in ticks."""

    def __init__(self, solver: Any, problem: Problem, n_workers: int, known_s: float) -> None:
        """known_s: the makespan that there is already; only plans that are not longer are looked for."""
        self.cp, self.problem, self.n_workers = solver, problem, n_workers
        self.model = solver.CpModel()
        self.heads: Heads = heads(problem.dag, problem.costs, problem.pool)
        self.tick_s = known_s * EXACT / (_ROUNDINGS * len(problem.dag))
        self.most = self.ticks(known_s)
        self.tasks = [v for v in range(len(problem.dag)) if self.heads.is_needed[v]]
        self.needs = [
            None if problem.pool.eager else call.options.needs for call in problem.dag.calls
        ]
        self.seats = list(_seats(problem, n_workers, self.ticks))
        self.half = self.ticks(problem.costs.commit_s / 2)
        self.together: dict[tuple[int, int], Any] = {}
        self._tasks()
        self._transfers()
        self._starts()
        self._symmetry()
        self._objective()

    def ticks(self, seconds: float) -> int:
        """Rounded down; a grain is added so that what is whole stays whole."""
        return int(seconds / self.tick_s + 1e-6)

    # ---- constraints ---------------------------------------------------------------------------------------------

    def _tasks(self) -> None:
        """Variables, one worker a task, one task a time on a worker, upstream first."""
        model, work = self.model, self.heads.work
        self.on = {(v, p): model.new_bool_var("") for v in self.tasks for p in self._seats_of(v)}
        self.begin, self.fetch, self.commit, self.size = {}, {}, {}, {}
        self.window: dict[int, Any] = {}
        for v in self.tasks:
            least = self.ticks(work.outside[v])
            far = max([least, *(self.ticks(s) for _, s in work.reads[v])])
            body = self.ticks(work.window[v] - work.outside[v] - self.problem.costs.commit_s / 2)
            self.begin[v], self.fetch[v] = (
                model.new_int_var(0, self.most, ""),
                model.new_int_var(least, far, ""),
            )
            self.commit[v] = model.new_int_var(0, self.most, "")
            model.add(self.commit[v] == self.begin[v] + self.fetch[v] + body)
            self.size[v] = self.fetch[v] + body + self.half
            self.window[v] = model.new_interval_var(
                self.begin[v], self.size[v], self.commit[v] + self.half, ""
            )
            model.add(self.commit[v] >= self.ticks(self.heads.commit[v]) - _ROUNDINGS)
            model.add_exactly_one(self.on[v, p] for p in self._seats_of(v))
            delay = self.ticks(work.again[v] + work.pause[v])
            for u, _ in work.reads[v]:
                model.add(self.begin[v] >= self.commit[u] + delay)
        for p in range(len(self.seats)):
            mine = [v for v in self.tasks if (v, p) in self.on]
            model.add_no_overlap([self._maybe(v, p) for v in mine])
        model.add_cumulative(list(self.window.values()), [1] * len(self.tasks), self.n_workers)
        pool = self.problem.pool
        if pool.memory_mb is not None and not pool.eager:
            held = [pool.memory_of(self.problem.dag.calls[v].options.needs) for v in self.tasks]
            warm = sum(n * pool.memory_of(needs) for needs, n in pool.warm.items())
            model.add_cumulative(list(self.window.values()), held, max(pool.memory_mb, warm))

    def _maybe(self, v: int, p: int) -> Any:
        end = self.commit[v] + self.half
        return self.model.new_optional_interval_var(
            self.begin[v], self.size[v], end, self.on[v, p], ""
        )

    def _transfers(self) -> None:
        """An input that is not at hand is fetched: no upstream task and no other reader of it ran here before."""
        for v in self.tasks:
            for u, seconds in self.heads.work.reads[v]:
                if (ticks := self.ticks(seconds)) > 0:
                    near = [*self._here(u, v), *self._read_here(u, v)]
                    self.model.add(self.fetch[v] >= ticks).only_enforce_if(
                        [literal.negated() for literal in near]
                    )

    def _here(self, u: int, v: int) -> Iterator[Any]:
        """A literal that is true only where both run on one worker; none where they cannot."""
        if self.needs[u] != self.needs[v]:
            return
        pair = (min(u, v), max(u, v))
        if pair not in self.together:
            literal = self.together[pair] = self.model.new_bool_var("")
            for p in self._seats_of(v):
                self.model.add_implication(self.on[u, p], self.on[v, p]).only_enforce_if(literal)
        yield self.together[pair]

    def _read_here(self, u: int, v: int) -> Iterator[Any]:
        for reader in self.problem.dag.downstream[u]:
            if reader != v and self.heads.is_needed[reader]:
                for together in self._here(reader, v):
                    literal = self.model.new_bool_var("")
                    self.model.add_implication(literal, together)
                    end = self.commit[reader] + self.half
                    self.model.add(self.begin[v] >= end).only_enforce_if(literal)
                    yield literal

    def _starts(self) -> None:
        """Nobody works before it has started; who does not start at submission is asked for by a task that is ready."""
        model, asks = self.model, {}
        for p, seat in enumerate(self.seats):
            at: Any = seat.start
            if not seat.is_at_once:
                asked_at = model.new_int_var(0, self.most, "")
                at = asked_at + seat.start
                for v in self._askers(p):
                    asks[v, p] = model.new_bool_var("")
                    for u, _ in self.heads.work.reads[v]:
                        model.add(asked_at >= self.commit[u]).only_enforce_if(asks[v, p])
            for v in self.tasks:
                if (v, p) in self.on:
                    model.add(self.begin[v] >= at).only_enforce_if(self.on[v, p])
                    if not seat.is_at_once:
                        model.add_bool_or([asks[w, p] for w in self._askers(p)]).only_enforce_if(
                            self.on[v, p]
                        )
        for v in {v for v, _ in asks}:
            model.add_at_most_one(literal for (w, _), literal in asks.items() if w == v)

    def _askers(self, p: int) -> list[int]:
        return [v for v in self.tasks if (v, p) in self.on and self.heads.work.reads[v]]

    def _symmetry(self) -> None:
        """Of equal workers each has its first task, by position, after the one before it."""
        for p, (seat, other) in enumerate(pairwise(self.seats)):
            if seat == other:
                mine = [v for v in self.tasks if (v, p) in self.on]
                for n, v in enumerate(mine):
                    self.model.add_bool_or(
                        [self.on[v, p + 1].negated(), *(self.on[w, p] for w in mine[:n])]
                    )

    def _objective(self) -> None:
        """The makespan, cut by the bounds of dagnb.planning."""
        bound = lower_bound(self.problem.dag, self.problem.costs, self.problem.pool)
        self.makespan = self.model.new_int_var(
            min(self.ticks(bound.seconds), self.most), self.most, ""
        )
        for v in self.tasks:
            self.model.add(
                self.makespan
                >= self.commit[v] + self.ticks(self.heads.tail[v]) - _ROUNDINGS * len(self.tasks)
            )
        for sink in self.problem.dag.sinks:
            self.model.add(self.makespan >= self.commit[sink])
        self.model.minimize(self.makespan)

    def _seats_of(self, v: int) -> list[int]:
        return [p for p, seat in enumerate(self.seats) if seat.needs == self.needs[v]]

    # ---- search --------------------------------------------------------------------------------------------------

    def begin_with(self, plan: Plan) -> None:
        """Suggest a plan, as it would run."""
        trace = simulate(plan, self.problem.costs, self.problem.pool)
        seats: dict[tuple[Resources | None, str], int] = {}
        used: Counter[Resources | None] = Counter()
        seen = {-1}
        for span in trace.spans:
            task = plan.steps[span.task].task if span.task >= 0 else -1
            if (
                task in seen
                or task not in self.begin
                or span.phase not in (Phase.FETCH, Phase.LOAD)
            ):
                continue
            seen.add(task)
            worker, mine = (self.needs[task], span.worker), self._seats_of(task)
            if worker not in seats:
                seats[worker] = used[worker[0]]
                used[worker[0]] += 1
            self.model.add_hint(self.begin[task], min(self.ticks(span.begin_s), self.most))
            for number, p in enumerate(mine):
                self.model.add_hint(self.on[task, p], number == seats[worker])

    def solve(self, limit_s: float) -> Answer:
        """Search on one core with a fixed seed, so that equal problems have equal answers."""
        solver = self.cp.CpSolver()
        solver.parameters.catch_sigint_signal = (
            False  # its handler leaves none behind: Ctrl-C would kill the kernel
        )
        solver.parameters.num_workers = 1
        solver.parameters.random_seed = 0
        solver.parameters.max_deterministic_time = limit_s
        status = solver.solve(self.model)
        said = f"CP-SAT: {solver.status_name(status).lower()}, {solver.num_branches} branches, "
        said += f"{solver.num_conflicts} conflicts"
        if (
            status == self.cp.INFEASIBLE
        ):  # the known plan uses more workers, and on so few none is as short
            return Answer(plans=(), bound_s=self.most * self.tick_s, is_closed=True, figures=said)
        bound_s = solver.best_objective_bound * self.tick_s
        if status not in (self.cp.OPTIMAL, self.cp.FEASIBLE):
            return Answer(
                plans=(), bound_s=bound_s, is_closed=False, figures=f"{said}, bound {bound_s:.6g} s"
            )
        said += f", makespan {solver.objective_value * self.tick_s:.6g} s, bound {bound_s:.6g} s"
        return Answer(
            plans=tuple(self._plans(solver)),
            bound_s=bound_s,
            is_closed=status == self.cp.OPTIMAL,
            figures=said,
        )

    def _plans(self, solver: Any) -> Iterator[Plan]:
        """The answer, every step pinned or every step floating; whoever begins earlier goes first."""
        dag, pool = self.problem.dag, self.problem.pool
        begins = {v: solver.value(self.begin[v]) for v in self.tasks}
        seat = {v: p for (v, p), literal in self.on.items() if solver.boolean_value(literal)}
        order = sorted(range(len(dag)), key=lambda v: (begins.get(v, math.inf), v))
        turn = {v: number for number, v in enumerate(order)}
        needs = [call.options.needs for call in dag.calls]
        names: dict[
            tuple[int, Resources], str
        ] = {}  # a worker has one kind of resources, a seat of processes any
        for v in order:
            names.setdefault((seat.get(v, 0), needs[v]), f"w{len(names)}")
        steps = tuple(
            Step(task=v, upstream=call.upstream, resources=needs[v], priority=turn[v])
            for v, call in enumerate(dag.calls)
        )
        yield Plan(dag=dag, steps=steps, planner="exact")
        if pool.cap is None or len(names) < pool.cap + len(set(needs)):
            pinned = (
                replace(step, worker=names[seat.get(step.task, 0), step.resources])
                for step in steps
            )
            yield Plan(dag=dag, steps=tuple(pinned), planner="exact")


def _seats(
    problem: Problem, n_workers: int, ticks: Callable[[float], int]
) -> Iterator[ModelWorker]:
    """The workers that there may be: of an eager pool the first to come, else so many of each kind of resources."""
    dag, costs, pool = problem.dag, problem.costs, problem.pool
    known = [start.total_s for start in costs.start_series]
    if pool.eager:
        n = min(pool.cap or len(dag), len(dag))
        starts = sorted(
            [*known[:n], *[costs.start(DEFAULT, is_warm=False).total_s] * (n - len(known))]
        )
        yield from (
            ModelWorker(None, ticks(start_s + costs.program_s), True)
            for start_s in starts[:n_workers]
        )
        return
    before = costs.program_s + (costs.invocation_s if pool.single else 0.0)
    needs = [call.options.needs for call in dag.calls]
    for kind in dict.fromkeys(needs):
        warm_s, cold_s = (costs.start(kind, is_warm=is_warm).total_s for is_warm in (True, False))
        if (
            pool.single and pool.linger_s < math.inf
        ):  # who left its worker has left a warm container
            cold_s = min(warm_s, cold_s)
        n_first = sum(
            n == kind and not call.upstream for n, call in zip(needs, dag.calls, strict=True)
        )
        for number in range(min(n_workers, needs.count(kind))):
            start_s = min(warm_s, cold_s) if number < pool.warm.get(kind, 0) else cold_s
            yield ModelWorker(kind, ticks(min([start_s, *known]) + before), number < n_first)
