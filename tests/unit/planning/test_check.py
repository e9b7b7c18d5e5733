"""`plan.check`: misfits refused, and where a pinned worker certainly runs out of work."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from dagnb.errors import InvalidPlanError
from dagnb.graph.dag import Dag
from dagnb.graph.resources import Resources
from dagnb.planning.plan import Advice, Plan, Prewarm, Step, Way, WorkerTerms
from tests import graphs


def pinned(dag: Dag, workers: str = "", **terms: WorkerTerms) -> Plan:
    """The plan "a:w0 b:w1": tasks left out float."""
    place = dict(pair.split(":") for pair in workers.split())
    steps = tuple(
        Step(task=i, upstream=call.upstream, worker=place.get(call.name))
        for i, call in enumerate(dag.calls)
    )
    return Plan(dag=dag, steps=steps, planner="by hand", workers=terms)


def stops(plan: Plan) -> list[tuple[str, str]]:
    """(worker, the step it waits for) of each advice."""
    return [(advice.worker, plan.names[advice.step]) for advice in plan.check()]


def problems(plan: Plan, dag: Dag | None = None) -> tuple[str, ...]:
    with pytest.raises(InvalidPlanError) as caught:
        plan.check(dag)
    return caught.value.problems


def changed(plan: Plan, position: int, **fields: Any) -> Plan:
    steps = list(plan.steps)
    steps[position] = replace(steps[position], **fields)
    return replace(plan, steps=tuple(steps))


DIAMOND = graphs.diamond()
FITTING = pinned(DIAMOND, "a:w0 b:w0 c:w1 d:w0")


def test_a_floating_plan_fits_and_needs_no_advice() -> None:
    assert pinned(DIAMOND).check(DIAMOND) == ()


def test_a_plan_for_another_dag_is_refused() -> None:
    assert problems(FITTING, graphs.chain(4)) == ("it was made for another DAG",)


def test_a_plan_fits_a_dag_that_is_equal_and_not_the_same() -> None:
    assert FITTING.check(graphs.diamond()) == ()


def test_every_misfit_is_reported_at_once_and_the_message_ends_with_the_cure() -> None:
    broken = changed(changed(FITTING, 0, worker="~"), 3, upstream=(2, 1))

    with pytest.raises(InvalidPlanError) as caught:
        broken.check()

    assert caught.value.planner == "by hand"
    assert caught.value.problems == (
        "step 0 ('a') is pinned to '~': names with ~ belong to pools",
        "step 3 ('d') reads other tasks than the DAG says",
    )
    assert str(caught.value).endswith("Correct the planner, or take planner='flexible'.")


@pytest.mark.parametrize(
    ("plan", "problem"),
    [
        (changed(FITTING, 1, task=9), "step 1 computes task 9, which does not exist"),
        (changed(FITTING, 1, task=-1), "step 1 computes task -1, which does not exist"),
        (
            changed(FITTING, 1, upstream=(2,)),
            "step 1 ('b') reads a step that does not come before it",
        ),
        (
            changed(FITTING, 1, upstream=(1,)),
            "step 1 ('b') reads a step that does not come before it",
        ),
        (
            changed(FITTING, 1, upstream=(-4,)),
            "step 1 ('b') reads a step that does not come before it",
        ),
        (changed(FITTING, 3, upstream=(1,)), "step 3 ('d') reads other tasks than the DAG says"),
        (changed(FITTING, 3, upstream=(1, 1)), "step 3 ('d') reads other tasks than the DAG says"),
        (changed(FITTING, 2, worker=" "), "step 2 ('c') is pinned to a worker without a name"),
        (changed(FITTING, 2, worker=""), "step 2 ('c') is pinned to a worker without a name"),
        (
            changed(FITTING, 2, worker="~2cpu"),
            "step 2 ('c') is pinned to '~2cpu': names with ~ belong to pools",
        ),
        (
            changed(FITTING, 1, resources=Resources(cpus=2)),
            "worker 'w0' has steps of different resources",
        ),
        (replace(FITTING, steps=FITTING.steps[:3]), "task 'd' is a sink without a step"),
        (replace(FITTING, steps=()), "task 'd' is a sink without a step"),
        (
            replace(FITTING, ways={(0, 3): Way.LOCAL}),
            "it has a way from step 0 to step 3, which is no edge",
        ),
        (
            replace(FITTING, ways={(0, 9): Way.LOCAL}),
            "it has a way from step 0 to step 9, which is no edge",
        ),
        (
            replace(FITTING, ways={(0, -3): Way.LOCAL}),
            "it has a way from step 0 to step -3, which is no edge",
        ),
        (
            replace(FITTING, prewarms=(Prewarm(resources=Resources(), anchor=4),)),
            "a prewarm is anchored to task 4, which does not exist",
        ),
        (
            replace(FITTING, workers={"w1": WorkerTerms(linger_s=-1)}),
            "worker 'w1' lingers -1 s: it must be 0 or more",
        ),
        (
            replace(FITTING, workers={"w1": WorkerTerms(linger_s=math.nan)}),
            "worker 'w1' lingers nan s: it must be 0 or more",
        ),
    ],
)
def test_a_misfit_is_refused_and_named(plan: Plan, problem: str) -> None:
    assert problems(plan)[0] == problem


def test_a_copy_of_a_task_is_a_step_like_any_other() -> None:
    """a -> b -> d     c reads a copy of a of its own
    a' -> c ---/
    """
    steps = (
        Step(task=0, worker="w0"),
        Step(task=0, worker="w1"),
        Step(task=1, upstream=(0,), worker="w0"),
        Step(task=2, upstream=(1,), worker="w1"),
        Step(task=3, upstream=(2, 3), worker="w0"),
    )
    plan = Plan(dag=DIAMOND, steps=steps, planner="by hand")

    assert plan.check() == ()
    assert plan.names == ("a", "a'", "b", "c", "d")


def test_a_worker_that_waits_for_a_detour_is_started_again() -> None:
    """a:w0 -> x:w1 -> b:w0"""
    plan = pinned(graphs.drawn("a x b"), "a:w0 x:w1 b:w0")

    (advice,) = plan.check()

    assert advice == Advice(
        kind="restart",
        worker="w0",
        step=2,
        text="worker 'w0' has nothing to do until 'b' is ready, which needs 'x' from elsewhere: "
        "it leaves and is started again. Pin 'x' to 'w0' as well, or let 'b' float.",
    )


def test_a_worker_that_may_linger_idles_instead() -> None:
    """a:w0 -> x:w1 -> b:w0"""
    plan = pinned(graphs.drawn("a x b"), "a:w0 x:w1 b:w0", w0=WorkerTerms(linger_s=2.5))

    (advice,) = plan.check()

    assert (advice.kind, advice.worker, advice.step) == ("idle", "w0", 2)
    assert "it idles, at most 2.5 s." in advice.text


def test_a_detour_over_a_floating_step_is_a_detour() -> None:
    """a:w0 -> x -> b:w0"""
    assert stops(pinned(graphs.drawn("a x b"), "a:w0 b:w0")) == [("w0", "b")]


def test_a_long_detour_over_several_workers_is_seen() -> None:
    """a:w0 -> x:w1 -> y:w2 -> z -> b:w0"""
    assert stops(pinned(graphs.drawn("a x y z b"), "a:w0 x:w1 y:w2 b:w0")) == [("w0", "b")]


def test_another_task_may_bridge_the_wait() -> None:
    """a:w0 -> x:w1 -> b:w0     f:w0 is free and may run meanwhile"""
    assert stops(pinned(graphs.drawn("a x b", "f"), "a:w0 x:w1 b:w0 f:w0")) == []


def test_a_task_behind_the_wait_does_not_bridge_it() -> None:
    """a:w0 -> x:w1 -> b:w0 -> f:w0"""
    assert stops(pinned(graphs.drawn("a x b f"), "a:w0 x:w1 b:w0 f:w0")) == [("w0", "b")]


def test_a_worker_is_not_started_again_for_its_first_step() -> None:
    """x:w1 -> a:w0 -> b:w0"""
    assert stops(pinned(graphs.drawn("x a b"), "x:w1 a:w0 b:w0")) == []


def test_a_gate_that_owes_nothing_to_the_worker_may_be_done_in_time() -> None:
    """a:w0 -> b:w0     x may be done while a runs
    x:w1 ---/
    """
    assert stops(pinned(graphs.drawn("a b", "x b"), "a:w0 x:w1 b:w0")) == []


def test_an_input_of_the_workers_own_may_come_last() -> None:
    """a:w0 -> x:w1 -> d:w0     b may be run while x runs, and d follows it at once
    |-> b:w0 ------/
    """
    assert stops(pinned(graphs.drawn("a x d", "a b d"), "a:w0 x:w1 b:w0 d:w0")) == []


def test_an_input_of_the_workers_own_that_the_gate_needs_cannot_come_last() -> None:
    """a:w0 -> b:w0 -> x:w1 -> d:w0     b is above x: nothing is left while x runs
    |              /
    `-------------/
    """
    assert stops(pinned(graphs.drawn("a b x d", "b d"), "a:w0 b:w0 x:w1 d:w0")) == [("w0", "d")]


def test_of_several_steps_that_wait_the_first_is_pointed_at_and_all_are_named() -> None:
    """a:w0 -> x:w1 -> b:w0     whichever is ready first, w0 has left after a
    |-> y:w2 -> c:w0
    """
    plan = pinned(graphs.drawn("a x b", "a y c"), "a:w0 x:w1 y:w2 b:w0 c:w0")

    (advice,) = plan.check()

    assert plan.names[advice.step] == "b"
    assert "until 'b' or 'c' is ready, which needs 'x' and 'y' from elsewhere" in advice.text


def test_one_of_several_that_does_not_wait_keeps_the_worker() -> None:
    """a:w0 -> x:w1 -> b:w0
    `-> c:w0
    """
    assert stops(pinned(graphs.drawn("a x b", "a c"), "a:w0 x:w1 b:w0 c:w0")) == []


def test_two_steps_each_with_a_gate_must_both_be_waited_for() -> None:
    """a:w0 -> x:w1 -> d:w0     a, b in any order; then d waits
    b:w0 -> y:w2 ---/
    """
    assert stops(pinned(graphs.drawn("a x d", "b y d"), "a:w0 x:w1 b:w0 y:w2 d:w0")) == [
        ("w0", "d")
    ]


def test_a_gate_below_only_one_of_two_lets_the_other_come_last() -> None:
    """a:w0 -> x:w1 -> d:w0     b last, while x runs
    b:w0 ----------/
    """
    assert stops(pinned(graphs.drawn("a x d", "b d"), "a:w0 x:w1 b:w0 d:w0")) == []


def test_a_worker_may_stop_many_times() -> None:
    """t0 -> t1 -> ... -> t9, by turns on w0 and w1"""
    plan = pinned(graphs.chain(10), " ".join(f"t{i}:w{i % 2}" for i in range(10)))

    assert stops(plan) == [(f"w{i % 2}", f"t{i}") for i in range(2, 10)]


def test_workers_stop_in_each_others_places() -> None:
    """a:w0 -> b:w1 -> c:w0 -> d:w1"""
    assert stops(pinned(graphs.drawn("a b c d"), "a:w0 b:w1 c:w0 d:w1")) == [
        ("w0", "c"),
        ("w1", "d"),
    ]


def test_a_worker_that_stops_always_but_not_always_after_the_same_steps_gets_no_advice() -> None:
    """a:w0 -> x -> b:w0 -> y -> c:w0     one free task of w0, g -> f:w0, for two waits"""
    assert stops(pinned(graphs.drawn("a x b y c", "g f"), "a:w0 b:w0 c:w0 f:w0")) == []


def test_many_names_are_cut_short() -> None:
    """a:w0 -> x(i) -> b(i):w0, five times"""
    dag = graphs.drawn(*(f"a x{i} b{i}" for i in range(5)))
    plan = pinned(dag, "a:w0 " + " ".join(f"b{i}:w0" for i in range(5)))

    (advice,) = plan.check()

    assert (
        "until 'b0', 'b1' or 3 more is ready, which needs 'x0', 'x1' and 3 more from elsewhere"
        in advice.text
    )


def test_more_steps_than_are_followed_at_a_time_are_all_counted() -> None:
    """a(i):w0, 5,000 of them -> x -> b:w0"""
    dag = graphs.drawn(*(f"a{i} x" for i in range(5_000)), "x b")
    everything = " ".join(f"a{i}:w0" for i in range(5_000))

    assert stops(pinned(dag, f"{everything} b:w0")) == [("w0", "b")]
    assert (
        stops(
            pinned(
                graphs.drawn(*(f"a{i} x" for i in range(5_000)), "x b", "f"),
                f"{everything} b:w0 f:w0",
            )
        )
        == []
    )
