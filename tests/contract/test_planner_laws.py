"""The laws of planners, on each of ours. A new planner gets a class here; another package's gets one there."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from dagnb_planners.flexible import Flexible
from dagnb_planners.one_pass import OnePass

from dagnb.graph.dag import Dag
from dagnb.planning.planner import Planner
from dagnb.testing import PlannerLaws
from dagnb.testing.planner_laws import problem_of
from tests import graphs

PLANNERS: list[Planner] = [Flexible(), OnePass(), OnePass(short_s=0.0, keep=1)]


class TestFlexible(PlannerLaws):
    planner = Flexible()


class TestOnePass(PlannerLaws):
    planner = OnePass()


class TestOnePassThatKeepsLittle(PlannerLaws):
    planner = OnePass(short_s=0.0, keep=1)


every_planner = pytest.mark.parametrize("planner", PLANNERS, ids=repr)

LARGE: dict[str, Callable[[], Dag]] = {
    "chain": lambda: graphs.chain(5_000),
    "wide": lambda: graphs.wide(9_998),
    "fan_out": lambda: graphs.fan_out(9_999),
    "fan_in": lambda: graphs.fan_in(9_999),
    "ladder": lambda: graphs.ladder(5_000),
    "layered": lambda: graphs.layered(100, 100),
    "tree_in": lambda: graphs.tree_in(12),
}


@pytest.fixture(scope="module", params=sorted(LARGE))
def large(request: pytest.FixtureRequest) -> Dag:
    return LARGE[request.param]()


@pytest.mark.stress
@every_planner
@pytest.mark.parametrize("cap", [None, 8])
def test_ten_thousand_tasks_are_planned_and_checked_without_recursion_or_delay(
    planner: Planner, large: Dag, cap: int | None
) -> None:
    begin_s = time.process_time()
    plan = planner.plan(problem_of(large, cap))
    took_s = time.process_time() - begin_s
    plan.check(large)

    assert len(plan.steps) == len(large)
    assert took_s < 1.5  # some 0.1 s alone; far below what anything quadratic would take
