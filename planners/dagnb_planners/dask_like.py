"""The decisions of Dask's scheduler, emulated over the predicted costs of a run.

Source: dask.distributed 2026.8, `distributed/scheduler.py` and `distributed/stealing.py`; in words:
https://distributed.dask.org/en/stable/scheduling-policies.html. The names of its methods stand
beside the rules below. The depth-first order takes the place of dask.order.

Groups     the tasks of one function. A group is *root-like* if it has more than twice as many tasks
           as there are workers, and reads fewer than five tasks in all (`is_rootish`).
Queueing   root-like tasks wait in a queue of the scheduler, and go to the worker with the fewest
           tasks while it has fewer than two (`decide_worker_rootish_queuing_enabled`,
           `worker-saturation` 1.1). With an infinite saturation there is no queue: consecutive
           ones share a worker (`..._queuing_disabled`).
Others     with inputs: of the workers that hold one, the one with the smallest occupancy + seconds
           to fetch the other inputs (`decide_worker`, `worker_objective`). Without inputs: of the
           idle workers, or of all, the one with the smallest occupancy, in turn if that is zero.
Occupancy  of a worker: seconds of the tasks that were sent to it, each as long as the last ones of
           its function took (1/2, 1/4, ...; half a second before the first has ended), and seconds
           to fetch what they read from elsewhere.
Workers    fetch the inputs of all their tasks at once, and run those that have all, depth first.
Stealing   every second, an idle worker takes tasks that a saturated one has not begun, if it would
           start them sooner (`WorkStealing.balance`).

    waiting --last input is there--> sent to a worker --inputs fetched--> ready --> runs --> done
                  |                      ^      |_______________________|
                  +--> queued (root-like)+             may be stolen

Left out: memory, several threads a worker, restrictions of single tasks, and the time that the
scheduler itself takes, 0.2 to 1 ms a task. `benchmarks/dask_like.py` compares with real Dask.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from dagnb.errors import ConfigError
from dagnb.graph.resources import Resources
from dagnb.graph.shape import depth_first, sources
from dagnb.planning.kept import with_kept_results
from dagnb.planning.plan import Plan
from dagnb.planning.planner import Problem
from dagnb_planners.placing import Placing, PlannedWorker
from dagnb_planners.ranks import RankPrices
from dagnb_planners.sweep import check_workers, swept

WorkerCounts = dict[Resources, int]

# Defaults of Dask, by their names there.
SATURATION = 1.1  # worker-saturation
UNKNOWN_S = 0.5  # unknown-task-duration
STEAL_S = 1.0  # work-stealing-interval
_FEW_GROUPS = _FEW_TASKS = 5  # rootish-taskgroup, rootish-taskgroup-dependencies
_LATENCY_S = 0.1  # of a steal
_LEVELS = 15
_SMALL_CLUSTER = 20
_MOST_VICTIMS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class DaskLike:
    """Pins every step to the worker where Dask would run it.

    everywhere: consider all workers for tasks with inputs, not only those that hold one.
    n_workers: workers of the cluster; None takes the cap of the pool, or the best number by
    simulation. saturation: as `worker-saturation` of Dask; math.inf for no queueing.
    steals: whether idle workers take tasks from others.
    """

    name: ClassVar[str] = "dask_like"

    everywhere: bool = False
    n_workers: int | None = None
    saturation: float = SATURATION
    steals: bool = True

    def __post_init__(self) -> None:
        """Raises ConfigError for impossible settings."""
        check_workers("DaskLike", self.n_workers)
        if not self.saturation > 0:
            raise ConfigError(
                f"DaskLike(saturation={self.saturation}): must be more than 0; math.inf for no "
                "queueing."
            )

    def plan(self, problem: Problem) -> Plan:
        """Returns a plan with every step pinned, its priority the depth-first number.

        O(edges x workers that hold an input), and for each second of the run with idle workers
        O(tasks that they may steal x idle workers).
        """
        prices, numbers = RankPrices(problem), depth_first(problem.dag)

        def place(n: int) -> Placing:
            return DaskScheduler(self, Placing(prices, n, inserts=False), numbers).run()

        n_workers = self.n_workers if self.n_workers is not None else problem.pool.cap
        plan = swept(problem, self.name, place, n_workers)
        steps = tuple(replace(step, priority=numbers[step.task]) for step in plan.steps)
        return with_kept_results(replace(plan, steps=steps))


@dataclass(slots=True, eq=False)
class DaskWorker:
    """One worker, with one thread.

    sent: tasks that were sent to it and have not ended, in that order. ready: those of them that
    have all inputs here, as a heap of (priority, task). running: -1 for none.
    held: tasks whose values it holds. functions: function -> number of its tasks in `sent`.
    fetch_s: seconds to fetch what a task reads from elsewhere, by task, for those on their way.
    """

    number: int
    needs: Resources
    sent: dict[int, None] = field(default_factory=dict)
    ready: list[tuple[int, int]] = field(default_factory=list)
    running: int = -1
    held: set[int] = field(default_factory=set)
    functions: Counter[str] = field(default_factory=Counter)
    fetch_s: dict[int, float] = field(default_factory=dict)


class DaskScheduler:
    """One run on a number of workers, event by event."""

    def __init__(self, chosen: DaskLike, placing: Placing, numbers: Sequence[int]) -> None:
        """Begin with idle workers. placing: empty; it gets the tasks as they begin."""
        self.chosen, self.placing, self.numbers = chosen, placing, numbers
        self.prices, self.dag = placing.prices, placing.prices.dag
        self.functions = [call.function for call in self.dag.calls]
        self.workers: list[DaskWorker] = []
        self.of_kind: dict[Resources, list[DaskWorker]] = {}
        for needs, n in worker_counts(self.prices, placing.n_workers).items():
            self.of_kind[needs] = []
            for _ in range(n):
                worker = DaskWorker(len(self.workers), needs)
                self.workers.append(worker)
                self.of_kind[needs].append(worker)
        self.slots = max(math.ceil(chosen.saturation), 1) if self.queues else 0

        self.root_like = self._root_like_groups()
        self.n_of = Counter(self.functions)
        self.queued: list[tuple[int, int]] = []
        self.open: list[tuple[int, int]] = []  # (number of tasks, worker): those with a free slot
        self.averages_s: dict[str, float] = {}
        self.idle: dict[int, DaskWorker] = {worker.number: worker for worker in self.workers}
        self.saturated: dict[int, DaskWorker] = {}
        self.blocks: dict[str, tuple[DaskWorker, int]] = {}  # the last worker, tasks left for it
        self.holders: list[set[int]] = [set() for _ in self.dag.calls]
        # (moment, serial, task, worker): inputs have arrived, or (running) the task has ended.
        self.events: list[tuple[float, int, int, int]] = []
        self.n_events = 0
        # Serial of the event of each task that counts: a task that is stolen there and back has
        # others, of before.
        self.newest = [0] * len(self.dag)
        self.now, self.next_steal_s = 0.0, STEAL_S
        self.began: list[tuple[int, int]] = []  # task, worker
        self.sent: Counter[str] = Counter()  # to all workers, by function
        self.fetched_s = 0.0  # of all workers
        for worker in self.workers:
            self._note_slots(worker)

    @property
    def queues(self) -> bool:
        """True if root-like tasks wait in a queue."""
        return not math.isinf(self.chosen.saturation)

    def run(self) -> Placing:
        """Emulate the run. Returns the placements."""
        missing = [len(set(call.upstream)) for call in self.dag.calls]
        self._send_all(sources(self.dag))
        while self.events:
            moment, serial, task, number = self.events[0]
            if serial != self.newest[task]:
                heapq.heappop(self.events)
                continue
            if self.chosen.steals and self.next_steal_s < moment:
                self.now = self.next_steal_s
                # Until the next event, a further look would find what this one has.
                n_looks = 1 if self._balance() else math.ceil((moment - self.now) / STEAL_S)
                self.next_steal_s += n_looks * STEAL_S
                continue
            heapq.heappop(self.events)
            self.now, worker = moment, self.workers[number]
            if worker.running == task:
                self._end(worker, task, missing)
            else:
                self._arrive(worker, task)
            self._begin_next(worker)
        self._place()
        return self.placing

    # ---- decisions ----

    def _root_like_groups(self) -> set[str]:
        """Returns the functions whose tasks are root-like. None where resources differ."""
        if len(self.of_kind) > 1:
            return set()
        sizes = Counter(self.functions)
        read: dict[str, set[str]] = {function: set() for function in sizes}
        for call in self.dag.calls:
            for u in call.upstream:
                read[call.function].add(self.functions[u])
        groups = set()
        for function, size in sizes.items():
            n_read = sum(sizes[other] for other in read[function])
            few = len(read[function]) < _FEW_GROUPS and n_read < _FEW_TASKS
            if size > 2 * len(self.workers) and few:
                groups.add(function)
        return groups

    def _send_all(self, tasks: Iterable[int]) -> None:
        """Decide on tasks that became runnable, then on queued ones."""
        for task in sorted(tasks, key=self.numbers.__getitem__):
            if self.functions[task] not in self.root_like:
                self._send(task, self._decided(task))
            elif self.queues:
                heapq.heappush(self.queued, (self.numbers[task], task))
            else:
                self._send(task, self._in_block(task))
        while self.queued and (worker := self._least_busy()) is not None:
            self._send(heapq.heappop(self.queued)[1], worker)

    def _least_busy(self) -> DaskWorker | None:
        """Returns the worker with the fewest tasks, None where no worker has a free slot."""
        while self.open:
            n, number = self.open[0]
            if len(self.workers[number].sent) == n:
                return self.workers[number]
            heapq.heappop(self.open)
        return None

    def _in_block(self, task: int) -> DaskWorker:
        """Returns the worker of the block of consecutive tasks to which this one belongs."""
        function = self.functions[task]
        worker, n_left = self.blocks.get(function, (self.workers[0], 0))
        if n_left == 0:
            pool = self.idle.values() or self.workers
            worker = min(pool, key=lambda each: self._objective(task, each))
            n_left = self.n_of[function] // len(self.workers)
        self.blocks[function] = worker, n_left - 1
        return worker

    def _decided(self, task: int) -> DaskWorker:
        """Returns the worker of a task that is not root-like."""
        needs = self.placing.needs[task]
        workers = self.of_kind[needs]
        if not self.dag.calls[task].upstream:
            return self._without_inputs(workers)
        numbers: set[int] = set()
        for u in self.dag.calls[task].upstream:
            numbers |= self.holders[u]
        holding = [self.workers[n] for n in sorted(numbers) if self.workers[n].needs == needs]
        if self.chosen.everywhere or not holding:
            holding = workers
        return min(holding, key=lambda worker: self._objective(task, worker))

    def _without_inputs(self, workers: list[DaskWorker]) -> DaskWorker:
        pool = [worker for worker in workers if worker.number in self.idle] or workers
        start = len(self.dag) % len(pool)
        if len(pool) >= _SMALL_CLUSTER:
            return pool[start]
        least = min(pool, key=self._occupancy_s)
        if self._occupancy_s(least) > 0:
            return least
        for worker in (*pool[start:], *pool[:start]):
            if self._occupancy_s(worker) == 0:
                return worker
        return least

    def _objective(self, task: int, worker: DaskWorker) -> tuple[float, int, int]:
        """Returns when the worker could begin the task, by what Dask knows; then ties."""
        start_s = self._occupancy_s(worker) + self._fetch_s(task, worker)
        return start_s, len(worker.held), worker.number

    def _fetch_s(self, task: int, worker: DaskWorker) -> float:
        """Returns the seconds to fetch inputs that the worker does not hold, one by one."""
        total_s = 0.0
        for seconds, u in self.prices.inputs[task]:
            if u not in worker.held:
                total_s += seconds
        return total_s

    def _duration_s(self, function: str) -> float:
        return self.averages_s.get(function, UNKNOWN_S)

    def _occupancy_s(self, worker: DaskWorker) -> float:
        return self._computing_s(worker.functions) + sum(worker.fetch_s.values())

    def _computing_s(self, functions: Counter[str]) -> float:
        seconds = 0.0
        for function, n in functions.items():
            seconds += n * self._duration_s(function)
        return seconds

    # ---- what happens ----

    def _send(self, task: int, worker: DaskWorker) -> None:
        """Send a task to a worker, which fetches what it lacks, all at the same time."""
        worker.sent[task] = None
        worker.functions[self.functions[task]] += 1
        self.sent[self.functions[task]] += 1
        worker.fetch_s[task] = self._fetch_s(task, worker)
        self.fetched_s += worker.fetch_s[task]
        longest_s = self.prices.outside_s[task]
        for seconds, u in self.prices.inputs[task]:
            if u not in worker.held:
                longest_s = max(longest_s, seconds)
        self._later(longest_s, task, worker)
        self._note(worker)

    def _later(self, seconds: float, task: int, worker: DaskWorker) -> None:
        self.n_events += 1
        self.newest[task] = self.n_events
        heapq.heappush(self.events, (self.now + seconds, self.n_events, task, worker.number))

    def _arrive(self, worker: DaskWorker, task: int) -> None:
        for u in self.dag.calls[task].upstream:
            worker.held.add(u)
            self.holders[u].add(worker.number)
        self.fetched_s -= worker.fetch_s.pop(task)
        heapq.heappush(worker.ready, (self.numbers[task], task))

    def _begin_next(self, worker: DaskWorker) -> None:
        if worker.running < 0 and worker.ready:
            _, task = heapq.heappop(worker.ready)
            worker.running = task
            self.began.append((task, worker.number))
            self._later(self.prices.busy[task], task, worker)

    def _end(self, worker: DaskWorker, task: int, missing: list[int]) -> None:
        function, took_s = self.functions[task], self.prices.busy[task]
        last_s = self.averages_s.get(function)
        self.averages_s[function] = took_s if last_s is None else (took_s + last_s) / 2
        worker.running = -1
        self._take_from(worker, task)
        worker.held.add(task)
        self.holders[task].add(worker.number)
        runnable = []
        for child in dict.fromkeys(self.dag.downstream[task]):
            missing[child] -= 1
            if not missing[child]:
                runnable.append(child)
        self._send_all(runnable)

    def _take_from(self, worker: DaskWorker, task: int) -> None:
        del worker.sent[task]
        self.fetched_s -= worker.fetch_s.pop(task, 0.0)
        worker.functions[self.functions[task]] -= 1
        self.sent[self.functions[task]] -= 1
        self._note(worker)

    def _note(self, worker: DaskWorker) -> None:
        """Note whether the worker is idle or saturated, as `check_idle_saturated` does."""
        self._note_slots(worker)
        self.idle.pop(worker.number, None)
        self.saturated.pop(worker.number, None)
        occupancy_s, n = self._occupancy_s(worker), len(worker.sent)
        mean_s = (self._computing_s(self.sent) + self.fetched_s) / len(self.workers)
        if n < 1 or occupancy_s < mean_s / 2:
            self.idle[worker.number] = worker
        elif n > 1:
            pending_s = occupancy_s * (n - 1) / n
            if pending_s > max(0.4, 1.9 * mean_s):
                self.saturated[worker.number] = worker

    def _note_slots(self, worker: DaskWorker) -> None:
        if len(worker.sent) < self.slots:
            heapq.heappush(self.open, (len(worker.sent), worker.number))

    # ---- stealing ----

    def _balance(self) -> bool:
        """Let idle workers take tasks of others. Returns whether any did."""
        thieves, has_moved = dict(self.idle), False
        if not thieves or len(thieves) == len(self.workers):
            return False
        victims = self._victims()
        levels: list[list[tuple[DaskWorker, int]]] = [[] for _ in range(_LEVELS)]
        for victim in victims:
            for task in victim.sent:
                level = self._level(task)
                if task != victim.running and level is not None:
                    levels[level].append((victim, task))
        for stealable in levels:
            for victim, task in stealable:
                thief = self._thief(task, thieves)
                if thief is None or not self._pays(task, victim, thief):
                    continue
                self._take_from(victim, task)
                if (self.numbers[task], task) in victim.ready:
                    victim.ready.remove((self.numbers[task], task))
                    heapq.heapify(victim.ready)
                self._send(task, thief)
                has_moved = True
                if thief.number not in self.idle:
                    del thieves[thief.number]
        return has_moved

    def _victims(self) -> list[DaskWorker]:
        """Returns saturated workers, or else the fullest ones; the fullest first."""
        victims = list(self.saturated.values())
        if not victims:
            for worker in self.workers:
                is_full = self._occupancy_s(worker) > 0.2 and len(worker.sent) > 1
                if is_full and worker.number not in self.idle:
                    victims.append(worker)
        victims.sort(key=self._occupancy_s, reverse=True)
        return victims if self.saturated else victims[:_MOST_VICTIMS]

    def _level(self, task: int) -> int | None:
        """Returns how much a move would cost for the time that it computes, by powers of two.

        None for a task that is not to be moved; see `steal_time_ratio`.
        """
        if not self.dag.calls[task].upstream:
            return 0
        compute_s = self._duration_s(self.functions[task])
        if compute_s <= 0:
            return None
        fetch_s = sum(seconds for seconds, _ in self.prices.inputs[task])
        level = max(1, round(math.log2((fetch_s + _LATENCY_S) / compute_s) + 6))
        return level if level < _LEVELS else None

    def _thief(self, task: int, thieves: dict[int, DaskWorker]) -> DaskWorker | None:
        needs = self.placing.needs[task]
        fit = [worker for worker in thieves.values() if worker.needs == needs]
        return min(fit, key=lambda worker: self._objective(task, worker), default=None)

    def _pays(self, task: int, victim: DaskWorker, thief: DaskWorker) -> bool:
        compute_s = self._duration_s(self.functions[task])
        end_s = self._occupancy_s(thief) + self._fetch_s(task, thief) + compute_s
        kept_s = (self._fetch_s(task, victim) + compute_s) / 2
        return end_s <= self._occupancy_s(victim) - kept_s

    # ---- the plan ----

    def _place(self) -> None:
        """Put the tasks where they began, in that order, at the prices of a run of dagnb."""
        planned: dict[int, PlannedWorker] = {}
        for task, number in self.began:
            ready, worker = self.placing.ready(task), planned.get(number)
            if worker is None:
                option = self.placing.on_new_worker(task, ready)
            else:
                option = self.placing.on_worker(task, ready, worker)
            planned[number] = self.placing.put(task, option)


def worker_counts(prices: RankPrices, n: int) -> WorkerCounts:
    """Returns resources -> number of workers: n in all, but at least one for each resources.

    Each further worker goes to the resources with the most work per worker.
    """
    work: dict[Resources, float] = {}
    for resources, seconds in zip(prices.needs, prices.busy, strict=True):
        work[resources] = work.get(resources, 0.0) + seconds
    counts = dict.fromkeys(work, 1)
    queue: list[tuple[float, int, Resources]] = []
    for i, (resources, seconds) in enumerate(work.items()):
        heapq.heappush(queue, (-seconds, i, resources))
    for _ in range(n - len(counts)):
        _, i, resources = queue[0]
        counts[resources] += 1
        heapq.heapreplace(queue, (-work[resources] / counts[resources], i, resources))
    return counts
