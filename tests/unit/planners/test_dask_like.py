"""The decisions of Dask's scheduler."""

from __future__ import annotations

import math
import random
from itertools import pairwise

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

TWO = DaskLike(n_workers=2)
STILL = DaskLike(n_workers=2, steals=False)
ANY = DaskLike(n_workers=2, everywhere=True, steals=False)
BLOCKS = DaskLike(n_workers=2, saturation=math.inf, steals=False)


def of_one_function(n: int) -> Dag:
    return Dag.from_edges([f"f{i}" for i in range(n)], [], functions=["f"] * n)


def fork(n: int) -> Dag:
    """a -> b0, b1, ...: those of one function"""
    names = [f"b{i}" for i in range(n)]
    return Dag.from_edges(["a", *names], [("a", b) for b in names], functions=["a", *"b" * n])


def test_a_tree_without_stealing_stays_on_the_worker_of_its_root() -> None:
    """no other worker holds an input"""
    assert len(placed(STILL, problem(graphs.tree_out(2)))) == 1
    assert len(placed(ANY, problem(graphs.tree_out(2)))) == 2


def test_an_idle_worker_steals_what_a_full_one_has_not_begun() -> None:
    """b0 to b3 are sent to w0 at 1 s; then, and a second later, w1 takes one of them"""
    assert placed(STILL, problem(fork(4))) == {"w0": "a b0 b1 b2 b3"}
    assert placed(TWO, problem(fork(4))) == {"w0": "a b0 b2", "w1": "b1 b3"}


def test_nothing_is_stolen_that_would_begin_later() -> None:
    """fetching a's value takes 9 s"""
    asked = problem(fork(4), fetch=LinearCost(9.0))

    assert placed(TWO, asked) == {"w0": "a b0 b1 b2 b3"}


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
    """a function that never ran counts as 0.5 s: longer than to fetch, or not"""
    soon, late = LinearCost(0.4), LinearCost(0.6)

    assert placed(ANY, problem(fork(2), fetch=soon)) == {"w0": "a b0", "w1": "b1"}
    assert placed(ANY, problem(fork(2), fetch=late)) == {"w0": "a b0 b1"}


def test_tasks_like_roots_wait_in_a_queue_for_a_worker_with_a_free_slot() -> None:
    """5 are more than 2 a worker; f0 takes 5 s: w0 got two tasks, and gets no more meanwhile"""
    asked = problem(of_one_function(5), 2, {"f0": 5.0})

    assert placed(STILL, asked) == {"w0": "f0 f2", "w1": "f1 f3 f4"}
    assert placed(TWO, asked) == {"w0": "f0", "w1": "f1 f2 f3 f4"}


def test_a_fan_out_from_few_tasks_is_like_roots() -> None:
    """5 are more than 2 a worker, and read one task in all"""
    assert placed(STILL, problem(fork(5))) == {"w0": "a b0 b2 b4", "w1": "b1 b3"}


def test_without_a_queue_neighbours_share_a_worker() -> None:
    """7 tasks on 2 workers: blocks of 3; the last begins one more, on who has least to do"""
    asked = problem(of_one_function(7), 2, {"f0": 5.0})

    assert placed(BLOCKS, asked) == {"w0": "f0 f1 f2 f6", "w1": "f3 f4 f5"}


def test_few_sources_go_to_the_worker_with_least_to_do() -> None:
    """4 of them are not more than 2 a worker"""
    assert placed(STILL, problem(of_one_function(4), 2)) == {"w0": "f0 f2", "w1": "f1 f3"}


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


def test_no_slots_at_all_are_refused() -> None:
    with pytest.raises(ConfigError, match="saturation=0"):
        DaskLike(saturation=0)


@pytest.mark.parametrize("seed", range(12))
def test_a_task_that_is_stolen_there_and_back_begins_once(seed: int) -> None:
    """Layers of 30 tasks on 8 workers, of very unequal run times, with values of up to 500 MB."""
    chance = random.Random(seed)
    names = [[f"l{layer}-{i}" for i in range(30)] for layer in range(10)]
    edges = []
    for above, below in pairwise(names):
        for name in below:
            edges += [(upstream, name) for upstream in chance.sample(above, 2)]
    tasks = [name for layer in names for name in layer]
    dag = Dag.from_edges(tasks, edges, functions=[name.split("-")[0] for name in tasks])
    asked = problem(
        dag,
        8,
        {name: chance.lognormvariate(0.0, 1.0) for name in tasks},
        fetch=LinearCost(0.0, 1e-8),
        output_bytes={task: chance.randint(100_000, 500_000_000) for task in range(len(dag))},
    )

    plan = DaskLike(n_workers=8).plan(asked)

    assert sorted(step.task for step in plan.steps) == list(range(len(dag)))
