"""The properties of a plan, and its text."""

from __future__ import annotations

from dagnb.planning.plan import Plan, Step, Way
from tests import graphs

TWO_COPIES = Plan(
    dag=graphs.drawn("a b", "a c", sinks=("c", "b", "c")),
    steps=(
        Step(task=0),
        Step(task=0, worker="w0"),
        Step(task=1, upstream=(0,)),
        Step(task=2, upstream=(1,), worker="w0"),
        Step(task=2, upstream=(0,)),
    ),
    planner="by hand",
    ways={(1, 3): Way.LOCAL},
)


def test_downstream_is_by_step_and_not_by_task() -> None:
    assert TWO_COPIES.downstream == ((2, 4), (3,), (), (), ())


def test_a_copy_is_named_after_its_task() -> None:
    assert TWO_COPIES.names == ("a", "a'", "b", "c", "c'")


def test_the_first_step_of_a_sink_gives_its_value_in_the_order_asked_for() -> None:
    assert TWO_COPIES.sinks == (3, 2, 3)


def test_a_value_goes_through_the_store_unless_the_plan_says_another_way() -> None:
    assert TWO_COPIES.way(1, 3) is Way.LOCAL
    assert TWO_COPIES.way(0, 4) is Way.STORE


def test_a_plan_floats_when_no_step_is_pinned() -> None:
    assert not TWO_COPIES.is_floating
    assert Plan(dag=graphs.lone(), steps=(Step(task=0),), planner="by hand").is_floating


def test_a_plan_checks_against_its_own_dag_by_itself() -> None:
    assert TWO_COPIES.check() == TWO_COPIES.check(TWO_COPIES.dag)
