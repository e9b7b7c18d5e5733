"""Bounds: exact on small shapes, by hand; below every simulated run of random problems."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any

import pytest
from dagnb_planners.flexible import Flexible
from dagnb_planners.heft import Heft
from dagnb_planners.one_pass import OnePass
from hypothesis import given, settings
from hypothesis import strategies as st

from dagnb.graph.dag import Dag
from dagnb.graph.options import TaskOptions
from dagnb.graph.resources import DEFAULT, Resources
from dagnb.planning.bounds import Bound, certificate, earliest, gap, lower_bound
from dagnb.planning.kept import with_kept_results
from dagnb.planning.plan import Plan, Step
from dagnb.planning.planner import Costs, LinearCost, Planner, Pool, Problem, StartCost
from dagnb.simulation.simulate import outcome
from tests import graphs, strategies

PRICED: dict[str, Any] = {
    "fetch": LinearCost(0.5, 1e-6),
    "store": LinearCost(0.25, 1e-6),
    "load": LinearCost(0.0, 0.0),
    "dump": LinearCost(0.0, 0.0),
    "commit_s": 0.02,
    "wake_s": 0.0,
    "cold": StartCost(invoke_s=3.0),
    "warm": StartCost(invoke_s=1.0),
    "inline_bytes": 100,
    "default_run_s": 1.0,
    "default_output_bytes": 1_000_000,
}
"""fetch 1.5 s, store 1.25 s, a commit 0.01 s there and 0.01 s back"""
TASK_S = 1.0 + 1.25 + 0.01
"""at these prices, from the begin of a task until its value is there"""

seconds = st.sampled_from((0.0, 0.01, 0.5)) | st.floats(0, 20)
sizes = st.sampled_from((0, 50, 1_000_000)) | st.integers(0, 5_000_000)


@st.composite
def dags(draw: st.DrawFn) -> Dag:
    """Random DAGs, at times with resources, and with tasks that may be tried again."""
    dag = draw(strategies.dags(8, resources=draw(st.booleans())))
    return replace(
        dag, calls=tuple(replace(c, options=replace(c.options, retries=3)) for c in dag.calls)
    )


@st.composite
def costs(draw: st.DrawFn, dag: Dag) -> Costs:
    """Every price that there is, some left out."""
    some = st.sampled_from(range(len(dag)))
    edges = [(u, v) for v, call in enumerate(dag.calls) for u in call.upstream]
    laws = st.builds(LinearCost, seconds, st.sampled_from((0.0, 1e-6)))
    acts = st.sampled_from(("fetch", "load", "dump", "store"))
    attempts = st.lists(st.tuples(seconds, st.just(0.0)), min_size=1, max_size=2).map(tuple)
    starts = st.builds(StartCost, create_s=seconds)
    return Costs(
        run_s=draw(st.dictionaries(some, seconds)),
        output_bytes=draw(st.dictionaries(some, sizes)),
        external_bytes=draw(st.dictionaries(some, sizes, max_size=2)),
        edge_bytes=draw(st.dictionaries(st.sampled_from(edges), sizes)) if edges else {},
        known_s=draw(st.dictionaries(st.tuples(some, acts), seconds, max_size=3)),
        failures=draw(st.dictionaries(some, attempts, max_size=2)),
        start_series=draw(st.lists(starts, max_size=2).map(tuple)),
        cold=draw(starts),
        warm=draw(starts),
        fetch=draw(laws),
        store=draw(laws),
        load=draw(laws),
        commit_s=draw(st.sampled_from((0.0, 0.25))),
        wake_s=draw(st.sampled_from((0.0, 0.25))),
        program_s=draw(st.sampled_from((0.0, 0.25))),
        invocation_s=draw(st.sampled_from((0.0, 0.25))),
        default_run_s=1.0,
        inline_bytes=100,
    )


@st.composite
def pools(draw: st.DrawFn) -> Pool:
    """Processes, containers, functions; with and without limits."""
    is_eager = draw(st.booleans())
    return Pool(
        cap=draw(st.none() | st.integers(1, 4)),
        memory_mb=None if is_eager else draw(st.sampled_from((None, None, 1000, 2000))),
        warm=draw(
            st.dictionaries(st.sampled_from(strategies.KINDS), st.integers(0, 2), max_size=2)
        ),
        eager=is_eager,
        linger_s=draw(st.sampled_from((math.inf, 0.0, 1.0))),
        keep_alive_s=draw(st.sampled_from((math.inf, 0.0, 1.0))),
        single=not is_eager and draw(st.booleans()),
    )


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Containers that rest do not linger for ever, for others may need the room."""
    dag = draw(dags())
    prices, pool = draw(costs(dag)), draw(pools())
    if not pool.eager and pool.linger_s == math.inf:
        pool = replace(pool, linger_s=2.0)
    return Problem(dag=dag, costs=prices, pool=pool)


