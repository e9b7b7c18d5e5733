"""A plan as constraints: a job shop with optional intervals, one for each task and worker.

                fetch     load, run, dump, store    hand over
    window   |---------|--------------------------|-----|-----|
             ^begin                                     ^commit: the value is there for all
    on[v, p]  true for the one worker p that runs task v; its windows do not overlap

Intervals after Laborie, "IBM ILOG CP Optimizer for detailed scheduling", CPAIOR 2009,
doi:10.1007/978-3-642-01929-6_12; the solver is CP-SAT of OR-tools (Perron and Didier). Costs are
those of the simulator:

    window   a task occupies its worker from the transfer of its inputs, all at once, until it is
             handed over
    ready    a task is ready when its last input is handed over, half a round trip before the window
             of that input ends
    at hand  a worker holds values that it made, or fetched for an earlier task
    start    in an eager pool workers start at submission. Otherwise a task that becomes ready
             starts at most one worker of its resources, and that worker may run other tasks first

The model leaves out some delays: waking up, invoking others, and fetching again after an idle
worker was staffed by another instance. So a run of the model is never longer than the simulated
one, except where tasks fail before they succeed: there the worker is charged with the last attempt
only, and with all transfers. Without such tasks, the bound holds for every plan without copies of
tasks on so many workers.

Time is counted in ticks of (known makespan / (3,000,000 x tasks)) seconds, and is rounded down. A
way through the DAG has three roundings per task, so a bound is too low by 1e-6 of the makespan at
most, and never too high.
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
from dagnb.planning.kept import with_kept_results
from dagnb.planning.plan import Plan, Step
from dagnb.planning.planner import Problem
from dagnb.simulation.simulate import simulate
from dagnb.trace.trace import Phase
from dagnb_planners.placing import turns

# The precision of time, relative to the makespan.
EXACT = 1e-6
# Roundings that a way through the DAG has at each task: transfer, body, half a round trip.
_ROUNDINGS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The result of the solver.

    plans: empty when no plan is better than the known one. figures: statistics of the solver, in
    words.
    """

    plans: Sequence[Plan]
    bound_s: float
    figures: str


@dataclass(frozen=True, slots=True)
class ModelWorker:
    """A worker of the model.

    needs: its resources, None for any. start: ticks, from submission if is_at_once, else from the
    task that asked for it.
    """

    needs: Resources | None
    start: int
    is_at_once: bool


