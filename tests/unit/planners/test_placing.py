"""A schedule while it is being made."""

from __future__ import annotations

from dataclasses import replace

import pytest
from dagnb_planners.placing import Placing
from dagnb_planners.ranks import RankPrices
from hypothesis import given, settings
from hypothesis import strategies as st

from dagnb.planning.planner import Pool, Problem, StartCost
from tests import strategies


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Tasks of few lengths and sizes, so that many moments are equal; any kind of pool."""
    dag = draw(strategies.dags(25, resources=draw(st.booleans())))
    run_s = {task: draw(st.sampled_from((0.5, 1.0, 4.0))) for task in range(len(dag))}
    sizes = {task: draw(st.sampled_from((0, 10**8, 10**9))) for task in range(len(dag))}
    costs = replace(
        draw(strategies.costs(dag)),
        run_s=run_s,
        output_bytes=sizes,
        cold=StartCost(create_s=draw(st.sampled_from((0.0, 1.0)))),
        warm=StartCost(register_s=0.25),
    )
    seconds = st.sampled_from((0.0, 1.0, 1e9))
    pool = Pool(eager=draw(st.booleans()), linger_s=draw(seconds), keep_alive_s=draw(seconds))
    return Problem(dag=dag, costs=costs, pool=pool)


@settings(max_examples=60)
@given(
    problem=problems(),
    n_workers=st.sampled_from((1, 3, 100)),
    inserts=st.booleans(),
    few=st.sampled_from((0, 16)),
)
def test_the_best_placement_is_the_first_of_the_smallest_of_all(
    problem: Problem, n_workers: int, inserts: bool, few: int
) -> None:
    """few = 0 asks no worker one by one, as where hundreds hold an input"""
    placing = Placing(RankPrices(problem), n_workers, inserts=inserts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dagnb_planners.placing._FEW", few)
        for task in range(len(problem.dag)):
            best = placing.best(task)
            assert best == min(placing.placements(task), key=lambda placement: placement.end)
            placing.put(task, best)


@settings(max_examples=60)
@given(problem=problems(), n_workers=st.sampled_from((1, 3, 100)))
def test_a_worker_does_one_thing_at_a_time_and_nothing_before_its_inputs(
    problem: Problem, n_workers: int
) -> None:
    placing = Placing(RankPrices(problem), n_workers)
    for task in range(len(problem.dag)):
        placing.put(task, placing.best(task))

    for worker in placing.workers:
        assert all(a[1] <= b[0] for a, b in zip(worker.busy, worker.busy[1:], strict=False))
        assert worker.busy == sorted(worker.busy)
    for task, call in enumerate(problem.dag.calls):
        assert all(placing.end[u] <= placing.begin[task] for u in call.upstream)
    assert placing.makespan_s == max(placing.end)
