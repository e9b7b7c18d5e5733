"""How a planner is asked: a problem in, a plan out, no I/O and no clock."""

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
    """What there is to plan for, and how workers come and go there.

    cap: workers at a time, None without limit. memory_mb: of all workers together, None without limit.
    warm: resources -> workers that would start at once.
    eager: the workers start at submission, as many as the cap and the steps allow, and any of them runs any step
    (processes). Otherwise a worker of the right resources starts when a ready task finds none (containers).
    linger_s: a worker without work stays with the run for so long. keep_alive_s: then its container stays warm so long.
    single: a worker's process serves that one worker only, and whoever makes a task ready pays for the invocation
    (functions as a service, as Wukong uses them). worker_memory_mb: of workers whose resources name no memory.
    """

    cap: int | None = None
    memory_mb: int | None = None
    warm: Mapping[Resources, int] = field(default_factory=dict)
    eager: bool = True
    linger_s: float = math.inf
    keep_alive_s: float = math.inf
    single: bool = False
    worker_memory_mb: int = 1000

    __repr__ = brief

    def memory_of(self, resources: Resources) -> int:
        """Megabytes that a worker of these resources holds."""
        return resources.memory_mb if resources.memory_mb is not None else self.worker_memory_mb


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Everything a planner may know.

    percentile: the quantile of the makespan that a planner which looks at scenarios minimises, between 0 and 1.
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
        """The short name users choose it by."""
        ...

    def plan(self, problem: Problem) -> Plan:
        """A plan that passes Plan.check. Pure."""
        ...
