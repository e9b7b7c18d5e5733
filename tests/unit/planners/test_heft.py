"""HEFT, against the published example by hand and the classic algorithm written again."""

from __future__ import annotations

import pytest
from dagnb_planners.heft import Heft
from dagnb_planners.placing import Placing
from dagnb_planners.ranks import RankPrices, downward, upward
from dagnb_planners.sweep import counts
from hypothesis import given, settings
from hypothesis import strategies as st

from dagnb.errors import ConfigError
from dagnb.graph.dag import Dag
from dagnb.planning.planner import Costs, LinearCost, Pool, Problem, StartCost
from dagnb.simulation.simulate import outcome
from tests import graphs, strategies
from tests.unit.planners.prices import FREE, placed, problem


def test_the_longest_way_to_the_end_goes_first() -> None:
    """a (1 s) -> b (5 s)
    c (2 s)               on one worker: a, since 6 s hang on it, then b, then c
    """
    dag = graphs.drawn("a b", "c")

    assert placed(Heft(), problem(dag, cap=1, run_s={1: 5.0, dag.positions["c"]: 2.0})) == {
        "w0": "a b c"
    }


def test_a_task_stays_with_a_value_that_takes_longer_to_fetch_than_to_wait_for_the_worker() -> None:
    """a -> b (2 s), c (1 s); fetching from elsewhere takes `far` s"""
    dag = graphs.fan_out(2)

    assert placed(Heft(), problem(dag, run_s={1: 2.0}, fetch=LinearCost(3.0))) == {"w0": "a b0 b1"}
    assert placed(Heft(), problem(dag, run_s={1: 2.0}, fetch=LinearCost(0.5))) == {
        "w0": "a b0",
        "w1": "b1",
    }


def test_a_short_task_goes_into_the_gap_while_a_worker_waits() -> None:
    """a (1 s) -> c (9 s)     w0: a ccccccccc
    b (4 s) -> d (5 s)     w1: bbbb ddddd
    b, a ----> e (4 s)     e needs both: on w2 from 4 s on; f is the least urgent and fits before it
    f (3 s)
    """
    dag = graphs.drawn("a c", "b d", "a e", "b e", "f")
    seconds = {"a": 1.0, "b": 4.0, "c": 9.0, "d": 5.0, "e": 4.0, "f": 3.0}
    run_s = {dag.positions[name]: spent for name, spent in seconds.items()}

    assert placed(Heft(n_workers=3), problem(dag, cap=3, run_s=run_s)) == {
        "w0": "a c",
        "w1": "b d",
        "w2": "f e",
    }


def test_ranks_are_the_longest_ways_with_transfers() -> None:
    """a (1 s) -> b (2 s) -> d (1 s)      fetching takes 10 s an edge
    `-> c (5 s) ------/
    """
    prices = RankPrices(problem(graphs.diamond(), run_s={1: 2.0, 2: 5.0}, fetch=LinearCost(10.0)))

    assert upward(prices) == [27.0, 13.0, 16.0, 1.0]
    assert downward(prices) == [0.0, 11.0, 11.0, 26.0]


def test_no_more_workers_than_asked_for() -> None:
    assert len(placed(Heft(n_workers=3), problem(graphs.fan_out(20)))) == 3
    with pytest.raises(ConfigError, match="n_workers=0"):
        Heft(n_workers=0)


def test_the_number_of_workers_is_the_best_by_simulation() -> None:
    """8 tasks of 1 s whose workers take 1.5 s each to start, in containers"""
    pool = Pool(eager=False, linger_s=0.0, keep_alive_s=60.0)
    costs = Costs(**{**FREE, "cold": StartCost(create_s=1.5)})
    asked = Problem(dag=graphs.fan_in(8), costs=costs, pool=pool)

    result = outcome(Heft().plan(asked), costs, pool).makespan_s

    assert result == min(
        outcome(Heft(n_workers=n).plan(asked), costs, pool).makespan_s for n in counts(asked)
    )


def test_counts_double_up_to_a_third_more_than_the_dag_is_wide() -> None:
    assert list(counts(problem(graphs.wide(10)))) == [1, 2, 4, 8, 12]
    assert list(counts(problem(graphs.wide(10), cap=5))) == [1, 2, 4, 5]
    assert list(counts(problem(graphs.chain(9)))) == [1]


def classic_ends(dag: Dag, run_s: list[float], n_workers: int) -> list[float]:
    """HEFT as published for equal processors and no communication: the end of each task."""
    ranks = [0.0] * len(dag)
    for v in reversed(range(len(dag))):
        ranks[v] = run_s[v] + max((ranks[d] for d in dag.downstream[v]), default=0.0)
    slots: list[list[tuple[float, float]]] = [[] for _ in range(n_workers)]
    ends = [0.0] * len(dag)
    for v in sorted(range(len(dag)), key=lambda v: (-ranks[v], v)):
        ready = max((ends[u] for u in dag.calls[v].upstream), default=0.0)
        begins = [earliest(busy, ready, run_s[v]) for busy in slots]
        best = min(range(n_workers), key=lambda w: begins[w])
        ends[v] = begins[best] + run_s[v]
        slots[best] = sorted([*slots[best], (begins[best], ends[v])])
    return ends


def earliest(busy: list[tuple[float, float]], ready: float, lasts: float) -> float:
    free = ready
    for begin, end in busy:
        if free + lasts <= begin:
            return free
        free = max(free, end)
    return free


@settings(max_examples=100)
@given(dag=strategies.dags(30), n_workers=st.integers(1, 4), data=st.data())
def test_where_transfers_and_starts_are_free_it_is_the_classic_algorithm(
    dag: Dag, n_workers: int, data: st.DataObject
) -> None:
    """Whole seconds, so that sums are exact."""
    run_s = [float(data.draw(st.integers(1, 9))) for _ in dag.calls]
    asked = problem(dag, cap=n_workers, run_s=dict(enumerate(run_s)))

    prices = RankPrices(asked)
    ranks = upward(prices)
    placing = Placing(prices, n_workers)
    for task in sorted(range(len(dag)), key=lambda task: (-ranks[task], task)):
        placing.put(task, placing.best(task))

    assert placing.end == classic_ends(dag, run_s, n_workers)
    assert Heft(n_workers=n_workers).plan(asked).steps == placing.plan("heft").steps
