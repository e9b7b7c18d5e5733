"""How a planner is asked: a problem in, a plan out, no I/O and no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from dagnb.graph.dag import Dag
from dagnb.graph.resources import Resources
from dagnb.planning.costs import Costs
from dagnb.planning.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """What there is to plan for: at most `cap` workers at a time, None without limit.

    memory_mb: of all workers together, None without limit. warm: resources -> workers that would start at once.
    """

    cap: int | None = None
    memory_mb: int | None = None
    warm: Mapping[Resources, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Everything a planner may know."""

    dag: Dag
    costs: Costs
    pool: Pool


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
