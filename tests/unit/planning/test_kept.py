"""Values that may stay with their worker: on which edges a plan asks for it, and is heard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings

from dagnb.graph.dag import Call, Dag
from dagnb.graph.options import TaskOptions
from dagnb.graph.resources import DEFAULT, Resources
from dagnb.planning.kept import FEW_INPUTS, kept_steps, with_kept_results
from dagnb.planning.plan import Plan, Step, Way
from dagnb.testing.planner_laws import overtaken
from tests import graphs, strategies

BIG = Resources(memory_mb=4_000)


def pinned(dag: Dag, order: str, workers: Mapping[str, str] | None = None) -> Plan:
    """Each task on a worker, w if it has no other; earlier ones in `order` go first."""
    turns = {name: turn for turn, name in enumerate(order.split())}
    steps = []
    for task, call in enumerate(dag.calls):
        worker = (workers or {}).get(call.name, "w")
        step = Step(
            task=task, upstream=call.upstream, worker=worker, priority=turns.get(call.name, 0)
        )
        steps.append(step)
    return Plan(dag=dag, steps=tuple(steps), planner="by hand")


def floating(dag: Dag, resources: Resources = DEFAULT) -> Plan:
    """resources: of the last task."""
    last = len(dag) - 1
    steps = []
    for task, call in enumerate(dag.calls):
        needs = resources if task == last else DEFAULT
        steps.append(Step(task=task, upstream=call.upstream, resources=needs))
    return Plan(dag=dag, steps=tuple(steps), planner="by hand")


def stay(plan: Plan) -> set[str]:
    """The edges on which values stay, as 'a b'."""
    asked = with_kept_results(plan)
    assert set(asked.ways.values()) <= {Way.LOCAL}
    assert kept_steps(asked) == {upstream for upstream, _ in asked.ways}
    names = asked.names
    return {f"{names[upstream]} {names[reader]}" for upstream, reader in asked.ways}


def with_options(dag: Dag, name: str, options: TaskOptions) -> Dag:
    position = dag.positions[name]
    changed = replace(dag.calls[position], options=options)
    return Dag((*dag.calls[:position], changed, *dag.calls[position + 1 :]), dag.sinks)


def test_every_value_of_a_chain_stays_where_all_of_it_is() -> None:
    dag = graphs.drawn("a b c")

    assert stay(floating(dag)) == {"a b", "b c"}
    assert stay(pinned(dag, "a b c")) == {"a b", "b c"}


def test_a_value_for_another_worker_or_pool_is_stored() -> None:
    dag = graphs.drawn("a b c")
    half = replace(floating(dag).steps[2], worker="w")

    assert stay(pinned(dag, "a b c", {"c": "v"})) == {"a b"}
    assert stay(floating(dag, BIG)) == {"a b"}
    assert stay(replace(floating(dag), steps=(*floating(dag).steps[:2], half))) == {"a b"}


def test_a_pinned_reader_overtakes_no_step_that_is_planned_before_it() -> None:
    """a -> b, x -> y on one worker"""
    dag = graphs.drawn("a b", "x y")

    assert stay(pinned(dag, "a x b y")) == set()
    assert stay(pinned(dag, "a b x y")) == {"a b", "x y"}
    assert stay(pinned(dag, "x a b y")) == {"a b"}
    assert stay(pinned(dag, "a x b y", {"x": "v", "y": "v"})) == {"a b", "x y"}


def test_what_lies_between_may_be_other_inputs_and_what_they_wait_for() -> None:
    """a, b -> c; d, e -> f; c, f -> g; x alone"""
    dag = graphs.drawn("a c", "b c", "d f", "e f", "c g", "f g", "x")
    everything = {"a c", "b c", "d f", "e f", "c g", "f g"}

    assert stay(pinned(dag, "x a b c d e f g")) == everything
    assert stay(pinned(dag, "a b c d e x f g")) == everything - {"d f", "e f", "c g"}
    assert stay(pinned(dag, "a b c x d e f g")) == everything - {"c g"}
    assert stay(pinned(dag, "a d b e c f g")) == {"c g", "f g"}


def test_a_reader_that_is_planned_before_its_input_takes_nothing() -> None:
    assert stay(pinned(graphs.drawn("a b"), "b a")) == set()


def test_a_reader_with_inputs_elsewhere_may_still_take_those_that_are_here() -> None:
    """The value stays if the other input is there in time."""
    assert stay(pinned(graphs.drawn("a c", "b c"), "a b c", {"b": "v"})) == {"a c"}


def test_a_value_with_two_readers_is_stored_even_if_one_task_or_two_copies_read_it() -> None:
    twice = Dag((Call(name="a", function="a"), Call(name="b", function="b", upstream=(0, 0))), (1,))
    copied = Plan(
        dag=graphs.drawn("a b"),
        steps=(
            Step(task=0, worker="w"),
            Step(task=1, upstream=(0,), worker="w", priority=1),
            Step(task=1, upstream=(0,), worker="v"),
        ),
        planner="by hand",
    )

    assert stay(pinned(graphs.drawn("a b", "a c"), "a b c")) == set()
    assert stay(pinned(twice, "a b")) == set()
    assert stay(floating(twice)) == set()
    assert stay(copied) == set()


def test_a_copy_for_each_reader_lets_each_value_stay() -> None:
    plan = Plan(
        dag=graphs.drawn("a b", "a c"),
        steps=(
            Step(task=0, worker="w"),
            Step(task=0, worker="v"),
            Step(task=1, upstream=(0,), worker="w", priority=1),
            Step(task=2, upstream=(1,), worker="v", priority=1),
        ),
        planner="by hand",
    )

    assert stay(plan) == {"a b", "a' c"}


@pytest.mark.parametrize(
    ("name", "options"),
    [("a", TaskOptions(pure=False)), ("b", TaskOptions(retries=1))],
    ids=["effects", "retries"],
)
def test_values_of_tasks_with_effects_and_for_readers_with_retries_are_stored(
    name: str, options: TaskOptions
) -> None:
    dag = with_options(graphs.drawn("a b"), name, options)

    assert stay(floating(dag)) == set()
    assert stay(pinned(dag, "a b")) == set()


def test_the_result_of_a_sink_is_stored_though_a_task_reads_it() -> None:
    dag = graphs.drawn("a b", sinks=("a", "b"))

    assert stay(floating(dag)) == set()
    assert stay(pinned(dag, "a b")) == set()


def test_a_task_with_many_inputs_is_not_run_together_with_them() -> None:
    few, many = graphs.fan_in(FEW_INPUTS), graphs.fan_in(FEW_INPUTS + 1)

    for dag, n in ((few, FEW_INPUTS), (many, 0)):
        order = " ".join(call.name for call in dag.calls)
        assert len(stay(floating(dag))) == n
        assert len(stay(pinned(dag, order))) == n


def test_a_request_is_heard_only_where_a_worker_can_keep_the_value() -> None:
    """Any plan may ask on any edge."""
    dag = graphs.drawn("a b", "c d", "c e", "f g", "h i", sinks=("b", "d", "e", "f", "g", "i"))
    plan = pinned(with_options(dag, "h", TaskOptions(pure=False)), "", {"b": "v"})
    edges = [(u, v) for v, step in enumerate(plan.steps) for u in step.upstream]
    every = dict.fromkeys(edges, Way.LOCAL)
    same_worker = pinned(dag, "")

    assert kept_steps(replace(plan, ways=every)) == set()
    assert kept_steps(replace(plan, ways=dict.fromkeys(edges, Way.STREAM))) == set()
    assert kept_steps(replace(same_worker, ways=every)) == {
        dag.positions["a"],
        dag.positions["h"],
    }


@given(plan=strategies.planned(copies=True))
@settings(max_examples=300)
def test_no_reader_overtakes_a_step_whatever_the_plan(plan: Plan) -> None:
    asked = with_kept_results(plan)

    assert overtaken(asked) == []
    assert kept_steps(asked) == {upstream for upstream, _ in asked.ways}
