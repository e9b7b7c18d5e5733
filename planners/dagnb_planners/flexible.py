"""The planner that pins nothing: whoever finishes a task goes on with what became ready.

Source: WUKONG. Carver, Zhang, Wang, Anwar, Wu, Cheng: "Wukong: a scalable and locality-enhanced framework for
serverless parallel computing", SoCC 2020, doi:10.1145/3419111.3421286. There each executor walks the DAG depth first
from a source, goes on with one ready downstream task, hands over the others, and the last to arrive at a fan-in
goes on. Floating steps behave so without any plan; what is left to decide is the order of what is ready.

That order is the depth-first one of `dagnb.graph.shape`: a worker goes on downwards, to what its branch of the DAG
needs next, before anybody opens another branch. So values are consumed soon after they are made and the store stays
small; level by level would make every value of a level before the first is read. The longest way to a sink first
(HEFT) would need costs, which a planner without history does not have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dagnb.graph.shape import depth_first
from dagnb.planning.plan import Plan, Step
from dagnb.planning.planner import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Flexible:
    """Every step floats, in the pool of its task's resources; ready steps go in depth-first order."""

    name: ClassVar[str] = "flexible"

    def plan(self, problem: Problem) -> Plan:
        """One floating step a task. O(tasks + edges)."""
        dag = problem.dag
        steps = tuple(
            Step(task=i, upstream=call.upstream, resources=call.options.needs, priority=number)
            for i, (call, number) in enumerate(zip(dag.calls, depth_first(dag), strict=True))
        )
        return Plan(dag=dag, steps=steps, planner=self.name)
