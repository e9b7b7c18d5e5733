"""The planner that pins every task in one walk."""

from __future__ import annotations

from typing import Any

import pytest
from dagnb_planners.one_pass import OnePass

from dagnb.errors import ConfigError
from dagnb.graph.dag import Call, Dag
from dagnb.graph.options import TaskOptions
from dagnb.graph.resources import Resources
from dagnb.planning.plan import Plan
from dagnb.planning.planner import Costs, Pool, Problem
from tests import graphs


def planned(
    dag: Dag,
    run_s: dict[str, float] | None = None,
    output_bytes: dict[str, int] | None = None,
    cap: int | None = None,
    planner: OnePass = OnePass(short_s=1.0),  # noqa: B008  # frozen
) -> Plan:
    """The plan for these run times (1 s unless said) and sizes (10 bytes unless said)."""
    costs = Costs(
        run_s={dag.positions[name]: seconds for name, seconds in (run_s or {}).items()},
        output_bytes={dag.positions[name]: n for name, n in (output_bytes or {}).items()},
        default_run_s=1.0,
        default_output_bytes=10,
    )
    plan = planner.plan(Problem(dag=dag, costs=costs, pool=Pool(cap=cap)))
    plan.check(dag)
    return plan


def tasks_of(plan: Plan) -> dict[str, str]:
    """worker -> names of its tasks, in the DAG's order, in one string"""
    result: dict[str, list[str]] = {}
    for step in plan.steps:
        assert step.worker is not None
        result.setdefault(step.worker, []).append(plan.dag.calls[step.task].name)
    return {worker: " ".join(names) for worker, names in result.items()}


def test_a_chain_stays_on_one_worker() -> None:
    assert tasks_of(planned(graphs.chain(4))) == {"w0": "t0 t1 t2 t3"}


def test_two_chains_of_long_tasks_go_side_by_side() -> None:
    """a -> b     c -> d"""
    dag = graphs.two_components()

    assert tasks_of(planned(dag, {"a": 9, "c": 8})) == {"w0": "a b", "w1": "c d"}


def test_up_to_three_short_tasks_of_a_fan_out_stay_with_their_upstream() -> None:
    """a -> b0 ... b3, all short"""
    assert tasks_of(planned(graphs.fan_out(4))) == {"w0": "a b0 b1 b2", "w1": "b3"}


def test_short_tasks_left_over_go_by_three() -> None:
    """a -> b0 ... b8, all short"""
    assert tasks_of(planned(graphs.fan_out(9))) == {
        "w0": "a b0 b1 b2",
        "w1": "b3 b4 b5",
        "w2": "b6 b7 b8",
    }


def test_how_many_stay_is_a_setting() -> None:
    plan = planned(graphs.fan_out(4), planner=OnePass(keep=1))

    assert tasks_of(plan) == {"w0": "a b0", "w1": "b1", "w2": "b2", "w3": "b3"}


def test_the_longest_is_paired_with_the_shortest() -> None:
    """a -> b0 ... b5.

    Three stay, then the longest goes with the shortest that is left, then the next
    """
    plan = planned(
        graphs.fan_out(7), {"b0": 0.1, "b1": 0.2, "b2": 0.3, "b3": 0.4, "b4": 0.5, "b5": 5, "b6": 9}
    )

    assert tasks_of(plan) == {"w0": "a b0 b1 b2", "w1": "b3 b6", "w2": "b4 b5"}


def test_long_tasks_left_over_go_alone() -> None:
    """a -> b0 ... b2: the shortest stays though it is long, the others have no partner"""
    plan = planned(graphs.fan_out(3), {"b0": 7, "b1": 5, "b2": 6})

    assert tasks_of(plan) == {"w0": "a b1", "w1": "b0", "w2": "b2"}


def test_short_is_up_to_the_median_of_the_dag_unless_said() -> None:
    """a -> b0 ... b3: a takes 0.5 s, the first two of them 1 s, the others 2 s"""
    plan = planned(graphs.fan_out(4), {"a": 0.5, "b2": 2, "b3": 2}, planner=OnePass())

    assert tasks_of(plan) == {"w0": "a b0 b1", "w1": "b2", "w2": "b3"}


