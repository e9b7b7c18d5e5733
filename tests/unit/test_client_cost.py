"""The cost of a large run before anything runs, counted in calls of functions a task.

Calls are counted instead of seconds, which differ between machines. Each count is the difference
between two sizes, so that what is done once a run does not count.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from dagnb_planners.flexible import Flexible

from dagnb.graph.dag import Dag
from dagnb.graph.payload import Signer
from dagnb.graph.task import Node, task
from dagnb.planning.plan import Plan
from dagnb.planning.planner import Costs, Pool, Problem
from dagnb.protocol.program import Program, build
from dagnb.protocol.run_description import describe

SIGNER = Signer(b"k" * 32)


@task
def nothing(i: int) -> None: ...


@task
def end(values: list[None]) -> int:
    return len(values)


def called(function: Callable[[Any], Any], argument: Any) -> int:
    """Returns the number of functions, of Python and of C, that a call makes."""
    n_calls = 0

    def count(frame: FrameType, event: str, value: object) -> None:
        nonlocal n_calls
        n_calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        function(argument)
    finally:
        sys.setprofile(before)
    return n_calls


def nodes(n: int) -> list[Node[None]]:
    return [nothing(i) for i in range(n)]


def plan(dag: Dag) -> Plan:
    planned = Flexible().plan(Problem(dag=dag, costs=Costs(), pool=Pool(cap=2)))
    planned.check(dag)
    return planned


def program(planned: Plan) -> Program:
    return build(planned, "01RUN", SIGNER, cap=2)


def dag(n: int) -> Dag:
    """n tasks, and one that reads them all."""
    return Dag.of(end(nodes(n)))


def plan_of(n: int) -> Plan:
    return plan(dag(n))


def described(made: tuple[Plan, Program]) -> str:
    return describe(made[0], "name", made[1], SIGNER, "01RUN")


def made(n: int) -> tuple[Plan, Program]:
    planned = plan_of(n)
    return planned, program(planned)


@pytest.mark.parametrize(
    ("prepare", "act", "most"),
    [
        (int, nodes, 36),
        (nodes, end, 6),
        (lambda n: end(nodes(n)), Dag.of, 10),
        (dag, plan, 17),
        (plan_of, program, 52),
        (made, described, 8),
    ],
    ids=["call", "give to one task", "make a DAG", "plan", "pickle and sign", "describe"],
)
def test_a_task_costs_a_bounded_number_of_calls(
    prepare: Callable[[int], Any], act: Callable[[Any], Any], most: int
) -> None:
    small, large = prepare(1_000), prepare(2_000)

    a_task = (called(act, large) - called(act, small)) / 1_000

    assert 0 < a_task <= most
