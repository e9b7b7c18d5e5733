"""The laws of planners, on each of ours. A new planner gets a class here; another package's gets
one there.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from dagnb_planners import exact
from dagnb_planners.best import Best
from dagnb_planners.cpop import Cpop
from dagnb_planners.dask_like import DaskLike
from dagnb_planners.exact import Exact
from dagnb_planners.flexible import Flexible
from dagnb_planners.heft import Heft
from dagnb_planners.heft_lookahead import HeftLookahead
from dagnb_planners.non_uniform import NonUniform
from dagnb_planners.one_pass import OnePass
from dagnb_planners.peft import Peft
from dagnb_planners.uniform import Uniform
from dagnb_planners.wukong import Wukong

from dagnb import registry
from dagnb.errors import ConfigError
from dagnb.graph.dag import Dag
from dagnb.planning.kept import with_kept_results
from dagnb.planning.plan import Way
from dagnb.planning.planner import Planner
from dagnb.testing import PlannerLaws
from dagnb.testing.planner_laws import problem_of
from tests import graphs
from tests.conftest import missing_service

QUICK: list[Planner] = [
    Flexible(),
    OnePass(),
    OnePass(short_s=0.0, keep=1),
    Wukong(),
    Wukong(clusters=True, delays_io=True, threshold_bytes=0),
    Uniform(),
    NonUniform(),
    Heft(),
    Cpop(),
    Peft(),
]
"""planners that are asked for plans of 10,000 tasks"""


class TestFlexible(PlannerLaws):
    planner = Flexible()


class TestOnePass(PlannerLaws):
    planner = OnePass()


class TestOnePassThatKeepsLittle(PlannerLaws):
    planner = OnePass(short_s=0.0, keep=1)


class TestWukong(PlannerLaws):
    planner = Wukong()


class TestWukongThatClustersAndDelays(PlannerLaws):
    planner = Wukong(clusters=True, delays_io=True, threshold_bytes=1_000_000)


class TestDaskLike(PlannerLaws):
    planner = DaskLike()


class TestDaskLikeEverywhere(PlannerLaws):
    planner = DaskLike(everywhere=True)


class TestHeft(PlannerLaws):
    planner = Heft()


class TestCpop(PlannerLaws):
    planner = Cpop()


class TestPeft(PlannerLaws):
    planner = Peft()


class TestHeftLookahead(PlannerLaws):
    planner = HeftLookahead()


class TestUniform(PlannerLaws):
    planner = Uniform()
    sizes = True


class TestNonUniform(PlannerLaws):
    planner = NonUniform()
    sizes = True


class TestBest(PlannerLaws):
    planner = Best(budget_s=0.01)
    examples = 8


@pytest.mark.stress
class TestExact(PlannerLaws):
    planner = Exact(limit_s=0.02)
    examples = 4

    @pytest.fixture(autouse=True)
    def solver(self) -> None:
        try:
            exact.ortools()
        except ConfigError as error:
            missing_service(str(error))


def test_every_registered_planner_obeys_the_laws() -> None:
    judged = {kind.planner.name for kind in PlannerLaws.__subclasses__()}

    assert judged >= set(registry.names("planner"))


some_planners = pytest.mark.parametrize(
    "planner", [*QUICK, DaskLike(), HeftLookahead(), Best(budget_s=0.01)], ids=repr
)


@some_planners
@pytest.mark.parametrize("shape", sorted(graphs.SMALL))
def test_our_planners_let_each_value_stay_that_may(planner: Planner, shape: str) -> None:
    plan = planner.plan(problem_of(graphs.SMALL[shape], cap=2))

    assert plan.ways == with_kept_results(plan).ways


@some_planners
def test_our_planners_store_nothing_inside_a_chain(planner: Planner) -> None:
    plan = planner.plan(problem_of(graphs.chain(4)))

    assert plan.ways == dict.fromkeys([(0, 1), (1, 2), (2, 3)], Way.LOCAL)


every_planner = pytest.mark.parametrize("planner", QUICK, ids=repr)

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
    assert took_s < 4  # 0.1 to 0.5 s alone; far below what anything quadratic would take
