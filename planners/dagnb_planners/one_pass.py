"""The planner that pins every task in one walk: chains stay, fan-outs are shared out, fan-ins go to the data.

Three rules, each task decided once and never again:

    chain    the only downstream of a task, if it has no other upstream, stays on the worker of its upstream
    fan-out  up to `keep` short tasks stay, or the shortest if none is short; of the others the longest is paired with
             the shortest, each pair on a worker of its own; then long ones go alone, short ones by `keep`; the
             sources are a fan-out of nobody
    fan-in   to the worker that holds most bytes of the inputs

Source: the simple planner of the notes this project comes from, kept as a baseline. It does not see that a worker
runs one task at a time, nor that a fan-in waits for its slowest upstream; compare it with planners that do.
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
from dagnb.planning.plan import Plan, Step
from dagnb.planning.planner import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class OnePass:
    """Every step pinned to w0, w1, ..., each worker of one kind of resources.

    short_s: tasks that run at most so long are short; None takes the median task of the DAG.
    keep: how many short tasks of a fan-out stay with their upstream.
    """

    name: ClassVar[str] = "one_pass"

    short_s: float | None = None
    keep: int = 3

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        if self.short_s is not None and not self.short_s >= 0:
            raise ConfigError(
                f"OnePass(short_s={self.short_s!r}): must be 0 s or more; leave it out for the median."
            )
        if self.keep < 1:
            raise ConfigError(
                f"OnePass(keep={self.keep!r}): at least 1 task of a fan-out stays with its upstream."
            )

    def plan(self, problem: Problem) -> Plan:
        """One pinned step a task; at most `pool.cap` workers or one a kind of resources. O(tasks log tasks + edges)."""
        placed = _Placing(problem, self)
        placed.walk()
        numbers = depth_first(problem.dag)
        steps = tuple(
            Step(
                task=i,
                upstream=call.upstream,
                worker=f"w{placed.worker[i]}",
                resources=needs,
                priority=numbers[i],
            )
            for i, (call, needs) in enumerate(zip(problem.dag.calls, placed.needs, strict=True))
        )
        return Plan(dag=problem.dag, steps=steps, planner=self.name)


class _Placing:
    """The walk's memory. `worker`: position -> worker number, -1 before it is decided."""

    def __init__(self, problem: Problem, settings: OnePass) -> None:
        self.dag: Dag = problem.dag
        self.costs = problem.costs
        self.run_s = [problem.costs.run(i) for i in range(len(problem.dag))]
        self.short_s = (
            statistics.median(self.run_s) if settings.short_s is None else settings.short_s
        )
        self.keep = settings.keep
        self.needs: list[Resources] = [call.options.needs for call in problem.dag.calls]
        self.worker = [-1] * len(problem.dag)
        self.crew = _Crew(problem.pool.cap)

    def walk(self) -> None:
        self.share_out(sources(self.dag), home=None)
        for task, downstream in enumerate(self.dag.downstream):
            if self.worker[task] < 0:
                self.join(task)
            alone = [d for d in downstream if len(self.dag.calls[d].upstream) == 1]
            if len(downstream) == 1 and alone and self.needs[alone[0]] == self.needs[task]:
                self.put(alone[0], self.worker[task])
            else:
                self.share_out(alone, home=task)

    def join(self, task: int) -> None:
        """Put a fan-in where most bytes of its inputs are; of equal workers the one of the first input."""
        held: dict[int, int] = {}
        for u in self.dag.calls[task].upstream:
            if self.needs[u] == self.needs[task]:
                held[self.worker[u]] = held.get(self.worker[u], 0) + self.costs.output(u)
        self.put(
            task, max(held, key=lambda w: held[w]) if held else self.crew.another(self.needs[task])
        )

    def share_out(self, tasks: Sequence[int], home: int | None) -> None:
        """Share a fan-out out, each kind of resources for itself; only tasks of its upstream's kind may stay."""
        kinds: dict[Resources, list[int]] = {}
        for task in tasks:
            kinds.setdefault(self.needs[task], []).append(task)
        for needs, same in kinds.items():
            same.sort(key=lambda i: (self.run_s[i], i))
            if home is not None and needs == self.needs[home]:
                staying = sum(self.run_s[i] <= self.short_s for i in same[: self.keep]) or 1
                for task in same[:staying]:
                    self.put(task, self.worker[home])
                same = same[staying:]
            for group in self.groups(same):
                worker = self.crew.another(needs)
                for task in group:
                    self.put(task, worker)

    def groups(self, by_length: Sequence[int]) -> Iterator[Sequence[int]]:
        """Pairs of longest and shortest, then what is left: long ones alone, short ones by `keep`."""
        n_short = sum(self.run_s[i] <= self.short_s for i in by_length)
        short, long = (
            by_length[:n_short],
            sorted(by_length[n_short:], key=lambda i: (-self.run_s[i], i)),
        )
        pairs = min(len(short), len(long))
        yield from zip(long, short, strict=False)
        yield from ((task,) for task in long[pairs:])
        for begin in range(pairs, len(short), self.keep):
            yield short[begin : begin + self.keep]

    def put(self, task: int, worker: int) -> None:
        self.worker[task] = worker
        self.crew.load(worker, self.needs[task], self.run_s[task])


class _Crew:
    """The workers named so far. Where no more may be named, the least loaded of the same resources is named again."""

    def __init__(self, cap: int | None) -> None:
        self.cap = cap
        self.load_s: list[float] = []
        self.queues: dict[Resources, list[tuple[float, int]]] = {}

    def another(self, needs: Resources) -> int:
        """A fresh worker's number, or at the cap an old one's. O(log tasks), amortised."""
        if self.cap is None or len(self.load_s) < self.cap or needs not in self.queues:
            self.load_s.append(0.0)
            self.queues.setdefault(needs, [])
            return len(self.load_s) - 1
        queue = self.queues[needs]
        while queue[0][0] < self.load_s[queue[0][1]]:
            heapq.heappop(queue)  # this worker was given more since; its later entry tells
        return queue[0][1]

    def load(self, worker: int, needs: Resources, run_s: float) -> None:
        """Count a task's time to its worker."""
        self.load_s[worker] += run_s
        heapq.heappush(self.queues[needs], (self.load_s[worker], worker))