class Model:
    """The problem as constraints; v, u: tasks, p: positions in `workers`; times in ticks."""

    def __init__(self, solver: Any, problem: Problem, n_workers: int, known_s: float) -> None:
        """Builds all constraints.

        known_s: the makespan of the known plan; only plans that are not longer are looked for.
        """
        self.cp, self.problem, self.n_workers = solver, problem, n_workers
        self.model = solver.CpModel()
        self.heads: Heads = heads(problem.dag, problem.costs, problem.pool)
        self.tick_s = known_s * EXACT / (_ROUNDINGS * len(problem.dag))
        self.most = self.ticks(known_s)
        self.half = self.ticks(problem.costs.commit_s / 2)
        # The run does not wait for tasks that no sink needs.
        self.tasks = [v for v in range(len(problem.dag)) if self.heads.is_needed[v]]
        self.needs: list[Resources | None] = [None] * len(problem.dag)
        if not problem.pool.eager:
            self.needs = [call.options.needs for call in problem.dag.calls]
        self.workers = list(_workers(problem, n_workers, self.ticks))
        self.together: dict[tuple[int, int], Any] = {}
        self._add_tasks()
        self._add_capacities()
        self._add_transfers()
        self._add_starts()
        self._add_symmetry()
        self._add_objective()

    def ticks(self, seconds: float) -> int:
        """Returns whole ticks, rounded down."""
        # The summand keeps whole numbers: 3.0 may be computed as 2.9999999999.
        return int(seconds / self.tick_s + 1e-6)

    # ---- constraints -----------------------------------------------------------------------------

    def _add_tasks(self) -> None:
        """Adds the variables of tasks: one worker each, upstream first."""
        model, work, most = self.model, self.heads.work, self.most
        self.on: dict[tuple[int, int], Any] = {}
        self.begin, self.fetch, self.commit, self.size = {}, {}, {}, {}
        self.window: dict[int, Any] = {}
        for v in self.tasks:
            for p in self._workers_of(v):
                self.on[v, p] = model.new_bool_var("")
        for v in self.tasks:
            least = self.ticks(work.outside[v])
            longest = least
            for _, seconds in work.reads[v]:
                longest = max(longest, self.ticks(seconds))
            body_s = work.window[v] - work.outside[v] - self.problem.costs.commit_s / 2
            body = self.ticks(body_s)
            self.begin[v] = model.new_int_var(0, most, "")
            self.fetch[v] = model.new_int_var(least, longest, "")
            self.commit[v] = model.new_int_var(0, most, "")
            model.add(self.commit[v] == self.begin[v] + self.fetch[v] + body)
            self.size[v] = self.fetch[v] + body + self.half
            end = self.commit[v] + self.half
            self.window[v] = model.new_interval_var(self.begin[v], self.size[v], end, "")
            # A bound of dagnb.planning, which the solver need not find by search.
            model.add(self.commit[v] >= self.ticks(self.heads.commit[v]) - _ROUNDINGS)
            model.add_exactly_one(self.on[v, p] for p in self._workers_of(v))
            delay = self.ticks(work.again[v] + work.pause[v])
            for u, _ in work.reads[v]:
                model.add(self.begin[v] >= self.commit[u] + delay)

    def _add_capacities(self) -> None:
        """Adds one task at a time on a worker, and the limits of the pool."""
        model, windows = self.model, list(self.window.values())
        for p in range(len(self.workers)):
            model.add_no_overlap([self._optional_window(v, p) for v in self._tasks_of(p)])
        model.add_cumulative(windows, [1] * len(self.tasks), self.n_workers)
        pool = self.problem.pool
        if pool.memory_mb is not None and not pool.eager:
            calls = self.problem.dag.calls
            held = [pool.memory_of(calls[v].options.needs) for v in self.tasks]
            warm = sum(n * pool.memory_of(needs) for needs, n in pool.warm.items())
            model.add_cumulative(windows, held, max(pool.memory_mb, warm))

    def _optional_window(self, v: int, p: int) -> Any:
        """Returns the interval of a task on a worker, which exists only if it runs there."""
        begin, size, end = self.begin[v], self.size[v], self.commit[v] + self.half
        return self.model.new_optional_interval_var(begin, size, end, self.on[v, p], "")

    def _add_transfers(self) -> None:
        """Adds that an input is fetched unless its task, or an earlier reader of it, ran here."""
        for v in self.tasks:
            for u, seconds in self.heads.work.reads[v]:
                ticks = self.ticks(seconds)
                if ticks > 0:
                    near = [*self._same_worker(u, v), *self._read_before(u, v)]
                    away = [literal.negated() for literal in near]
                    self.model.add(self.fetch[v] >= ticks).only_enforce_if(away)

    def _same_worker(self, u: int, v: int) -> Iterator[Any]:
        """Yields a literal that is true only if both run on one worker; none if they cannot."""
        if self.needs[u] != self.needs[v]:
            return
        pair = (min(u, v), max(u, v))
        if pair not in self.together:
            literal = self.together[pair] = self.model.new_bool_var("")
            for p in self._workers_of(v):
                implied = self.model.add_implication(self.on[u, p], self.on[v, p])
                implied.only_enforce_if(literal)
        yield self.together[pair]

    def _read_before(self, u: int, v: int) -> Iterator[Any]:
        """Yields a literal for each other reader of u: it ran before v on the same worker."""
        for reader in self.problem.dag.downstream[u]:
            if reader == v or not self.heads.is_needed[reader]:
                continue
            for together in self._same_worker(reader, v):
                literal = self.model.new_bool_var("")
                self.model.add_implication(literal, together)
                end = self.commit[reader] + self.half
                self.model.add(self.begin[v] >= end).only_enforce_if(literal)
                yield literal

    def _add_starts(self) -> None:
        """Adds that a worker runs nothing before it has started.

        Workers that do not start at submission are asked for by a task that is ready.
        """
        model, asks = self.model, {}
        for p, worker in enumerate(self.workers):
            started: Any = worker.start
            askers: list[int] = []
            if not worker.is_at_once:
                asked_at = model.new_int_var(0, self.most, "")
                started = asked_at + worker.start
                askers = [v for v in self._tasks_of(p) if self.heads.work.reads[v]]
                for v in askers:
                    asks[v, p] = model.new_bool_var("")
                    for u, _ in self.heads.work.reads[v]:
                        model.add(asked_at >= self.commit[u]).only_enforce_if(asks[v, p])
            for v in self._tasks_of(p):
                model.add(self.begin[v] >= started).only_enforce_if(self.on[v, p])
                if not worker.is_at_once:
                    has_asker = model.add_bool_or([asks[w, p] for w in askers])
                    has_asker.only_enforce_if(self.on[v, p])
        # A task becomes ready once, so it starts one worker at most.
        for v in {v for v, _ in asks}:
            model.add_at_most_one(literal for (w, _), literal in asks.items() if w == v)

    def _add_symmetry(self) -> None:
        """Adds an order of equal workers, by the position of their first task.

        Without it the solver proves the same bound again for each permutation of them.
        """
        for p, (worker, other) in enumerate(pairwise(self.workers)):
            if worker != other:
                continue
            tasks = self._tasks_of(p)
            for n, v in enumerate(tasks):
                earlier = [self.on[w, p] for w in tasks[:n]]
                self.model.add_bool_or([self.on[v, p + 1].negated(), *earlier])

    def _add_objective(self) -> None:
        """Adds the makespan, cut by the bounds of dagnb.planning."""
        bound = lower_bound(self.problem.dag, self.problem.costs, self.problem.pool)
        least = min(self.ticks(bound.seconds), self.most)
        self.makespan = self.model.new_int_var(least, self.most, "")
        slip = _ROUNDINGS * len(self.tasks)
        for v in self.tasks:
            tail = self.ticks(self.heads.tail[v]) - slip
            self.model.add(self.makespan >= self.commit[v] + tail)
        for sink in self.problem.dag.sinks:
            self.model.add(self.makespan >= self.commit[sink])
        self.model.minimize(self.makespan)

    def _workers_of(self, v: int) -> list[int]:
        """Returns the workers that may run a task."""
        return [p for p, worker in enumerate(self.workers) if worker.needs == self.needs[v]]

    def _tasks_of(self, p: int) -> list[int]:
        """Returns the tasks that a worker may run."""
        return [v for v in self.tasks if (v, p) in self.on]

    # ---- search ----------------------------------------------------------------------------------

    def begin_with(self, plan: Plan) -> None:
        """Suggests a plan to the solver: the begins and workers of its simulated run."""
        trace = simulate(plan, self.problem.costs, self.problem.pool)
        numbers: dict[tuple[Resources | None, str], int] = {}
        used: Counter[Resources | None] = Counter()
        hinted = set()
        for span in trace.spans:
            if span.task < 0:
                continue
            task = plan.steps[span.task].task
            # A task begins with the first of both phases; its copies, if any, begin later.
            is_begin = span.phase in (Phase.FETCH, Phase.LOAD)
            if task in hinted or task not in self.begin or not is_begin:
                continue
            hinted.add(task)
            needs = self.needs[task]
            worker = (needs, span.worker)
            if worker not in numbers:
                numbers[worker] = used[needs]
                used[needs] += 1
            begin = min(self.ticks(span.begin_s), self.most)
            self.model.add_hint(self.begin[task], begin)
            for number, p in enumerate(self._workers_of(task)):
                self.model.add_hint(self.on[task, p], number == numbers[worker])

    def solve(self, limit_s: float) -> Answer:
        """Searches on one core with a fixed seed, so that equal problems have equal answers."""
        solver = self.cp.CpSolver()
        # Otherwise the solver leaves the system's default handler of SIGINT behind, and the next
        # Ctrl-C would kill the kernel.
        solver.parameters.catch_sigint_signal = False
        solver.parameters.num_workers = 1
        solver.parameters.random_seed = 0
        solver.parameters.max_deterministic_time = limit_s
        status = solver.solve(self.model)
        figures = f"CP-SAT: {solver.status_name(status).lower()}, {solver.num_branches} branches, "
        figures += f"{solver.num_conflicts} conflicts"
        if status == self.cp.INFEASIBLE:
            # The known plan uses more workers, and no plan on so few workers is as short.
            known_s = self.most * self.tick_s
            return Answer(plans=(), bound_s=known_s, figures=figures)

        bound_s = solver.best_objective_bound * self.tick_s
        plans: tuple[Plan, ...] = ()
        if status in (self.cp.OPTIMAL, self.cp.FEASIBLE):
            figures += f", makespan {solver.objective_value * self.tick_s:.6g} s"
            plans = tuple(self._plans(solver))
        figures += f", bound {bound_s:.6g} s"
        return Answer(plans=plans, bound_s=bound_s, figures=figures)

    def _plans(self, solver: Any) -> Iterator[Plan]:
        """Yields the answer with every step floating, and pinned; earlier begins go first."""
        dag, pool = self.problem.dag, self.problem.pool
        begins = {v: solver.value(self.begin[v]) for v in self.tasks}
        on = {v: p for (v, p), literal in self.on.items() if solver.boolean_value(literal)}
        # Tasks that no sink needs go last.
        order = sorted(range(len(dag)), key=lambda v: (begins.get(v, math.inf), v))
        priorities = turns(order)

        # In an eager pool a worker of the model may run any task, but a worker of a plan has only
        # one kind of resources.
        names: dict[tuple[int, Resources], str] = {}
        for v in order:
            needs = dag.calls[v].options.needs
            names.setdefault((on.get(v, 0), needs), f"w{len(names)}")
        floating, pinned = [], []
        for v, call in enumerate(dag.calls):
            needs = call.options.needs
            step = Step(task=v, upstream=call.upstream, resources=needs, priority=priorities[v])
            floating.append(step)
            pinned.append(replace(step, worker=names[on.get(v, 0), needs]))

        yield with_kept_results(Plan(dag=dag, steps=tuple(floating), planner="exact"))
        n_resources = len({call.options.needs for call in dag.calls})
        if pool.cap is None or len(names) < pool.cap + n_resources:
            yield with_kept_results(Plan(dag=dag, steps=tuple(pinned), planner="exact"))


