"""A size for each worker: the best for all, then smaller ones for workers that the end of the run does not wait for.

Source: the planner `non_uniform` of the notes this project comes from: the best configuration first, then downgrades
off the critical path while the run gets no longer. There each worker was tried in turn; here all of them at once, and
in halves where that is too much, so that a plan of thousands of workers takes some tens of simulations, not thousands.
Then those on the critical path, whose tasks may be no slower with less.
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
from dagnb_planners.sweep import score
from dagnb_planners.uniform import UNSIZED, fitted, given, scaled, sized

_SLIP = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class NonUniform:
    """sizes, may_shrink: as of Uniform. epsilon: the run may get so much longer. tries: simulations of smaller ones."""

    name: ClassVar[str] = "non_uniform"

    sizes: tuple[Resources, ...] = ()
    may_shrink: bool = False
    epsilon: float = 0.02
    tries: int = 40

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        if not (self.epsilon >= 0 and math.isfinite(self.epsilon)):
            raise ConfigError(
                f"NonUniform(epsilon={self.epsilon!r}): must be 0 or more; 0.02 allows 2 % more time."
            )
        if self.tries < 0:
            raise ConfigError(f"NonUniform(tries={self.tries!r}): must be 0 simulations or more.")

    def plan(self, problem: Problem) -> Plan:
        """Every step pinned. A one-pass plan and a simulation a size, then `tries` simulations."""
        plans = list(sized(problem, self.sizes, self.may_shrink))
        if not plans:
            return replace(OnePass().plan(problem), planner=self.name, notes=(UNSIZED,))
        best = min(plans, key=lambda plan: score(outcome(plan, problem.costs, problem.pool)))
        return replace(_Downgrades(problem, best, self).plan, planner=self.name)


class _Downgrades:
    """plan: with the smaller workers that are accepted so far."""

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
        groups: list[Sequence[str]] = [
            [worker for worker in self.tasks if worker not in critical],
            list(critical),
        ]
        while groups and self.left:
            groups.extend(self._halves(groups.pop(0)))

    def _halves(self, workers: Sequence[str]) -> Iterator[Sequence[str]]:
        """Make these smaller; where that is too much, what to try instead."""
        changes = {
            worker: size for worker in workers if (size := self._smaller(worker)) is not None
        }
        if not changes:
            return
        self.left -= 1
        steps = (
            replace(step, resources=changes.get(step.worker or "", step.resources))
            for step in self.plan.steps
        )
        tried = replace(self.plan, steps=tuple(steps))
        result = outcome(tried, self.problem.costs, self.problem.pool)
        if result.makespan_s <= self.limit_s and result.gb_s < self.gb_s:
            self.plan, self.gb_s = tried, result.gb_s
            yield list(changes)  # a size smaller still
        elif len(changes) > 1:
            names = list(changes)
            yield names[: len(names) // 2]
            yield names[len(names) // 2 :]

    def _smaller(self, worker: str) -> Resources | None:
        """The next size below that of the worker that its tasks can do with."""
        tasks = self.tasks[worker]
        present = self.plan.steps[tasks[0]].resources
        wishes = self.settings.sizes or tuple(scaled(self.problem, tasks))
        fits = (fitted(self.problem, tasks, wish, self.settings.may_shrink) for wish in wishes)
        sizes = {given(size, present) for size in fits}
        below = [size for size in sizes if size != present and _size(size) < _size(present)]
        return max(below, key=_size, default=None)


def _size(resources: Resources) -> tuple[float, float]:
    return resources.memory_mb or 0, resources.cpus or 0.0
