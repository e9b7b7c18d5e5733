"""The order of the optimistic cost table."""

from __future__ import annotations

import pytest
from dagnb_planners.peft import Peft, optimistic
from dagnb_planners.ranks import RankPrices

from dagnb.errors import ConfigError
from dagnb.graph.dag import Call, Dag
from dagnb.graph.options import TaskOptions
from dagnb.graph.resources import Resources
from dagnb.planning.planner import LinearCost
from tests import graphs
from tests.unit.planners.prices import placed, problem


def test_the_table_has_the_longest_way_below_without_transfers() -> None:
    """a -> b (2 s) -> d (1 s)     fetching takes 10 s
    `-> c (5 s) ---/
    """
    assert optimistic(
        RankPrices(problem(graphs.diamond(), seconds={"b": 2.0, "c": 5.0}, fetch=LinearCost(10.0)))
    ) == [
        6,
        1,
        1,
        0,
    ]


def test_the_table_keeps_the_transfer_to_other_resources() -> None:
    """a -> b [2 CPUs]"""
    calls = (
        Call(name="a", function="a"),
        Call(
            name="b",
            function="b",
            upstream=(0,),
            options=TaskOptions(resources=Resources(cpus=2.0)),
        ),
    )

    assert optimistic(RankPrices(problem(Dag(calls, (1,)), fetch=LinearCost(10.0)))) == [11, 0]


def test_what_is_below_a_task_decides_and_not_how_long_it_takes() -> None:
    """Nothing is below c and d; fetching takes 3 s.

    a (2 s) -> c (1 s)     c is the first of them:
    b (2 s) --/            w0: aa....c  ->  d, though longer, has to go to w1
    a -> d (5 s)
    """
    dag = graphs.drawn("a c", "b c", "a d")
    asked = problem(dag, 2, {"a": 2.0, "b": 2.0, "d": 5.0}, fetch=LinearCost(3.0))

    assert placed(Peft(n_workers=2), asked) == {"w0": "a c", "w1": "b d"}


def test_no_workers_at_all_are_refused() -> None:
    with pytest.raises(ConfigError, match="n_workers=0"):
        Peft(n_workers=0)