def as_decorated(plan: Plan) -> Plan:
    """The same plan with the resources of the decorators, its workers split by them."""
    steps = []
    for step in plan.steps:
        needs = plan.dag.calls[step.task].options.needs
        worker = None if step.worker is None else f"{step.worker}-{needs.kind}"
        steps.append(replace(step, resources=needs, worker=worker))
    return replace(plan, steps=tuple(steps), workers={}, ways={})


@given(st.data())
@settings(max_examples=100)
def test_no_simulated_run_is_shorter_than_the_bound_whatever_the_plan(data: st.DataObject) -> None:
    problem = data.draw(problems())
    plan = as_decorated(data.draw(strategies.plans(problem.dag, copies=True)))
    if data.draw(st.booleans()):
        plan = with_kept_results(plan)

    bound = lower_bound(problem.dag, problem.costs, problem.pool)

    assert outcome(plan, problem.costs, problem.pool).makespan_s >= bound.seconds * (1 - 1e-9)


@pytest.mark.parametrize("planner", [Flexible(), OnePass(), Heft(n_workers=2)], ids=repr)
@given(problem=problems())
@settings(max_examples=30)
def test_no_simulated_run_of_a_planner_is_shorter_than_the_bound(
    planner: Planner, problem: Problem
) -> None:
    bound = lower_bound(problem.dag, problem.costs, problem.pool)

    result = outcome(planner.plan(problem), problem.costs, problem.pool)

    assert result.makespan_s >= bound.seconds * (1 - 1e-9)


# ---- by hand ----


def priced(**changes: Any) -> Costs:
    return Costs(**PRICED).with_(**changes)


def best(dag: Dag, prices: Costs, pool: Pool, *workers: str) -> float:
    """The simulated makespan with these workers by position."""
    steps = tuple(
        Step(task=i, upstream=call.upstream, worker=worker, priority=i)
        for i, (call, worker) in enumerate(zip(dag.calls, workers, strict=True))
    )
    return outcome(Plan(dag=dag, steps=steps, planner="hand"), prices, pool).makespan_s


@pytest.mark.parametrize("eager", [True, False])
def test_a_chain_on_one_worker_reaches_its_bound(eager: bool) -> None:
    """t0 -> t1 -> t2 -> t3"""
    dag, pool = graphs.with_effects(graphs.chain(4)), Pool(cap=4, eager=eager)

    bound = lower_bound(dag, priced(), pool)

    assert bound.seconds == pytest.approx(3.0 + 4 * TASK_S + 3 * 0.01)
    assert best(dag, priced(), pool, "w", "w", "w", "w") == pytest.approx(bound.seconds)
    assert bound.reason == "the longest way through the DAG, transfers included, to 't3'"


@pytest.mark.parametrize("planner", [Flexible(), Heft(n_workers=1)], ids=repr)
def test_a_chain_whose_values_are_kept_reaches_its_bound(planner: Planner) -> None:
    """t0 -> t1 -> t2 -> t3: only the last value is stored, and none is fetched"""
    dag, pool, prices = graphs.chain(4), Pool(cap=4), priced(default_run_s=0.2)

    bound = lower_bound(dag, prices, pool)

    plan = planner.plan(Problem(dag=dag, costs=prices, pool=pool))
    assert bound.seconds == pytest.approx(3.0 + 4 * 0.2 + 1.25 + 3 * 0.02 + 0.01)
    assert outcome(plan, prices, pool).makespan_s == pytest.approx(bound.seconds)


