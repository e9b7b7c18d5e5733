"""The interface of planners: a problem in, a plan out, no I/O and no clock."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from dagnb.graph.brief import brief
from dagnb.graph.dag import Dag
from dagnb.graph.resources import Resources
from dagnb.planning.costs import Costs
from dagnb.planning.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The workers that a plan may use, and how they come and go.

    cap: most workers at a time, None without limit.
    memory_mb: of all workers together, None without limit.
    warm: resources -> number of workers that would start at once.
    eager: the workers start at submission, as many as the cap and the steps allow, and any of
      them runs any step (processes). Otherwise a worker of the right resources starts when there
      is none for a ready task (containers).
    linger_s: seconds for which a worker without work stays with the run.
    keep_alive_s: seconds for which its container then stays warm.
    single: the process of a worker serves that one worker only, and the worker that makes a task
      ready pays for the invocation (functions as a service, as Wukong uses them).
    worker_memory_mb: of workers whose resources name no memory.
    batches: workers take several short tasks at a time, see protocol/worker.py.
    """

    cap: int | None = None
    memory_mb: int | None = None
    warm: Mapping[Resources, int] = field(default_factory=dict)
    eager: bool = True
    linger_s: float = math.inf
    keep_alive_s: float = math.inf
    single: bool = False
    worker_memory_mb: int = 1000
    batches: bool = True

    __repr__ = brief

    def memory_of(self, resources: Resources) -> int:
        """Returns the megabytes that a worker of these resources holds."""
        if resources.memory_mb is None:
            return self.worker_memory_mb
        return resources.memory_mb


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Everything a planner may know.

    percentile: the quantile of the makespan, between 0 and 1, that a planner which looks at
    scenarios minimises.
    """

    dag: Dag
    costs: Costs
    pool: Pool
    percentile: float = 0.5

    __repr__ = brief


@runtime_checkable
class Planner(Protocol):
    """Makes plans. Its dataclass fields are its settings; equal problems give equal plans."""

    @property
    def name(self) -> str:
        """The short name by which users choose it."""
        ...

    def plan(self, problem: Problem) -> Plan:
        """Returns a plan that passes Plan.check. Pure."""
        ...
