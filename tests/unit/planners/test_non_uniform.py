"""A size for each worker."""

from __future__ import annotations

from dataclasses import replace

import pytest
from dagnb_planners.non_uniform import NonUniform
from dagnb_planners.one_pass import OnePass
from dagnb_planners.uniform import UNSIZED, Uniform

from dagnb.errors import ConfigError
from dagnb.graph.dag import Dag
from dagnb.graph.options import TaskOptions
from dagnb.graph.resources import Resources
from dagnb.planning.planner import Pool, Problem
from dagnb.simulation.simulate import outcome
from tests import graphs
from tests.unit.planners.prices import problem

ONE = Resources(memory_mb=1_000)
CONTAINERS = Pool(eager=False, linger_s=0.0, keep_alive_s=0.0)


def fan(n: int, **known: object) -> Problem:
    """a0 (8 s), a1 (1 s), ... -> b, each asks for 1,000 MB.

    Run times fall with memory to the power of -1
    """
    dag = graphs.fan_in(n)
    calls = tuple(replace(call, options=TaskOptions(resources=ONE)) for call in dag.calls)
    costs = problem(
        dag, None, {"a0": 8.0}, **{"scaling": dict.fromkeys(range(n + 1), (0.0, 1.0)), **known}
    ).costs  # type: ignore[arg-type]
    return Problem(dag=Dag(calls, dag.sinks), costs=costs, pool=CONTAINERS)


def memory(planner: NonUniform | Uniform, asked: Problem) -> dict[str, int | None]:
    return {asked.dag.calls[s.task].name: s.resources.memory_mb for s in planner.plan(asked).steps}


def test_workers_that_the_run_does_not_wait_for_are_smaller() -> None:
    """one_pass: w0 has a0, a1, b and is critical; w1 has a2, a3.

    With twice the memory all take 1 / sqrt(2) of their time: w0 10 s -> 7.07 s. With half of it w1
    takes 2.83 s, long before w0 has a1.
    """
    asked = fan(4, scaling=dict.fromkeys(range(5), (0.0, 0.5)))

    assert memory(Uniform(), asked) == dict.fromkeys(("a0", "a1", "a2", "a3", "b"), 2_000)
    assert memory(NonUniform(epsilon=0.0), asked) == {
        "a0": 2_000,
        "a1": 2_000,
        "a2": 500,
        "a3": 500,
        "b": 2_000,
    }
    makespans = [
        outcome(p.plan(asked), asked.costs, asked.pool).makespan_s
        for p in (Uniform(), NonUniform())
    ]
    assert makespans == pytest.approx([10 / 2**0.5] * 2)


def test_the_run_is_no_longer_than_allowed_and_no_dearer() -> None:
    asked = fan(12)

    whole = outcome(Uniform().plan(asked), asked.costs, asked.pool)
    sized = outcome(NonUniform(epsilon=0.1).plan(asked), asked.costs, asked.pool)

    assert sized.makespan_s <= 1.1 * whole.makespan_s * (1 + 1e-9)
    assert sized.gb_s <= whole.gb_s


def test_without_tries_it_is_uniform() -> None:
    asked = fan(5)

    assert NonUniform(tries=0).plan(asked).steps == Uniform().plan(asked).steps


def test_what_no_scaling_is_known_of_is_not_made_smaller_than_asked() -> None:
    asked = fan(5, scaling={})

    assert set(memory(NonUniform(), asked).values()) == {1_000}
    assert set(memory(NonUniform(may_shrink=True), asked).values()) == {500}


def test_with_nothing_named_it_is_one_pass_and_says_so() -> None:
    asked = problem(graphs.wide(6))

    plan = NonUniform().plan(asked)

    assert plan.steps == OnePass().plan(asked).steps
    assert plan.notes == (UNSIZED,)


def test_settings_without_meaning_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"epsilon=-0\.1"):
        NonUniform(epsilon=-0.1)
    with pytest.raises(ConfigError, match="tries=-1"):
        NonUniform(tries=-1)
