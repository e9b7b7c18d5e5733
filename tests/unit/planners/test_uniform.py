"""One size for all workers."""

from __future__ import annotations

from dagnb_planners.one_pass import OnePass
from dagnb_planners.uniform import UNSIZED, Uniform

from dagnb.graph.dag import Call, Dag
from dagnb.graph.options import TaskOptions
from dagnb.graph.resources import Resources
from tests import graphs
from tests.unit.planners.prices import placed, problem

ONE = Resources(cpus=1.0, memory_mb=1_000)


def calls(*needs: Resources | None) -> Dag:
    """t0 -> t1 -> ..., that ask for these"""
    return Dag(
        tuple(
            Call(
                name=f"t{i}",
                function="t",
                upstream=(i - 1,) if i else (),
                options=TaskOptions(resources=kind),
            )
            for i, kind in enumerate(needs)
        ),
        (len(needs) - 1,),
    )


def sizes(dag: Dag, planner: Uniform | None = None, **known: object) -> set[Resources]:
    return {step.resources for step in (planner or Uniform()).plan(problem(dag, **known)).steps}  # type: ignore[arg-type]


def test_with_nothing_named_it_is_one_pass_and_says_so() -> None:
    asked = problem(graphs.wide(6))

    plan = Uniform().plan(asked)

    assert plan.steps == OnePass().plan(asked).steps
    assert plan.notes == (UNSIZED,)


def test_where_no_scaling_is_known_the_size_is_what_the_largest_asks_for() -> None:
    large = Resources(cpus=2.0, memory_mb=500)

    assert sizes(calls(ONE, large)) == {Resources(cpus=2.0, memory_mb=1_000)}


def test_tasks_of_several_sizes_share_a_worker_of_one() -> None:
    asked = problem(calls(ONE, Resources(cpus=2.0), ONE))

    assert placed(OnePass(), asked) == {"w0": "t0", "w1": "t1", "w2": "t2"}
    assert placed(Uniform(), asked) == {"w0": "t0 t1 t2"}


def test_more_is_given_where_it_is_known_to_help() -> None:
    """run time falls with CPUs to the power of -1"""
    assert sizes(calls(ONE, ONE), scaling={0: (1.0, 0.0), 1: (1.0, 0.0)}) == {
        Resources(cpus=2.0, memory_mb=2_000)
    }


def test_less_is_given_only_where_it_is_known_not_to_hurt_or_the_user_says_so() -> None:
    half = Resources(cpus=0.5, memory_mb=500)
    flat = {0: (0.0, 0.0), 1: (0.0, 0.0)}

    assert sizes(calls(ONE, ONE)) == {ONE}
    assert sizes(calls(ONE, ONE), scaling={0: (0.0, 0.0)}) == {ONE}
    assert sizes(calls(ONE, ONE), scaling=flat) == {half}
    assert sizes(calls(ONE, ONE), Uniform(may_shrink=True)) == {half}


def test_packages_and_network_stay() -> None:
    numpy = Resources(memory_mb=500, requirements=("numpy",), network=True)

    plan = Uniform(sizes=(ONE,)).plan(problem(calls(ONE, numpy)))

    assert [step.resources for step in plan.steps] == [
        ONE,
        Resources(cpus=1.0, memory_mb=1_000, requirements=("numpy",), network=True),
    ]
    assert plan.steps[0].worker != plan.steps[1].worker


def test_who_names_no_memory_keeps_the_default() -> None:
    """1,000 MB in this pool"""
    assert sizes(calls(Resources(memory_mb=300), None)) == {Resources(memory_mb=1_000)}
