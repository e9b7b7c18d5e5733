"""The planner that pins nothing: a worker that finishes a task goes on with what became ready.

Source: Carver, Zhang, Wang, Anwar, Wu, Cheng, "Wukong: a scalable and locality-enhanced framework
for serverless parallel computing", SoCC 2020, doi:10.1145/3419111.3421286. There each executor
walks the DAG depth first from a source, goes on with one ready downstream task, and hands over the
others. The executor that arrives last at a fan-in goes on with it. Floating steps behave so without
any plan; only the order of ready tasks is left to decide.

That order is the depth-first order of `dagnb.graph.shape`: a worker finishes the branch of the DAG
that it began before it begins another one. So values are read soon after they are stored,
and the store stays small; level by level, every value of a level would be stored before the first
is read. HEFT's order, the longest way to a sink first, would need costs, which a planner without
history does not have.

A value with one reader stays with the worker that computes it, see `dagnb.planning.kept`: in a
chain, and in a tree as far as one worker has all inputs of a task.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dagnb.graph.shape import depth_first
from dagnb.planning.kept import with_kept_results
from dagnb.planning.plan import Plan, Step
from dagnb.planning.planner import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Flexible:
    """Leaves every step floating, in the pool of its resources; ready steps go depth first."""

    name: ClassVar[str] = "flexible"
    needs_costs: ClassVar[bool] = False

    def plan(self, problem: Problem) -> Plan:
        """Returns one floating step for each task. O(tasks + edges)."""
        dag = problem.dag
        numbers = depth_first(dag)
        needs = dag.needs
        steps = []
        for task, call in enumerate(dag.calls):
            reads, number = call.upstream, numbers[task]
            step = Step(task=task, upstream=reads, resources=needs[task], priority=number)
            steps.append(step)
        return with_kept_results(Plan(dag=dag, steps=tuple(steps), planner=self.name))
