"""The plan as an execution graph: steps compute tasks, and edges carry values between steps.

Copies of a task are steps of their own. A step without a worker is *floating*: any member of the
pool of its resources may take it. A step with a worker is *pinned*. Any assignment can be executed:
a worker is started when a step that is pinned to it becomes ready.
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
    """The way a value travels along an edge. STORE always works; the others are requests.

    A worker honours a request when it can.
    """

    STORE = "store"
    INLINE = "inline"
    LOCAL = "local"
    STREAM = "stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One node of the execution graph: the computation of one task of the DAG.

    task: position in Dag.calls. worker: its name, or None for floating.
    priority: of the ready steps of a worker, the smallest number runs first.
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
    """Terms of one worker: how long it may linger idle before it leaves, seconds."""

    linger_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prewarm:
    """A request to start `n` containers of these resources before they are needed.

    They start `offset_s` after task `anchor` (a position in the DAG; None: at submission).
    """

    resources: Resources
    anchor: int | None = None
    offset_s: float = 0.0
    n: int = 1


@dataclass(frozen=True, kw_only=True)
class Plan(Shown):
    """The assignment of steps to workers, in topological order; each sink of the DAG has a step.

    ways: (upstream step, step) -> how the value travels, for edges that do not go through the
    store.
    problem: what the plan was made for, if known: then its picture shows times.
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
        """The step that computes each sink of the DAG, in the order of the sinks.

        Of several copies it is the first.
        """
        first: dict[int, int] = {}
        for position, step in enumerate(self.steps):
            first.setdefault(step.task, position)
        return tuple(first[task] for task in self.dag.sinks)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The name of each step: its task's, with ' for each copy after the first."""
        n_copies: dict[int, int] = {}
        names = []
        for step in self.steps:
            n_before = n_copies.get(step.task, 0)
            names.append(self.dag.calls[step.task].name + "'" * n_before)
            n_copies[step.task] = n_before + 1
        return tuple(names)

    def __repr__(self) -> str:
        """Returns the number of tasks, the workers, and the makespan where it is known."""
        text = f"<plan by {cut(self.planner, 40)}: {number(len(self.steps), 'task')}, "
        if self.is_floating:
            text += "any free worker takes the next"
        else:
            n_workers = len({step.worker for step in self.steps} - {None})
            text += f"on {number(n_workers, 'worker')}"

        # Only the client can simulate, and printing a plan in a worker must not import it.
        loaded = loaded_client()
        predicted_s = loaded.predicted_s(self) if loaded is not None else None
        if predicted_s is not None:
            text += f", predicted makespan {predicted_s:.4g} s"
        return text + ">"

    @property
    def is_floating(self) -> bool:
        """True if no step is pinned to a worker."""
        return all(step.worker is None for step in self.steps)

    def way(self, upstream: int, step: int) -> Way:
        """Returns the way in which the value of one step reaches another."""
        return self.ways.get((upstream, step), Way.STORE)

    def check(self, dag: Dag | None = None) -> tuple[Advice, ...]:
        """Returns advice on workers that idle or start again.

        Raises InvalidPlanError when the plan does not fit the DAG.
        """
        return check(self, dag or self.dag)

    def to_svg(self) -> str:
        """Returns the planning image, to be kept in a file.

        Raises ConfigError, with the cure, where nothing can draw.
        """
        shown = client().show(self)
        if "image/svg+xml" not in shown:
            # The last paragraph of the text says why there is no picture, with the cure.
            raise ConfigError(shown["text/plain"].rpartition("\n\n")[2])
        return shown["image/svg+xml"]
