"""A list schedule of a plan: its makespan by a model that is ten times as quick as the simulator.

A worker that is free takes the most urgent step that is ready; a step takes all its seconds on it.

    in the simulator                     here
    -----------------------------------  ----------------------------------------------
    the worker's code and the protocol   a heap of the ends of steps, heaps of ready ones
    starts, one by one                   a start before the first step of a worker
    batches, kept results, waking        nothing
    kinds of containers, their memory    workers are alike; the cap counts

Its makespans are off by a factor that hardly differs between scenarios of one plan, so it ranks
them, and a few simulations give the factor (see scenarios.py).
Source: Graham 1969, Bounds on Multiprocessing Timing Anomalies, doi:10.1137/0117039
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import repeat

from dagnb.graph.brief import brief
from dagnb.graph.resources import DEFAULT
from dagnb.planning.plan import Plan, next_in_order
from dagnb.planning.planner import Costs, Pool
from dagnb.simulation.simulated_run import StepCosts


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProgress:
    """The state of a run at one moment.

    done: steps that need not run any more. running: step -> seconds. n_workers: that have started.
    """

    done: Set[int]
    running: Mapping[int, float]
    n_workers: int

    __repr__ = brief


class ListSchedule:
    """The schedules of one plan, which differ in their costs.

    queues: number of the queue of each step. Queue 0 is that of steps that float, any other one
    that of a worker with a name.
    """

    __repr__ = brief

    def __init__(self, plan: Plan, costs: Costs, pool: Pool) -> None:
        """Reads from the costs what no scenario changes. O(steps + edges)."""
        self.is_eager = pool.eager
        self.cap = len(plan.steps) if pool.cap is None else min(pool.cap, len(plan.steps))
        self.tasks = [step.task for step in plan.steps]
        self.functions = [plan.dag.calls[task].function for task in self.tasks]
        self.priorities = [step.priority for step in plan.steps]
        self.n_upstream = [len(step.upstream) for step in plan.steps]
        self.downstream: list[list[int]] = [[] for _ in plan.steps]
        numbers: dict[str, int] = {}
        self.queues: list[int] = []
        for position, step in enumerate(plan.steps):
            for upstream in step.upstream:
                self.downstream[upstream].append(position)
            name = step.worker
            self.queues.append(0 if name is None else numbers.setdefault(name, 1 + len(numbers)))
        self.n_named = len(numbers)
        for position, after in next_in_order(plan).items():
            self.downstream[position].append(after)
            self.n_upstream[after] += 1

        acts = StepCosts(plan, costs)
        self._run_s = acts.run_s
        self._expected_s = [costs.run(task) for task in self.tasks]
        self._fetch_s_per_byte = costs.fetch.s_per_byte
        self._fixed_s: list[float] = []
        self._moved_s: list[float] = []
        for position, task in enumerate(self.tasks):
            pickled_s = acts.load_s[position] + acts.dump_s[position]
            self._fixed_s.append(pickled_s + costs.commit_s + acts.release_s[position])
            sizes = [size for size, _ in acts.transfers[position]]
            fetch_s = costs.fetching(task, [*sizes, acts.external_bytes[position]])
            self._moved_s.append(fetch_s + acts.store_s[position])

    def makespan_s(self, scenario: Costs) -> float:
        """Returns the makespan with these costs, seconds. O(steps log steps + edges)."""
        return _Play(self, scenario).end_s()

    def rest_s(self, scenario: Costs, progress: RunProgress) -> float:
        """Returns the seconds from this moment of a run to its end. O(steps log steps + edges).

        progress: its running steps with the seconds that they still take.
        """
        play = _Play(self, scenario)
        play.go_on(progress)
        return play.end_s()

    def durations(self, scenario: Costs) -> list[float]:
        """Returns the seconds of each step on its worker, without imports."""
        moving = 1.0
        if self._fetch_s_per_byte:
            moving = scenario.fetch.s_per_byte / self._fetch_s_per_byte
        durations = []
        for position, task in enumerate(self.tasks):
            seconds = self._run_s[position]
            # Another share of CPUs than was asked for changes all scenarios by one factor.
            if self._expected_s[position]:
                seconds *= scenario.run(task) / self._expected_s[position]
            else:
                seconds = scenario.run(task)
            seconds += self._fixed_s[position] + moving * self._moved_s[position]
            for failed_s, back_off_s in scenario.failures.get(task, ()):
                seconds += failed_s + back_off_s
            durations.append(seconds)
        return durations

    def imports(self, scenario: Costs) -> dict[str, Iterator[float]]:
        """Returns function -> seconds of its imports, as often as workers may call it first."""
        imports: dict[str, Iterator[float]] = {}
        for task, function in zip(self.tasks, self.functions, strict=True):
            if task in scenario.import_s and function not in imports:
                imports[function] = repeat(scenario.import_s[task], self.n_named or self.cap)
        return imports


class _Play:
    """One schedule: the clock, the steps under way, and by queue ready steps and free workers."""

    def __init__(self, schedule: ListSchedule, scenario: Costs) -> None:
        self.schedule = schedule
        self.durations = schedule.durations(scenario)
        self.imports = schedule.imports(scenario)
        self.start_s = scenario.start(DEFAULT, is_warm=False).total_s + scenario.program_s
        self.now = self.start_s if schedule.is_eager else 0.0
        self.ends: list[tuple[float, int]] = []
        # (priority, number) of queues with ready steps while as many workers are busy as there may
        # be: a plan may name more than the pool has.
        self.held_back: list[tuple[int, int]] = []
        # Workers that have not started; those of an eager pool all have.
        self.n_missing = [schedule.cap, *[1] * schedule.n_named]
        self.n_free = [0] * len(self.n_missing)
        if schedule.is_eager:
            self.n_free, self.n_missing = self.n_missing, self.n_free
        self.waiting = list(schedule.n_upstream)
        self.ready: list[list[tuple[int, int]]] = [[] for _ in self.n_free]
        for step, n_upstream in enumerate(self.waiting):
            if not n_upstream:
                self.ready[schedule.queues[step]].append((schedule.priorities[step], step))
        for queue in self.ready:
            heapify(queue)

    def go_on(self, progress: RunProgress) -> None:
        """Begin with this state of the run, at moment 0, instead of with nothing."""
        schedule = self.schedule
        gone = {*progress.done, *progress.running}
        self.now = 0.0
        for queue in self.ready:
            queue.clear()
        for step in progress.done:
            for reader in schedule.downstream[step]:
                self.waiting[reader] -= 1
        for step in gone:
            # It never becomes ready again, though an input of it may be computed anew.
            self.waiting[step] = -1
        for step, n_upstream in enumerate(self.waiting):
            if n_upstream <= 0 and step not in gone:
                self.ready[schedule.queues[step]].append((schedule.priorities[step], step))
        for queue in self.ready:
            heapify(queue)

        n_started = max(progress.n_workers, len(progress.running))
        self.n_free = [n_started, *[1] * schedule.n_named]
        self.n_missing = [max(0, schedule.cap - n_started), *[0] * schedule.n_named]
        for step, left_s in progress.running.items():
            number = schedule.queues[step]
            self.n_free[number] = max(0, self.n_free[number] - 1)
            heappush(self.ends, (left_s, step))

    def end_s(self) -> float:
        """Returns the moment at which the last step ends."""
        schedule, waiting = self.schedule, self.waiting
        for number in range(len(self.ready)):
            self.begin(number)
        while self.ends:
            self.now, step = heappop(self.ends)
            freed = schedule.queues[step]
            self.n_free[freed] += 1
            touched = {freed}
            for reader in schedule.downstream[step]:
                waiting[reader] -= 1
                if not waiting[reader]:
                    number = schedule.queues[reader]
                    heappush(self.ready[number], (schedule.priorities[reader], reader))
                    touched.add(number)
            for number in touched:
                self.begin(number)
            while self.held_back and len(self.ends) < schedule.cap:
                self.begin(heappop(self.held_back)[1])
        return self.now

    def begin(self, number: int) -> None:
        """Lets the free workers of a queue, and those that may start, begin its ready steps."""
        queue = self.ready[number]
        while queue:
            begin_s = self.now
            if len(self.ends) >= self.schedule.cap:
                heappush(self.held_back, (queue[0][0], number))
                return
            if self.n_free[number]:
                self.n_free[number] -= 1
            elif self.n_missing[number]:
                self.n_missing[number] -= 1
                begin_s += self.start_s
            else:
                return
            _, step = heappop(queue)
            if self.imports:
                begin_s += next(self.imports.get(self.schedule.functions[step], _NOTHING), 0.0)
            heappush(self.ends, (begin_s + self.durations[step], step))


_NOTHING: Iterator[float] = iter(())
