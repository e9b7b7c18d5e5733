"""Executors that become one ready downstream task and invoke others for the rest.

Prices are whole seconds.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from dagnb_planners.wukong import Emulation, Wukong
from hypothesis import given, settings
from hypothesis import strategies as st

from dagnb.errors import ConfigError
from dagnb.graph.dag import Dag
from dagnb.planning.planner import Costs, LinearCost, Pool, Problem, StartCost
from dagnb.simulation.simulate import simulate
from dagnb.trace.trace import Phase
from tests import graphs, strategies

LAMBDA = Pool(eager=False, linger_s=0.0, keep_alive_s=7.0, single=True)
FREE: dict[str, Any] = {
    "fetch": LinearCost(),
    "store": LinearCost(),
    "load": LinearCost(),
    "dump": LinearCost(),
    "commit_s": 0.0,
    "cold": StartCost(),
    "warm": StartCost(),
    "default_run_s": 1.0,
    "default_output_bytes": 10,
}
"""prices at which only functions take time"""


def problem(dag: Dag, pool: Pool = LAMBDA, **known: Any) -> Problem:
    return Problem(dag=dag, costs=Costs(**{**FREE, **known}), pool=pool)


def branches(problem: Problem, planner: Wukong | None = None) -> dict[str, str]:
    """worker -> its tasks, in the order of their priority"""
    plan = (planner or Wukong()).plan(problem)
    result: dict[str, list[str]] = {}
    for step in sorted(plan.steps, key=lambda step: step.priority):
        result.setdefault(step.worker or "", []).append(problem.dag.calls[step.task].name)
    return {worker: " ".join(names) for worker, names in result.items()}


def test_a_chain_is_one_executor() -> None:
    assert branches(problem(graphs.chain(4))) == {"w0": "t0 t1 t2 t3"}


def test_an_executor_becomes_the_first_ready_and_invokes_others_for_the_rest() -> None:
    assert branches(problem(graphs.fan_out(3))) == {"w0": "a b0", "w1": "b1", "w2": "b2"}


def test_every_source_has_an_executor_and_the_last_to_arrive_goes_on() -> None:
    """a0 (1 s) -> b
    a1 (3 s) --/
    a2 (2 s) --/
    """
    result = branches(problem(graphs.fan_in(3), run_s={0: 1.0, 1: 3.0, 2: 2.0}))

    assert result == {"w0": "a0", "w1": "a1 b", "w2": "a2"}


def test_the_one_invoked_arrives_last_when_its_start_takes_longer() -> None:
    """a -> b (2 s) -> d
    `-> c (1 s) -/       c is invoked: its container takes 5 s
    """
    result = branches(problem(graphs.diamond(), run_s={1: 2.0}, cold=StartCost(create_s=5.0)))

    assert result == {"w0": "a b", "w1": "c d"}


BIG = {"output_bytes": {0: 200_000_000}}


def test_the_executor_of_a_big_output_runs_what_waits_for_nothing_else() -> None:
    """a [200 MB] -> b0, b1, b2"""
    assert branches(problem(graphs.fan_out(3), **BIG), Wukong(clusters=True)) == {
        "w0": "a b0 b1 b2"
    }
    assert branches(problem(graphs.fan_out(3), **BIG)) == {"w0": "a b0", "w1": "b1", "w2": "b2"}


def test_an_executor_with_clustered_tasks_left_invokes_what_became_ready_below() -> None:
    """a [200 MB] -> b -> d
    `--------------> c -> e
    """
    dag = graphs.drawn("a b d", "a c e")

    assert branches(problem(dag, **BIG), Wukong(clusters=True)) == {"w0": "a b c e", "w1": "d"}


def test_with_delayed_io_the_holder_of_a_big_output_waits_for_its_fan_in() -> None:
    """c is run where a is, though b arrives last; it is looked for at 2.5 s and at 5.5 s.

    a [200 MB, 1 s] -> c
    b (4 s) --------------/
    """
    dag, run_s = graphs.drawn("a c", "b c"), {1: 4.0}
    waiting = problem(dag, run_s=run_s, **BIG)
    emulation = Emulation(waiting, Wukong(delays_io=True))

    emulation.run()

    assert branches(waiting) == {"w0": "a", "w1": "b c"}
    assert branches(waiting, Wukong(delays_io=True)) == {"w0": "a c", "w1": "b"}
    assert emulation.begins[2][0] == 5.5
    assert emulation.makespan_s == 6.5


def test_a_holder_gives_up_after_twenty_sleeps() -> None:
    """1.5 + 3 + ... + 9 + 14 x 10 s"""
    dag = graphs.drawn("a c", "b c")

    assert branches(problem(dag, run_s={1: 172.0}, **BIG), Wukong(delays_io=True)) == {
        "w0": "a c",
        "w1": "b",
    }
    assert branches(problem(dag, run_s={1: 173.0}, **BIG), Wukong(delays_io=True)) == {
        "w0": "a",
        "w1": "b c",
    }


def test_two_holders_that_wait_for_each_other_come_to_an_end() -> None:
    dag = graphs.drawn("a c", "b c")
    both = problem(dag, run_s={1: 2.0}, output_bytes={0: 200_000_000, 1: 200_000_000})

    assert branches(both, Wukong(delays_io=True)) == {"w0": "a", "w1": "b c"}


def test_who_ends_goes_on_where_no_more_executors_may_be_named() -> None:
    """a -> b0 (1 s), b1 (3 s), b2, b3 on two workers"""
    result = branches(problem(graphs.fan_out(4), replace(LAMBDA, cap=2), run_s={2: 3.0}))

    assert result == {"w0": "a b0 b2 b3", "w1": "b1"}


@pytest.mark.parametrize("n", [9, 11])
def test_a_fan_out_of_ten_or_more_is_invoked_by_others(n: int) -> None:
    """n - 1 of them are invoked.

    Each invocation takes 1 s of the caller, or all of them one round trip
    """
    emulation = Emulation(problem(graphs.fan_out(n), invocation_s=1.0, commit_s=0.5), Wukong())

    emulation.run()

    handed_over = 1.0 + 1.0 + 0.5
    assert emulation.begins[1][0] == handed_over + (8.0 if n == 9 else 0.5)


def test_a_negative_threshold_is_refused() -> None:
    with pytest.raises(ConfigError, match="threshold_bytes=-1"):
        Wukong(threshold_bytes=-1)


@st.composite
def lambdas(draw: st.DrawFn) -> Problem:
    """A random DAG in a pool of single workers without limits.

    Round prices, so that many moments are equal.
    """
    dag = draw(strategies.dags(12, resources=True))
    known = draw(strategies.costs(dag))
    edges = [(u, v) for v, call in enumerate(dag.calls) for u in call.upstream]
    parts = draw(st.dictionaries(st.sampled_from(edges), st.floats(0, 1))) if edges else {}
    costs = replace(
        known,
        edge_bytes={(u, v): int(part * known.output(u)) for (u, v), part in parts.items()},
        release=LinearCost(0.0, draw(st.sampled_from((0.0, 1e-9)))),
        commit_s=draw(st.sampled_from((0.0, 0.001, 0.5))),
        invocation_s=draw(st.sampled_from((0.0, 0.01, 1.0))),
        program_s=draw(st.sampled_from((0.0, 0.3))),
        cold=StartCost(invoke_s=0.01, create_s=draw(st.sampled_from((0.0, 1.2)))),
        warm=StartCost(register_s=0.06),
    )
    linger_s, keep_alive_s = (
        draw(st.sampled_from((0.0, 0.5))),
        draw(st.sampled_from((0.0, 1.0, 7.0))),
    )
    warm = {kind: draw(st.integers(0, 2)) for kind in strategies.KINDS}
    pool = replace(LAMBDA, linger_s=linger_s, keep_alive_s=keep_alive_s, warm=warm)
    return Problem(dag=dag, costs=costs, pool=pool)


@settings(max_examples=150)
@given(problem=lambdas(), clusters=st.booleans())
def test_the_simulated_run_with_every_value_stored_is_the_emulated_one(
    problem: Problem, clusters: bool
) -> None:
    planner = Wukong(clusters=clusters, threshold_bytes=1_000_000)
    emulation = Emulation(problem, planner)
    emulation.run()

    plan = replace(planner.plan(problem), ways={})
    trace = simulate(plan, problem.costs, problem.pool)

    begins: dict[int, float] = {}
    for span in trace.spans:
        if span.phase in (Phase.FETCH, Phase.LOAD):
            begins[span.task] = min(span.begin_s, begins.get(span.task, span.begin_s))
    assert begins == pytest.approx({task: emulation.begins[task][0] for task in begins}, abs=1e-6)
    assert begins.keys() >= set(problem.dag.sinks)
    assert trace.makespan_s == pytest.approx(emulation.makespan_s, abs=1e-6)
