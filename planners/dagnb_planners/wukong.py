"""Wukong: executors walk the DAG from its sources, become one ready task and invoke others.

Source: Carver, Zhang, Wang, Anwar, Wu, Cheng, "Wukong: a scalable and locality-enhanced framework
for serverless parallel computing", SoCC 2020, doi:10.1145/3419111.3421286, sections 3.3 (static
schedules, fan-outs, fan-ins) and 3.4 (task clustering, delayed I/O). Parameters are those of its
code: outputs of 200 MB and more are clustered; the executors of a fan-out of 10 or more are invoked
by others, as in the simulator; the k-th sleep takes 1.5 k s, 10 s at most, and at most 20 sleeps
follow one another.

In Wukong executors decide while they run. In dagnb a plan names the workers, so executors are
emulated over the predicted costs, and each becomes a worker:

    invoked --start--> run --> hand over --> become a ready task ----> run
                                        |--> clustered tasks left ---> run
                                        |--> holds outputs back -----> sleep, look again
                                        '--> nothing to do ----------> idle --linger--> left

In a pool of single workers without limits, the simulated run of the plan equals the emulated one,
event by event, but for the values that stay with their worker (`Way.LOCAL`), which the emulation
stores. With `delays_io` it differs, too: where an executor of Wukong sleeps, the plan's worker
leaves and is started again. In other pools the plan simply runs with its pinned steps.

Not in the paper: an executor becomes only tasks of its own resources; one that has clustered tasks
left becomes nothing else; where no more workers may be named, an executor that ends goes on with
the oldest task that none has taken.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import ClassVar

from dagnb.errors import ConfigError
from dagnb.graph.resources import Resources
from dagnb.graph.shape import sources
from dagnb.planning.plan import Plan
from dagnb.planning.planner import Problem
from dagnb_planners.placing import pinned_plan, turns

# An executor invokes fewer than this many itself, one after the other; more are invoked for it.
_OWN_INVOCATIONS = 10
_FIRST_SLEEP_S = 1.5
_LONGEST_SLEEP_S = 10.0
_TRIES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Wukong:
    """Pins every step to the executor that would have run it.

    clusters: the executor of a big output runs every downstream task that waits for nothing else.
    delays_io: it also waits for downstream tasks that have other upstream tasks to wait for.
    threshold_bytes: outputs of at least this size are big.
    """

    name: ClassVar[str] = "wukong"

    clusters: bool = False
    delays_io: bool = False
    threshold_bytes: int = 200_000_000

    def __post_init__(self) -> None:
        """Raises ConfigError for impossible settings."""
        if self.threshold_bytes < 0:
            raise ConfigError(
                f"Wukong(threshold_bytes={self.threshold_bytes}): must be 0 bytes or more."
            )

    def plan(self, problem: Problem) -> Plan:
        """Returns one pinned step for each task, in the order of emulated begins.

        O(tasks log tasks + edges).
        """
        emulation = Emulation(problem, self)
        emulation.run()
        order = sorted(range(len(problem.dag)), key=emulation.begins.__getitem__)
        return pinned_plan(problem.dag, self.name, emulation.executor, turns(order))


@dataclass(slots=True)
class _Executor:
    """One executor.

    clock_s: its own clock, which may be ahead of the emulation's. local: tasks that it runs next.
    tries: sleeps in a row. at_hand: tasks whose values it holds.
    held: downstream task -> how many arrivals there it holds back.
    """

    number: int
    needs: Resources
    clock_s: float = 0.0
    task: int = -1
    tries: int = 0
    at_hand: set[int] = field(default_factory=set)
    local: deque[int] = field(default_factory=deque)
    held: dict[int, int] = field(default_factory=dict)


class Emulation:
    """Executors in virtual time.

    Arithmetic and order are those of the simulator, so that equal moments stay equal.

    executor: task -> number of its executor. begins: task -> (moment, count of begins).
    makespan_s: the moment at which the last sink is handed over.
    """

    def __init__(self, problem: Problem, settings: Wukong) -> None:
        self.dag, self.costs, self.pool = problem.dag, problem.costs, problem.pool
        self.settings = settings
        self.linger_s = problem.pool.linger_s if problem.pool.single else 0.0
        self.needs = [call.options.needs for call in problem.dag.calls]
        self.missing = [len(call.upstream) for call in problem.dag.calls]
        self.executor = [-1] * len(problem.dag)
        self.begins: list[tuple[float, int]] = [(0.0, 0)] * len(problem.dag)
        self.now, self.makespan_s, self.n_begun, self.serial = 0.0, 0.0, 0, 0
        self.sinks = frozenset(problem.dag.sinks)
        self.n_executors = 0
        # Executors that left, and tasks that wait for one, by resources.
        self.ended: dict[Resources, deque[_Executor]] = {}
        self.untaken: dict[Resources, deque[int]] = {}
        # (resources, idle since) of warm containers, longest idle first.
        self.idle: list[tuple[Resources, float]] = []
        for resources, n in self.pool.warm.items():
            self.idle += [(resources, 0.0)] * n
        self.at_work = 0
        self.starting: list[tuple[float, _Executor]] = []
        self.events: list[tuple[float, int, Callable[[_Executor], None], _Executor]] = []

    def run(self) -> None:
        """Emulates events until every task is done."""
        self._invoke(sources(self.dag))
        self._start()
        while self.events:
            self.now, _, act, executor = heapq.heappop(self.events)
            act(executor)

    # ---- acts, each at one moment ----

    def _on_started(self, executor: _Executor) -> None:
        """Reads the program: the container is there."""
        executor.clock_s = self.now + self.costs.program_s
        self._at(executor, self._run)

    def _run(self, executor: _Executor) -> None:
        """Takes the next local task, and goes on to the moment of its hand-over."""
        costs, task = self.costs, executor.local.popleft()
        executor.task = task
        self.executor[task] = executor.number
        self.begins[task] = (executor.clock_s, self.n_begun)
        self.n_begun += 1
        upstream = self.dag.calls[task].upstream
        far = [costs.edge(u, task) for u in upstream if u not in executor.at_hand]
        # Added one by one, as the simulator does: another order would round differently.
        executor.clock_s += costs.fetching(task, [*far, costs.external_bytes.get(task, 0)])
        executor.clock_s += costs.loading(task, costs.arguments(self.dag, task))
        for run_s, _ in costs.failures.get(task, ()):
            executor.clock_s += run_s
        executor.clock_s += costs.run(task)
        executor.clock_s += costs.dumping(task)
        executor.clock_s += costs.storing(task)
        executor.clock_s += costs.commit_s / 2
        # A part of a value is of no use to another task.
        for u in upstream:
            if costs.edge(u, task) >= costs.output(u):
                executor.at_hand.add(u)
        executor.at_hand.add(task)
        self._at(executor, self._hand_over)

    def _hand_over(self, executor: _Executor) -> None:
        """Arrives downstream, becomes one task that is ready, invokes others for the rest."""
        task = executor.task
        is_big = self.costs.output(task) >= self.settings.threshold_bytes
        if task in self.sinks:
            self.makespan_s = max(self.makespan_s, self.now)

        ready = []
        delays = is_big and self.settings.delays_io
        for child in dict.fromkeys(self.dag.downstream[task]):
            if delays and self.missing[child] > 1 and self._has_resources(executor, child):
                executor.held[child] = executor.held.get(child, 0) + 1
            elif self._arrive(child):
                ready.append(child)
        executor.clock_s += self.costs.commit_s / 2
        executor.clock_s += self.costs.releasing(task, self.costs.arguments(self.dag, task))
        executor.tries = 0
        self._take_held(executor)
        if is_big and self.settings.clusters:
            others: list[int] = []
            for child in ready:
                alike = self._has_resources(executor, child)
                (executor.local if alike else others).append(child)
            ready = others
        self._share(executor, ready)

    def _look_again(self, executor: _Executor) -> None:
        """Checks after a sleep whether tasks held back wait for no other upstream any more."""
        self._take_held(executor)
        if executor.local or executor.tries < _TRIES:
            self._go_on(executor)
            return
        # It has slept often enough: it arrives at these tasks, so that another executor can go on.
        ready = [child for child, n in executor.held.items() if self._arrive(child, n)]
        executor.held.clear()
        self._share(executor, ready)

    def _become_idle(self, executor: _Executor) -> None:
        self._push(self.linger_s, self._on_left, executor)

    def _on_left(self, executor: _Executor) -> None:
        """Gives its container back, which stays warm; the worker may be named again."""
        self.at_work -= 1
        self.idle.append((executor.needs, self.now))
        untaken = self.untaken.get(executor.needs)
        if untaken:
            self._demand(executor, untaken.popleft())
            self._start()
        else:
            self.ended[executor.needs].append(executor)

    # ---- decisions of an executor ----

    def _share(self, executor: _Executor, ready: list[int]) -> None:
        """Becomes the first ready task unless it has tasks left; invokes executors for the rest."""
        if not executor.local:
            for child in ready:
                if self._has_resources(executor, child):
                    executor.local.append(child)
                    ready.remove(child)
                    break
        executor.clock_s += self._invoke(ready)
        untaken = self.untaken.get(executor.needs)
        if not executor.local and not executor.held and untaken:
            executor.local.append(untaken.popleft())
        self._go_on(executor)
        self._start()

    def _go_on(self, executor: _Executor) -> None:
        """Runs, sleeps or becomes idle."""
        if executor.local:
            self._run(executor)
        elif executor.held:
            executor.tries += 1
            executor.clock_s += min(_FIRST_SLEEP_S * executor.tries, _LONGEST_SLEEP_S)
            self._at(executor, self._look_again)
        else:
            self._at(executor, self._become_idle)

    def _arrive(self, child: int, n: int = 1) -> bool:
        """Counts n arrivals at a task. Returns True if it waits for no more."""
        self.missing[child] -= n
        return self.missing[child] == 0

    def _take_held(self, executor: _Executor) -> None:
        """Takes the tasks that wait only for outputs this executor holds back."""
        for child, n in list(executor.held.items()):
            if self.missing[child] == n:
                executor.tries = 0
                self.missing[child] = 0
                del executor.held[child]
                executor.local.append(child)

    def _has_resources(self, executor: _Executor, task: int) -> bool:
        return self.needs[task] == executor.needs

    # ---- starts ----

    def _invoke(self, tasks: Iterable[int]) -> float:
        """Invokes an executor for each task. Returns the seconds that keep the caller busy."""
        n = sum(self._find_executor(task) for task in tasks)
        if not n:
            return 0.0
        if n < _OWN_INVOCATIONS:
            return n * self.costs.invocation_s
        return self.costs.commit_s

    def _find_executor(self, task: int) -> bool:
        """Demands an executor for the task. Returns False if it must wait until one ends."""
        needs, cap = self.needs[task], self.pool.cap
        if cap is None or self.n_executors < cap or needs not in self.ended:
            self.ended.setdefault(needs, deque())
            self._demand(_Executor(self.n_executors, needs), task)
            self.n_executors += 1
        elif self.ended[needs]:
            self._demand(self.ended[needs].popleft(), task)
        else:
            self.untaken.setdefault(needs, deque()).append(task)
            return False
        return True

    def _demand(self, executor: _Executor, task: int) -> None:
        """Takes a container for an executor: the one idle for the shortest time, or a new one."""
        executor.local.append(task)
        executor.at_hand.clear()
        keep_alive_s, cap = self.pool.keep_alive_s, self.pool.cap
        self.idle = [pair for pair in self.idle if self.now - pair[1] <= keep_alive_s]
        is_warm = False
        for pair in reversed(self.idle):
            if pair[0] == executor.needs:
                # Equal pairs are interchangeable, so `remove` may take the first of them.
                self.idle.remove(pair)
                is_warm = True
                break
        # Idle containers count towards the cap: the one that was idle for longest is ended.
        while self.idle and cap is not None and len(self.idle) + self.at_work >= cap:
            self.idle.pop(0)
        self.at_work += 1
        start = self.costs.start(executor.needs, is_warm=is_warm)
        self.starting.append((self.costs.invocation_s + start.total_s, executor))

    def _start(self) -> None:
        """Starts the executors that were demanded."""
        # Starts are scheduled after the caller's next act. At equal moments the order of scheduling
        # decides, and this is the simulator's order.
        for seconds, executor in self.starting:
            self._push(seconds, self._on_started, executor)
        self.starting.clear()

    # ---- time ----

    def _at(self, executor: _Executor, act: Callable[[_Executor], None]) -> None:
        """Schedules an act at the executor's own time."""
        self._push(executor.clock_s - self.now, act, executor)

    def _push(self, seconds: float, act: Callable[[_Executor], None], executor: _Executor) -> None:
        # Events at one moment happen in the order in which they were scheduled.
        self.serial += 1
        heapq.heappush(self.events, (self.now + seconds, self.serial, act, executor))
