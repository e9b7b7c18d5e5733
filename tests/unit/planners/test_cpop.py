"""The critical path on one worker."""

from __future__ import annotations

import pytest
from dagnb_planners.cpop import Cpop, critical_path, ready_first
from dagnb_planners.ranks import RankPrices, downward, upward

from dagnb.errors import ConfigError
from dagnb.graph.dag import Call, Dag
from dagnb.graph.options import TaskOptions
from dagnb.graph.resources import Resources
from dagnb.planning.planner import LinearCost
from tests import graphs
from tests.unit.planners.prices import placed, problem


def test_the_critical_path_stays_on_one_worker_though_a_fan_in_could_end_sooner_elsewhere() -> None:
    """b (2 s) -> d (4 s) -> e     fetching takes 2 s; b, d, e are critical: 2 + 2 + 4 + 2 + 1 s
    a (3 s) -> c (1 s) ---/     a and c are second, before f, whose priority is 6 s
    f (6 s)
    """
    dag = graphs.drawn("a c e", "b d e", "f")
    asked = problem(dag, 2, {"a": 3.0, "b": 2.0, "d": 4.0, "f": 6.0}, fetch=LinearCost(2.0))

    assert placed(Cpop(n_workers=2), asked) == {"w0": "b d e", "w1": "a c f"}


def test_the_path_has_a_worker_of_each_kind_that_it_passes() -> None:
    """a -> b [2 CPUs] -> c, on two workers"""
    kinds = (None, Resources(cpus=2.0), None)
    calls = tuple(
        Call(
            name=name,
            function=name,
            upstream=(i - 1,) if i else (),
            options=TaskOptions(resources=kind),
        )
        for i, (name, kind) in enumerate(zip("abc", kinds, strict=True))
    )

    assert placed(Cpop(), problem(Dag(calls, (2,)))) == {"w0": "a c", "w1": "b"}


def test_a_path_is_found_though_sums_differ_by_rounding() -> None:
    """0.1 + 0.2 + 0.3 s from above is not what it is from below"""
    dag = graphs.chain(4)
    prices = RankPrices(problem(dag, seconds={"t0": 0.1, "t1": 0.2, "t2": 0.3, "t3": 0.7}))
    priorities = [up + down for up, down in zip(upward(prices), downward(prices), strict=True)]

    assert critical_path(dag, priorities) == (0, 1, 2, 3)


def test_of_ready_tasks_the_largest_priority_goes_first() -> None:
    dag = graphs.drawn("a b", "c d")

    assert ready_first(dag, [1.0, 9.0, 5.0, 2.0]) == [2, 3, 0, 1]
    assert ready_first(dag, [0.0] * 4) == [0, 1, 2, 3]


def test_no_workers_at_all_are_refused() -> None:
    with pytest.raises(ConfigError, match="n_workers=0"):
        Cpop(n_workers=0)