def test_tasks_without_edges_on_workers_of_their_own_meet_their_bound() -> None:
    dag = graphs.drawn("a", "b", "c")

    bound = lower_bound(dag, priced(), Pool())

    assert bound.seconds == pytest.approx(3.0 + TASK_S)
    assert best(dag, priced(), Pool(), "x", "y", "z") == pytest.approx(bound.seconds)


def test_a_fork_of_equal_tasks_reaches_its_bound_where_one_branch_stays() -> None:
    """a -> b0, b1, b2, values that ride along: the others are there when they are handed over"""
    dag, pool, prices = (
        graphs.fan_out(3),
        Pool(cap=3),
        priced(default_output_bytes=10, commit_s=0.0),
    )

    bound = lower_bound(dag, prices, pool)

    assert bound.seconds == pytest.approx(3.0 + 2 * 1.0)
    assert best(dag, prices, pool, "x", "x", "y", "z") == pytest.approx(bound.seconds)


@pytest.mark.parametrize(
    ("run_s", "begin_s", "workers"),
    [
        (0.1, 2 * (0.1 + 1.25), "xxx"),  # both here, one after the other, sooner than a transfer
        (5.0, 5.0 + 1.25 + 1.5, "xyx"),  # one here, the other's value fetched
    ],
)
def test_a_join_takes_the_better_of_running_all_here_and_fetching(
    run_s: float, begin_s: float, workers: str
) -> None:
    """a0 -> b
    a1 -/
    """
    dag, pool, prices = (
        graphs.with_effects(graphs.fan_in(2)),
        Pool(cap=2),
        priced(run_s={0: run_s, 1: run_s}, commit_s=0.0),
    )

    bound = lower_bound(dag, prices, pool)

    assert bound.seconds == pytest.approx(3.0 + begin_s + 1.0 + 1.25)
    assert best(dag, prices, pool, *workers) == pytest.approx(bound.seconds)


def test_of_many_tasks_at_a_join_those_run_here_that_would_arrive_latest() -> None:
    """a0, a1, a2 -> b: the value of a0 takes 10.5 s to fetch, that of a1 and a2 1.5 s"""
    dag = graphs.with_effects(graphs.fan_in(3))
    prices = priced(
        output_bytes={0: 10_000_000}, known_s={(0, "store"): 1.25}, run_s={0: 1.0, 1: 1.0, 2: 1.0}
    )

    bound = lower_bound(dag, prices, Pool())

    assert bound.seconds == pytest.approx(3.0 + TASK_S + 1.5 + TASK_S)


def test_fewer_workers_than_tasks_share_the_work() -> None:
    """Six tasks of 2.27 s on two workers ready after 3 s; the last round trip is left out."""
    dag, pool = graphs.drawn(*"abcdef"), Pool(cap=2)

    bound = lower_bound(dag, priced(), pool)

    assert bound.seconds == pytest.approx(3.0 + 3 * (TASK_S + 0.01) - 0.01)
    assert bound.reason == "the work of 6 of 6 tasks on 2 workers"
    assert best(dag, priced(), pool, *"xyxyxy") == pytest.approx(bound.seconds)


def test_workers_that_start_later_do_less_of_the_work() -> None:
    series = (StartCost(invoke_s=0.0), StartCost(invoke_s=4.0))
    dag, pool, prices = (
        graphs.drawn(*"abcd"),
        Pool(cap=2),
        priced(start_series=series, default_output_bytes=0),
    )

    bound = lower_bound(dag, prices, pool)

    assert bound.seconds == pytest.approx(
        4 * 1.02 - 0.01 - 0.04
    )  # the second comes 0.04 s before the first is done
    assert earliest(prices, pool, DEFAULT) == 0.0


