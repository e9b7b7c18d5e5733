"""The decisions of Dask's scheduler."""

from __future__ import annotations

import pytest
from dagnb_planners.dask_like import DaskLike, worker_counts
from dagnb_planners.ranks import RankPrices

from dagnb.errors import ConfigError
from dagnb.graph.dag import Call, Dag
from dagnb.graph.options import TaskOptions
from dagnb.graph.resources import DEFAULT, Resources
from dagnb.planning.planner import LinearCost
from tests import graphs
from tests.unit.planners.prices import placed, problem

TWO, ANY = DaskLike(n_workers=2), DaskLike(n_workers=2, everywhere=True)


def test_a_tree_stays_on_the_worker_of_its_root() -> None:
    """no other worker holds an input"""
    asked = problem(graphs.tree_out(2))

    assert len(placed(TWO, asked)) == 1
    assert len(placed(ANY, asked)) == 2


def test_a_fan_in_goes_where_it_could_start_first() -> None:
    """a (3 s) -> c     at 5 s both are idle; fetching a's value takes 4 s, b's 1 s
    b (5 s) -----/
    """
    asked = problem(
        graphs.drawn("a c", "b c"),
        2,
        {"a": 3.0, "b": 5.0},
        fetch=LinearCost(0.0, 1.0),
        output_bytes={0: 4, 1: 1},
    )

    assert placed(TWO, asked) == {"w0": "a c", "w1": "b"}


def test_occupancy_may_outweigh_what_is_to_be_fetched() -> None:
    """a -> b0 (9 s), b1; fetching takes 2 s: b1 waits for w0 only where it may not go elsewhere"""
    asked = problem(graphs.fan_out(2), 2, {"b0": 9.0}, fetch=LinearCost(2.0))

    assert placed(TWO, asked) == {"w0": "a b0 b1"}
    assert placed(ANY, asked) == {"w0": "a b0", "w1": "b1"}


def test_many_sources_of_one_function_go_in_blocks_of_neighbours() -> None:
    """7 of them on 2 workers: blocks of 3; the last begins one more, on who is done first"""
    names = [f"f{i}" for i in range(7)]
    dag = Dag.from_edges(names, [], functions=["f"] * 7)

    assert placed(TWO, problem(dag, 2, {"f0": 5.0})) == {"w0": "f0 f1 f2", "w1": "f3 f4 f5 f6"}


def test_few_sources_go_to_the_worker_with_least_to_do() -> None:
    """4 of them are not more than 2 a worker"""
    dag = Dag.from_edges(["f0", "f1", "f2", "f3"], [], functions=["f"] * 4)

    assert placed(TWO, problem(dag, 2, {"f0": 5.0})) == {"w0": "f0", "w1": "f1 f2 f3"}


def test_ready_tasks_of_a_worker_go_depth_first() -> None:
    """a0 -> b0, a1 -> b1 on one worker"""
    assert placed(DaskLike(n_workers=1), problem(graphs.drawn("a0", "a1", "a0 b0", "a1 b1"))) == {
        "w0": "a0 b0 a1 b1"
    }


def test_kinds_of_resources_have_workers_by_their_share_of_the_work() -> None:
    big = Resources(cpus=2.0)
    calls = tuple(
        Call(name=f"f{i}", function="f", options=TaskOptions(resources=big if i < 6 else None))
        for i in range(8)
    )
    prices = RankPrices(problem(Dag(calls, tuple(range(8)))))

    assert worker_counts(prices, 4) == {big: 3, DEFAULT: 1}
    assert worker_counts(prices, 1) == {big: 1, DEFAULT: 1}


def test_the_cap_is_the_number_of_workers() -> None:
    assert len(placed(DaskLike(), problem(graphs.fan_in(9), cap=3))) == 3


def test_no_workers_at_all_are_refused() -> None:
    with pytest.raises(ConfigError, match="n_workers=0"):
        DaskLike(n_workers=0)
