"""The planner that pins nothing."""

from __future__ import annotations

from dagnb_planners.flexible import Flexible

from dagnb.graph.dag import Call, Dag
from dagnb.graph.options import TaskOptions
from dagnb.graph.resources import DEFAULT, Resources
from dagnb.planning.planner import Costs, Pool, Problem
from tests import graphs


def priorities(dag: Dag) -> dict[str, int]:
    plan = Flexible().plan(Problem(dag=dag, costs=Costs(), pool=Pool()))
    return {dag.calls[step.task].name: step.priority for step in plan.steps}


def test_every_step_floats_in_the_pool_of_its_tasks_resources() -> None:
    big = Resources(memory_mb=4_000)
    dag = Dag(
        (
            Call(name="a", function="a"),
            Call(name="b", function="b", upstream=(0,), options=TaskOptions(resources=big)),
        ),
        (1,),
    )

    plan = Flexible().plan(Problem(dag=dag, costs=Costs(), pool=Pool()))

    assert plan.is_floating
    assert [step.resources for step in plan.steps] == [DEFAULT, big]
    assert plan.planner == "flexible"
    assert plan.check(dag) == ()


def test_what_became_ready_below_goes_before_another_front() -> None:
    """a0 -> b0 -> d     when a0 is done b0 goes before a1
    a1 -> b1 --/
    """
    result = priorities(graphs.drawn("a0", "a1", "a0 b0 d", "a1 b1 d"))

    assert result["b0"] < result["a1"]


def test_a_reduction_goes_on_with_a_finished_pair_before_new_leaves() -> None:
    """a binary reduction of four leaves"""
    result = priorities(graphs.tree_in(2))

    assert result["t1_0"] < result["t0_2"]
    assert result["t1_1"] < result["t2_0"]