def test_what_comes_before_and_after_the_crowd_is_added_to_its_work() -> None:
    """a -> b0 .. b5 -> c on two workers"""
    dag, prices = graphs.wide(6), priced(default_output_bytes=0, commit_s=0.0)

    bound = lower_bound(dag, prices, Pool(cap=2))

    assert bound.seconds == pytest.approx(3.0 + 1.0 + 3 * 1.0 + 1.0)


def test_little_memory_bounds_containers_as_few_workers_do() -> None:
    big = graphs.drawn(*"abcd")
    calls = tuple(
        replace(c, options=replace(c.options, resources=Resources(memory_mb=800)))
        for c in big.calls
    )
    dag, pool = replace(big, calls=calls), Pool(eager=False, memory_mb=1600)

    bound = lower_bound(dag, priced(), pool)

    assert bound.seconds == pytest.approx(3.0 + 2 * (TASK_S + 0.01) - 0.01)
    assert bound.reason == "the memory of 4 of 4 tasks in 1600 MB"


def test_external_inputs_and_attempts_that_fail_are_added() -> None:
    lone = graphs.lone()
    dag = replace(
        lone, calls=tuple(replace(call, options=TaskOptions(retries=1)) for call in lone.calls)
    )
    prices = priced(external_bytes={0: 2_000_000}, failures={0: ((0.5, 4.0),)})

    bound = lower_bound(dag, prices, Pool())

    assert bound.seconds == pytest.approx(3.0 + (2.5 + 0.5 + 0.02 + 4.0) + (2.5 + TASK_S))
    assert best(dag, prices, Pool(), "w") == pytest.approx(bound.seconds)


def test_a_warm_container_starts_sooner_but_only_one_of_the_same_resources() -> None:
    other = Resources(cpus=2.0)

    def first(**terms: Any) -> float:
        return earliest(priced(program_s=0.5), Pool(**terms), DEFAULT)

    assert first(eager=False, warm={DEFAULT: 1}) == 1.5
    assert first(eager=False, warm={other: 1}) == 3.5
    assert first(eager=True, warm={DEFAULT: 1}) == 3.5


def test_what_no_sink_needs_is_not_waited_for() -> None:
    """a is the sink; b runs longer"""
    dag = graphs.drawn("a", "b", sinks=["a"])

    assert lower_bound(dag, priced(run_s={1: 100.0}), Pool(cap=1)).seconds == pytest.approx(
        3.0 + TASK_S
    )


# ---- what it proves ----


@pytest.mark.parametrize(
    ("makespan_s", "says"),
    [
        (10.0, "optimal, if these durations hold"),
        (10.02, "at most 0.2 % above optimal, if these durations hold"),
        (10.9, "at most 9 % above optimal, if these durations hold"),
        (13.4, "at most 34 % above optimal, if these durations hold"),
    ],
)
def test_a_certificate_says_how_far_above_the_optimum_a_plan_may_be(
    makespan_s: float, says: str
) -> None:
    assert certificate(makespan_s, Bound(10.0, "")) == says


def test_the_gap_is_relative_to_the_bound_and_never_negative() -> None:
    assert gap(12.0, Bound(10.0, "")) == pytest.approx(0.2)
    assert gap(10.0 - 1e-12, Bound(10.0, "")) == 0.0
    assert gap(0.0, Bound(0.0, "")) == 0.0
    assert gap(1.0, Bound(0.0, "")) == math.inf
    assert certificate(1.0, Bound(0.0, "")) == "no better plan known; nothing bounds it"


@pytest.mark.stress
@pytest.mark.parametrize("cap", [None, 8])
@pytest.mark.parametrize(
    "dag", [graphs.layered(50, 100), graphs.fan_in(4_999), graphs.chain(5_000)], ids=len
)
def test_five_thousand_tasks_are_bounded_without_delay(dag: Dag, cap: int | None) -> None:
    begin_s = time.process_time()
    lower_bound(dag, priced(), Pool(cap=cap))

    assert (
        time.process_time() - begin_s < 1.0
    )  # some 0.1 s alone; far below what anything quadratic would take
