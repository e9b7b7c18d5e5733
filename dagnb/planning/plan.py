"""The plan as an execution graph: steps compute tasks, copies of a task are steps of their own, edges carry values.

A step without a worker is *floating*: any member of the pool of its resources may take it. A step with one is
*pinned*: any assignment at all runs; leases answer whether the worker is active.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING

from dagnb.errors import ConfigError
from dagnb.graph.brief import brief, cut, number
from dagnb.graph.client_hook import Shown, client, loaded_client
from dagnb.graph.dag import Dag
from dagnb.graph.resources import DEFAULT, Resources
from dagnb.planning.check import Advice, check

if TYPE_CHECKING:
    from dagnb.planning.planner import Problem


class Way(StrEnum):
    """How a value travels along an edge. STORE always works; the others are wishes a worker honours when it can."""

    STORE = "store"
    INLINE = "inline"
    LOCAL = "local"
    STREAM = "stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One node of the execution graph: who computes task number `task` of the DAG, when, from which steps' values.

    worker: its name, or None for floating. priority: the smallest ready number of a worker goes first.
    upstream: positions in Plan.steps, parallel to the task's upstream in the DAG.
    """

    task: int
    upstream: tuple[int, ...] = ()
    worker: str | None = None
    resources: Resources = DEFAULT
    priority: int = 0

    __repr__ = brief


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerTerms:
    """What a plan says of one worker: how long it may linger idle before it leaves, seconds."""

    linger_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prewarm:
    """Start `n` containers of these resources, `offset_s` after task `anchor` (a DAG position; None: at submission)."""

    resources: Resources
    anchor: int | None = None
    offset_s: float = 0.0
    n: int = 1


@dataclass(frozen=True, kw_only=True)
class Plan(Shown):
    """Who runs what. Steps stand in topological order; every sink of the DAG has at least one step.

    ways: (upstream step, step) -> how the value travels, for edges that do not go through the store.
    problem: what it was made for, where that is known: then its picture tells times.
    """

    dag: Dag
    steps: tuple[Step, ...]
    planner: str
    ways: Mapping[tuple[int, int], Way] = field(default_factory=lambda: MappingProxyType({}))
    workers: Mapping[str, WorkerTerms] = field(default_factory=lambda: MappingProxyType({}))
    prewarms: tuple[Prewarm, ...] = ()
    notes: tuple[str, ...] = ()
    problem: Problem | None = field(default=None, compare=False, repr=False)

    @cached_property
    def downstream(self) -> tuple[tuple[int, ...], ...]:
        """Positions of the steps that read each step, ascending."""
        lists: list[list[int]] = [[] for _ in self.steps]
        for position, step in enumerate(self.steps):
            for u in step.upstream:
                lists[u].append(position)
        return tuple(map(tuple, lists))

    @cached_property
    def sinks(self) -> tuple[int, ...]:
        """The step that gives each sink of the DAG, in the order of the sinks: the first step of its task."""
        first: dict[int, int] = {}
        for position, step in enumerate(self.steps):
            first.setdefault(step.task, position)
        return tuple(first[task] for task in self.dag.sinks)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The name of each step: its task's, with ' for each copy after the first."""
        seen: dict[int, int] = {}
        names = []
        for step in self.steps:
            copy = seen.get(step.task, 0)
            names.append(self.dag.calls[step.task].name + "'" * copy)
            seen[step.task] = copy + 1
        return tuple(names)

    def __repr__(self) -> str:
        """How many tasks, who runs them, how long it will take where that is known: short for any size."""
        workers = len({step.worker for step in self.steps} - {None})
        where = f"on {number(workers, 'worker')}"
        if self.is_floating:
            where = "any free worker takes the next"
        loaded = loaded_client()
        predicted_s = loaded.predicted_s(self) if loaded is not None else None
        makespan = "" if predicted_s is None else f", predicted makespan {predicted_s:.4g} s"
        return f"<plan by {cut(self.planner, 40)}: {number(len(self.steps), 'task')}, {where}{makespan}>"

    @property
    def is_floating(self) -> bool:
        """Whether no step is pinned to a worker."""
        return all(step.worker is None for step in self.steps)

    def way(self, upstream: int, step: int) -> Way:
        """How the value of one step reaches another."""
        return self.ways.get((upstream, step), Way.STORE)

    def check(self, dag: Dag | None = None) -> tuple[Advice, ...]:
        """Advice on workers that idle or start again. Raises InvalidPlanError when the plan does not fit the DAG."""
        return check(self, dag or self.dag)

    def to_svg(self) -> str:
        """The planning image, to be kept in a file. Raises ConfigError where nothing can draw, with the cure."""
        shown = client().show(self)
        if "image/svg+xml" not in shown:
            raise ConfigError(shown["text/plain"].rpartition("\n\n")[2])
        return shown["image/svg+xml"]
