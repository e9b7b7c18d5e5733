"""The planner that pins every task in one pass, by three rules for chains, fan-outs and fan-ins.

Each task is decided once and never again:

    chain    the only downstream task of a task, if it has no other upstream, stays on its worker
    fan-out  up to `keep` short tasks stay, or the shortest task if none is short. Of the others,
             the longest is paired with the shortest, and each pair gets a worker of its own. Then
             long tasks that remain get a worker each, and short ones a worker for each `keep` of
             them. The sources are a fan-out without upstream
    fan-in   a fan-in goes to the worker that holds most bytes of its inputs

Source: the simple planner of the notes this project comes from, kept as a baseline. It does not see
that a worker runs one task at a time, nor that a fan-in waits for its slowest upstream; compare it
with planners that do.
"""

from __future__ import annotations

import heapq
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from dagnb.errors import ConfigError
from dagnb.graph.dag import Dag
from dagnb.graph.resources import Resources
from dagnb.graph.shape import depth_first, sources
from dagnb.planning.plan import Plan
from dagnb.planning.planner import Problem
from dagnb_planners.placing import pinned_plan


@dataclass(frozen=True, slots=True, kw_only=True)
class OnePass:
    """Pins every step to w0, w1, ..., each worker with one kind of resources.

    short_s: tasks that run at most so long are short; None takes the median task of the DAG.
    keep: short tasks of a fan-out that stay with their upstream.
    """

    name: ClassVar[str] = "one_pass"

    short_s: float | None = None
    keep: int = 3

    def __post_init__(self) -> None:
        """Raises ConfigError for impossible settings."""
        if self.short_s is not None and not self.short_s >= 0:
            raise ConfigError(
                f"OnePass(short_s={self.short_s!r}): must be 0 s or more;"
                " leave it out for the median."
            )
        if self.keep < 1:
            raise ConfigError(
                f"OnePass(keep={self.keep!r}): at least 1 task of a fan-out stays with its"
                " upstream."
            )

    def plan(self, problem: Problem) -> Plan:
        """Returns one pinned step for each task. O(tasks log tasks + edges).

        Takes at most `pool.cap` workers, or one for each resources.
        """
        walk = _Assignment(problem, self)
        walk.run()
        return pinned_plan(problem.dag, self.name, walk.number, depth_first(problem.dag))


class _Assignment:
    """The pass over the DAG. number: task -> number of its worker, -1 before it is decided."""

    def __init__(self, problem: Problem, settings: OnePass) -> None:
        self.dag: Dag = problem.dag
        self.costs = problem.costs
        self.run_s = [problem.costs.run(task) for task in range(len(problem.dag))]
        self.keep = settings.keep
        short_s = settings.short_s
        self.short_s = statistics.median(self.run_s) if short_s is None else short_s
        self.needs: list[Resources] = [call.options.needs for call in problem.dag.calls]
        self.number = [-1] * len(problem.dag)
        self.workers = _Workers(problem.pool.cap)

    def run(self) -> None:
        """Decides on every task, upstream before downstream."""
        self.share_out(sources(self.dag), upstream=None)
        for task, downstream in enumerate(self.dag.downstream):
            if self.number[task] < 0:
                self.join(task)
            alone = [d for d in downstream if len(self.dag.calls[d].upstream) == 1]
            is_chain = len(downstream) == 1 and len(alone) == 1
            if is_chain and self.needs[alone[0]] == self.needs[task]:
                self.put(alone[0], self.number[task])
            else:
                self.share_out(alone, upstream=task)

    def join(self, task: int) -> None:
        """Puts a fan-in on the worker that holds most bytes of its inputs.

        Ties go to the worker of the first input.
        """
        held: dict[int, int] = {}
        for u in self.dag.calls[task].upstream:
            if self.needs[u] == self.needs[task]:
                number = self.number[u]
                held[number] = held.get(number, 0) + self.costs.output(u)
        if held:
            self.put(task, max(held, key=held.__getitem__))
        else:
            self.put(task, self.workers.another(self.needs[task]))

    def share_out(self, tasks: Sequence[int], upstream: int | None) -> None:
        """Distributes the tasks of a fan-out over workers, separately for each resources.

        upstream: the task before the fan-out. Only tasks of the same resources may stay with it.
        """
        groups: dict[Resources, list[int]] = {}
        for task in tasks:
            groups.setdefault(self.needs[task], []).append(task)
        for needs, alike in groups.items():
            alike.sort(key=lambda task: (self.run_s[task], task))
            if upstream is not None and needs == self.needs[upstream]:
                # At least one task stays, because its input is on that worker already.
                n_staying = self.n_short(alike[: self.keep]) or 1
                for task in alike[:n_staying]:
                    self.put(task, self.number[upstream])
                alike = alike[n_staying:]
            for group in self.groups(alike):
                number = self.workers.another(needs)
                for task in group:
                    self.put(task, number)

    def groups(self, by_length: Sequence[int]) -> Iterator[Sequence[int]]:
        """Yields pairs of longest and shortest, then the rest: long ones alone, short by `keep`."""
        n_short = self.n_short(by_length)
        short = by_length[:n_short]
        long = sorted(by_length[n_short:], key=lambda task: (-self.run_s[task], task))
        n_pairs = min(len(short), len(long))
        yield from zip(long, short, strict=False)
        for task in long[n_pairs:]:
            yield (task,)
        for begin in range(n_pairs, len(short), self.keep):
            yield short[begin : begin + self.keep]

    def n_short(self, tasks: Sequence[int]) -> int:
        """Returns how many of these tasks are short."""
        return sum(self.run_s[task] <= self.short_s for task in tasks)

    def put(self, task: int, number: int) -> None:
        """Puts the task on this worker."""
        self.number[task] = number
        self.workers.add_load(number, self.needs[task], self.run_s[task])


class _Workers:
    """The workers named so far. At the cap the least loaded of the same resources is reused."""

    def __init__(self, cap: int | None) -> None:
        self.cap = cap
        self.load_s: list[float] = []
        # Resources -> (load, number), a heap with outdated entries in it.
        self.queues: dict[Resources, list[tuple[float, int]]] = {}

    def another(self, needs: Resources) -> int:
        """Returns a new worker's number, or at the cap an old one's. O(log tasks), amortised."""
        if self.cap is None or len(self.load_s) < self.cap or needs not in self.queues:
            self.load_s.append(0.0)
            self.queues.setdefault(needs, [])
            return len(self.load_s) - 1
        queue = self.queues[needs]
        # An entry is outdated when its worker was given more tasks since; a later entry is right.
        while queue[0][0] < self.load_s[queue[0][1]]:
            heapq.heappop(queue)
        return queue[0][1]

    def add_load(self, number: int, needs: Resources, run_s: float) -> None:
        """Adds a task's time to its worker."""
        self.load_s[number] += run_s
        heapq.heappush(self.queues[needs], (self.load_s[number], number))
