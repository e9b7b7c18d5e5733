"""One size for all workers: the one-pass assignment at the size at which the simulated run is shortest.

Source: the planner `uniform` of the notes this project comes from, where a run has one worker configuration; here the
size is chosen. What a size is worth is learnt: `Costs.scaling` says how run times fall with CPUs and memory. Where
nothing of that is known all sizes are equally fast, and the cheapest that gives each task what it asks for is taken.

What a task's decorator asks for is a minimum. Less is given only where its scaling is known, which means that it ran
with less before, or where the user says so (`may_shrink`). Packages and network are never changed: workers of different
ones stay different workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from dagnb.graph.dag import Dag
from dagnb.graph.resources import Resources
from dagnb.planning.plan import Plan
from dagnb.planning.planner import Problem
from dagnb.simulation.simulate import outcome
from dagnb_planners.one_pass import OnePass
from dagnb_planners.sweep import score

FACTORS = (0.5, 1.0, 2.0)
LEAST_MB = 16
UNSIZED = "no task names CPUs or memory, so there is nothing to size: the plan is that of one_pass"


@dataclass(frozen=True, slots=True, kw_only=True)
class Uniform:
    """sizes: to choose from; none takes half, once, twice what tasks ask for. may_shrink: give less than asked for."""

    name: ClassVar[str] = "uniform"

    sizes: tuple[Resources, ...] = ()
    may_shrink: bool = False

    def plan(self, problem: Problem) -> Plan:
        """Every step pinned, all workers of one size. A one-pass plan and a simulation a size."""
        plans = list(sized(problem, self.sizes, self.may_shrink))
        if not plans:
            return replace(OnePass().plan(problem), planner=self.name, notes=(UNSIZED,))
        best = min(plans, key=lambda plan: score(outcome(plan, problem.costs, problem.pool)))
        return replace(best, planner=self.name)


def sized(problem: Problem, sizes: Sequence[Resources], may_shrink: bool) -> Iterator[Plan]:
    """A one-pass plan of each size, as large as the tasks need it at least. None where nothing names a size."""
    tasks = range(len(problem.dag))
    found = (
        fitted(problem, tasks, wish, may_shrink) for wish in sizes or tuple(scaled(problem, tasks))
    )
    for size in dict.fromkeys(found):
        yield one_pass(problem, size)


def scaled(problem: Problem, tasks: Sequence[int]) -> Iterator[Resources]:
    """Half, once and twice the most CPUs and the most memory that these tasks name."""
    asked = [problem.dag.calls[task].options.needs for task in tasks]
    cpus = max((needs.cpus for needs in asked if needs.cpus is not None), default=None)
    memory_mb = max(
        (needs.memory_mb for needs in asked if needs.memory_mb is not None), default=None
    )
    for factor in FACTORS if cpus is not None or memory_mb is not None else ():
        yield Resources(
            cpus=cpus * factor if cpus is not None else None,
            memory_mb=max(LEAST_MB, round(memory_mb * factor)) if memory_mb is not None else None,
        )


def fitted(problem: Problem, tasks: Sequence[int], wish: Resources, may_shrink: bool) -> Resources:
    """The size, or more where one of the tasks must have more.

    A task that names no memory was to have what workers have by default; where others name some it still has that.
    """
    asked = {task: problem.dag.calls[task].options.needs for task in tasks}
    scaling = problem.costs.scaling
    firm = [needs for task, needs in asked.items() if not may_shrink and task not in scaling]
    cpus = [
        needs.cpus
        for needs in (firm if wish.cpus is not None else asked.values())
        if needs.cpus is not None
    ]
    if wish.cpus is not None:
        cpus.append(wish.cpus)
    if wish.memory_mb is not None:
        memory = [wish.memory_mb, *map(problem.pool.memory_of, firm)]
    elif any(needs.memory_mb is not None for needs in asked.values()):
        memory = [problem.pool.memory_of(needs) for needs in asked.values()]
    else:
        memory = []
    return Resources(cpus=max(cpus, default=None), memory_mb=max(memory, default=None))


def given(size: Resources, asked: Resources) -> Resources:
    """The size, with the packages and the network that are asked for."""
    return replace(asked, cpus=size.cpus, memory_mb=size.memory_mb)


def one_pass(problem: Problem, size: Resources) -> Plan:
    """The one-pass plan if every task asked for this size and took as long as it would with it."""
    dag, costs = problem.dag, problem.costs
    asked = [call.options.needs for call in dag.calls]
    calls = tuple(
        replace(call, options=replace(call.options, resources=given(size, needs)))
        for call, needs in zip(dag.calls, asked, strict=True)
    )
    run_s = {task: costs.run(task, size.over(needs)) for task, needs in enumerate(asked)}
    changed = replace(
        problem, dag=Dag(calls, dag.sinks), costs=costs.with_(run_s=run_s, scaling={})
    )
    return replace(OnePass().plan(changed), dag=dag)
