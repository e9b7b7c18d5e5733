"""One size for all workers: the one-pass assignment at the size of the shortest simulated run.

Source: the planner `uniform` of the notes this project comes from, where a run has one worker
configuration; here the size is chosen. `Costs.scaling`, learnt from past runs, says how run times
fall with CPUs and memory. Where it is unknown, all sizes count as equally fast, and the cheapest
size that gives each task what it asks for is taken.

The resources of a task's decorator are a minimum. A task gets less only if its scaling is known,
which means that it ran with less before, or if the user allows it (`may_shrink`). Packages and
network never change: tasks that differ in them stay on different workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

from dagnb.graph.dag import Dag
from dagnb.graph.resources import Resources
from dagnb.planning.plan import Plan
from dagnb.planning.planner import Problem
from dagnb_planners.one_pass import OnePass
from dagnb_planners.sweep import simulated_score

# The sizes that are tried by default, relative to what tasks ask for.
FACTORS = (0.5, 1.0, 2.0)
# An interpreter needs about so much before it does anything.
LEAST_MB = 16
UNSIZED = "no task names CPUs or memory, so there is nothing to size: the plan is that of one_pass"


@dataclass(frozen=True, slots=True, kw_only=True)
class Uniform:
    """Gives all workers one size.

    sizes: sizes to choose from; by default half, once and twice what tasks ask for.
    may_shrink: whether tasks may get less than they ask for.
    """

    name: ClassVar[str] = "uniform"

    sizes: tuple[Resources, ...] = ()
    may_shrink: bool = False

    def plan(self, problem: Problem) -> Plan:
        """Returns a plan with every step pinned, all workers of one size.

        A one-pass plan and a simulation for each size.
        """
        best = best_size(problem, self.sizes, self.may_shrink)
        if best is None:
            return replace(OnePass().plan(problem), planner=self.name, notes=(UNSIZED,))
        return replace(best, planner=self.name)


def best_size(problem: Problem, sizes: Sequence[Resources], may_shrink: bool) -> Plan | None:
    """Returns the one-pass plan of the best size; None if no task names CPUs or memory.

    A size that is too small for the tasks is enlarged to what they need.
    """
    tasks = range(len(problem.dag))
    wishes = sizes or tuple(scaled(problem, tasks))
    plans: dict[Resources, Plan] = {}
    for wish in wishes:
        # Several wishes may be too small for the tasks, and are then enlarged to the same size.
        size = fitted(problem, tasks, wish, may_shrink)
        if size not in plans:
            plans[size] = one_pass(problem, size)
    return min(plans.values(), key=partial(simulated_score, problem), default=None)


def scaled(problem: Problem, tasks: Sequence[int]) -> Iterator[Resources]:
    """Yields half, once and twice the most CPUs and the most memory that these tasks name."""
    most_cpus, most_mb = 0.0, 0
    for task in tasks:
        needs = problem.dag.calls[task].options.needs
        most_cpus = max(most_cpus, needs.cpus or 0.0)
        most_mb = max(most_mb, needs.memory_mb or 0)
    if not most_cpus and not most_mb:
        return
    for factor in FACTORS:
        cpus, memory_mb = None, None
        if most_cpus:
            cpus = most_cpus * factor
        if most_mb:
            memory_mb = max(LEAST_MB, round(most_mb * factor))
        yield Resources(cpus=cpus, memory_mb=memory_mb)


def fitted(problem: Problem, tasks: Sequence[int], wish: Resources, may_shrink: bool) -> Resources:
    """Returns the wished size, or more where one of the tasks must have more."""
    all_needs = [problem.dag.calls[task].options.needs for task in tasks]
    firm = []
    for task, needs in zip(tasks, all_needs, strict=True):
        if not may_shrink and task not in problem.costs.scaling:
            firm.append(needs)

    # A quantity that the wish leaves open is the largest that any task asks for.
    binding = all_needs if wish.cpus is None else firm
    cpus = [needs.cpus for needs in binding if needs.cpus is not None]
    if wish.cpus is not None:
        cpus.append(wish.cpus)
    memory: list[int] = []
    if wish.memory_mb is not None:
        memory = [wish.memory_mb, *map(problem.pool.memory_of, firm)]
    elif any(needs.memory_mb is not None for needs in all_needs):
        # A task that names no memory still gets at least the default of workers.
        memory = list(map(problem.pool.memory_of, all_needs))
    return Resources(cpus=max(cpus, default=None), memory_mb=max(memory, default=None))


def given(size: Resources, needs: Resources) -> Resources:
    """Returns the size, with the packages and the network of `needs`."""
    return replace(needs, cpus=size.cpus, memory_mb=size.memory_mb)


def one_pass(problem: Problem, size: Resources) -> Plan:
    """Returns the one-pass plan as if every task asked for this size, with the run times of it."""
    dag, costs = problem.dag, problem.costs
    calls, run_s = [], {}
    for task, call in enumerate(dag.calls):
        needs = call.options.needs
        options = replace(call.options, resources=given(size, needs))
        calls.append(replace(call, options=options))
        run_s[task] = costs.run(task, size.over(needs))
    # These run times are of this size already, so they must not be scaled again.
    costs = costs.with_(run_s=run_s, scaling={})
    changed = replace(problem, dag=Dag(tuple(calls), dag.sinks), costs=costs)
    return replace(OnePass().plan(changed), dag=dag)