@pytest.mark.parametrize(
    ("c_bytes", "expected"), [(20, {"w0": "a b d", "w1": "c"}), (30, {"w0": "a b", "w1": "c d"})]
)
def test_a_fan_in_goes_to_the_worker_with_most_bytes_of_its_inputs(
    c_bytes: int, expected: dict[str, str]
) -> None:
    """a:w0 -> d     15 bytes      together 24
    b:w0 ---/     9 bytes
    c:w1 --/
    """
    sizes = {"a": 15, "b": 9, "c": c_bytes}

    plan = planned(graphs.drawn("a d", "b d", "c d"), {"a": 9, "b": 0.1, "c": 0.2}, sizes)

    assert tasks_of(plan) == expected


def test_of_equal_inputs_a_fan_in_goes_to_the_first_ones_worker() -> None:
    """a -> c     b -> c     both long, of equal size"""
    dag = graphs.drawn("a c", "b c")

    assert tasks_of(planned(dag, {"a": 8, "b": 9})) == {"w0": "b", "w1": "a c"}


def test_no_more_workers_are_named_than_the_pool_has() -> None:
    """a -> b0 ... b8: the least loaded is named again"""
    plan = planned(graphs.fan_out(9), cap=2)

    assert tasks_of(plan) == {"w0": "a b0 b1 b2", "w1": "b3 b4 b5 b6 b7 b8"}


def test_at_the_cap_the_least_loaded_worker_is_named_again() -> None:
    """a -> b0 ... b4, long: b0 stays; then w1, w2, and again the one with least to do"""
    plan = planned(
        graphs.fan_out(5), {"a": 0.5, "b0": 2, "b1": 9, "b2": 8, "b3": 7, "b4": 6}, cap=3
    )

    assert tasks_of(plan) == {"w0": "a b0 b3", "w1": "b1", "w2": "b2 b4"}


def test_a_worker_goes_on_downwards_before_it_opens_another_branch() -> None:
    """a binary reduction of four leaves, all on one worker"""
    plan = planned(graphs.tree_in(2), cap=1)

    names = [
        plan.dag.calls[step.task].name
        for step in sorted(plan.steps, key=lambda step: step.priority)
    ]
    assert names == ["t0_0", "t0_1", "t1_0", "t0_2", "t0_3", "t1_1", "t2_0"]


def with_resources(dag: Dag, needs: dict[str, Resources]) -> Dag:
    calls = tuple(
        Call(
            name=c.name,
            function=c.function,
            upstream=c.upstream,
            options=TaskOptions(resources=needs.get(c.name)),
        )
        for c in dag.calls
    )
    return Dag(calls, dag.sinks)


BIG = Resources(memory_mb=4_000)


def test_a_task_of_other_resources_leaves_the_chain() -> None:
    """a -> b(big) -> c(big) -> d"""
    dag = with_resources(graphs.drawn("a b c d"), {"b": BIG, "c": BIG})

    assert tasks_of(planned(dag)) == {"w0": "a", "w1": "b c", "w2": "d"}


def test_a_fan_in_goes_to_the_most_bytes_on_a_worker_it_may_run_on() -> None:
    """a(big) -> c     a holds more, but c cannot run there
    b -------/
    """
    dag = with_resources(graphs.drawn("a c", "b c"), {"a": BIG})

    assert tasks_of(planned(dag, output_bytes={"a": 1_000})) == {"w0": "a", "w1": "b c"}


def test_a_fan_in_whose_inputs_are_all_of_other_resources_gets_a_worker() -> None:
    """a -> c(big)     b -> c"""
    dag = with_resources(graphs.drawn("a c", "b c"), {"c": BIG})

    assert tasks_of(planned(dag)) == {"w0": "a b", "w1": "c"}


def test_each_kind_of_resources_has_a_worker_even_beyond_the_cap() -> None:
    """a -> b(big), c(big), d"""
    dag = with_resources(graphs.drawn("a b", "a c", "a d"), {"b": BIG, "c": BIG})

    assert tasks_of(planned(dag, {"b": 5, "c": 5}, cap=1)) == {"w0": "a d", "w1": "b c"}


@pytest.mark.parametrize(
    "wrong", [{"keep": 0}, {"short_s": -1}, {"short_s": float("nan")}], ids=repr
)
def test_a_setting_that_means_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="OnePass"):
        OnePass(**wrong)