def _workers(
    problem: Problem,
    n_workers: int,
    ticks: Callable[[float], int],
) -> Iterator[ModelWorker]:
    """Yields the workers of the model.

    In an eager pool they are the n_workers that start first, else n_workers for each resources.
    """
    dag, costs, pool = problem.dag, problem.costs, problem.pool
    known = [start.total_s for start in costs.start_series]
    if pool.eager:
        n = min(pool.cap or len(dag), len(dag))
        cold_s = costs.start(DEFAULT, is_warm=False).total_s
        starts = sorted([*known[:n], *[cold_s] * (n - len(known))])
        for start_s in starts[:n_workers]:
            yield ModelWorker(None, ticks(start_s + costs.program_s), True)
        return

    before = costs.program_s
    if pool.single:
        before += costs.invocation_s
    needs = [call.options.needs for call in dag.calls]
    # Sources are ready at submission, so their workers start then.
    n_sources = Counter(call.options.needs for call in dag.calls if not call.upstream)
    for kind in dict.fromkeys(needs):
        cold_s = costs.start(kind, is_warm=False).total_s
        least_s = min(costs.start(kind, is_warm=True).total_s, cold_s)
        # A worker that leaves before the end of the run leaves a warm container to the next one.
        if pool.single and pool.linger_s < math.inf:
            cold_s = least_s
        for number in range(min(n_workers, needs.count(kind))):
            start_s = least_s if number < pool.warm.get(kind, 0) else cold_s
            start = ticks(min([start_s, *known]) + before)
            yield ModelWorker(kind, start, number < n_sources[kind])
