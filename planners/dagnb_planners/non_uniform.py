"""A size for each worker: the best size for all, then smaller ones where the run is not delayed.

    all workers of the best size
      -> smaller for all workers off the critical path at once; if too much, for each half of them
      -> the same on the critical path, whose tasks may be no slower with less

Source: the planner `non_uniform` of the notes this project comes from: the best configuration
first, then downgrades off the critical path as long as the run does not become longer. There each
worker was tried in turn. Trying halves takes some tens of simulations for a plan of thousands of
workers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from dagnb.errors import ConfigError
from dagnb.graph.resources import Resources
from dagnb.graph.shape import critical_path
from dagnb.planning.plan import Plan
from dagnb.planning.planner import Problem
from dagnb.simulation.simulate import outcome
from dagnb_planners.one_pass import OnePass
from dagnb_planners.ranks import RankPrices
from dagnb_planners.uniform import UNSIZED, best_size, fitted, given, scaled

# Equal runs may differ by rounding.
_SLIP = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class NonUniform:
    """Gives each worker a size of its own.

    sizes, may_shrink: see Uniform. epsilon: share by which the run may become longer, 0.02 for 2 %.
    tries: number of simulations with smaller sizes.
    """

    name: ClassVar[str] = "non_uniform"

    sizes: tuple[Resources, ...] = ()
    may_shrink: bool = False
    epsilon: float = 0.02
    tries: int = 40

    def __post_init__(self) -> None:
        """Raises ConfigError for impossible settings."""
        if not (self.epsilon >= 0 and math.isfinite(self.epsilon)):
            raise ConfigError(
                f"NonUniform(epsilon={self.epsilon!r}): must be 0 or more; 0.02 allows 2 % more"
                " time."
            )
        if self.tries < 0:
            raise ConfigError(f"NonUniform(tries={self.tries!r}): must be 0 simulations or more.")

    def plan(self, problem: Problem) -> Plan:
        """Returns a plan with every step pinned.

        A one-pass plan and a simulation for each size, then `tries` simulations.
        """
        best = best_size(problem, self.sizes, self.may_shrink)
        if best is None:
            return replace(OnePass().plan(problem), planner=self.name, notes=(UNSIZED,))
        return replace(_Downgrades(problem, best, self).plan, planner=self.name)


class _Downgrades:
    """Makes the workers of a plan smaller. plan: the plan with all changes accepted so far."""

    def __init__(self, problem: Problem, plan: Plan, settings: NonUniform) -> None:
        self.problem, self.plan, self.settings = problem, plan, settings
        self.tasks: dict[str, list[int]] = {}
        for step in plan.steps:
            self.tasks.setdefault(step.worker or "", []).append(step.task)
        result = outcome(plan, problem.costs, problem.pool)
        self.limit_s = result.makespan_s * (1 + settings.epsilon) * (1 + _SLIP)
        self.gb_s, self.left = result.gb_s, settings.tries

        path = critical_path(problem.dag, RankPrices(problem).busy.__getitem__)
        critical = dict.fromkeys(plan.steps[task].worker or "" for task in path)
        others = [worker for worker in self.tasks if worker not in critical]
        # Workers that most likely have slack come first.
        groups: list[Sequence[str]] = [others, list(critical)]
        while groups and self.left:
            groups.extend(self._try_smaller(groups.pop(0)))

    def _try_smaller(self, workers: Sequence[str]) -> Iterator[Sequence[str]]:
        """Makes these workers smaller if the run stays short enough.

        Yields the groups of workers to try next.
        """
        changes = {}
        for worker in workers:
            size = self._smaller(worker)
            if size is not None:
                changes[worker] = size
        if not changes:
            return

        self.left -= 1
        steps = []
        for step in self.plan.steps:
            size = changes.get(step.worker or "", step.resources)
            steps.append(replace(step, resources=size))
        tried = replace(self.plan, steps=tuple(steps))
        result = outcome(tried, self.problem.costs, self.problem.pool)
        names = list(changes)
        if result.makespan_s <= self.limit_s and result.gb_s < self.gb_s:
            self.plan, self.gb_s = tried, result.gb_s
            # These workers may fit a still smaller size.
            yield names
        elif len(names) > 1:
            yield names[: len(names) // 2]
            yield names[len(names) // 2 :]

    def _smaller(self, worker: str) -> Resources | None:
        """Returns the next size below that of the worker on which its tasks fit, or None."""
        tasks = self.tasks[worker]
        present = self.plan.steps[tasks[0]].resources
        below = set()
        for wish in self.settings.sizes or tuple(scaled(self.problem, tasks)):
            fit = fitted(self.problem, tasks, wish, self.settings.may_shrink)
            size = given(fit, present)
            if size != present and _size(size) < _size(present):
                below.add(size)
        return max(below, key=_size, default=None)


def _size(resources: Resources) -> tuple[float, float]:
    return resources.memory_mb or 0, resources.cpus or 0.0
