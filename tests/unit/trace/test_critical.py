"""Which steps made a run as long as it was."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagnb.planning.planner import Pool
from dagnb.simulation.simulate import simulate
from dagnb.trace.critical import (
    Reason,
    Segment,
    Window,
    chain_steps,
    critical_path,
    explained,
    links,
    shares,
    windows,
)
from dagnb.trace.starts import worker_starts
from dagnb.trace.trace import Phase, Trace
from tests import graphs
from tests.strategies import costs, planned, plans, problems
from tests.unit.views.samples import pinned, played, run, trace


def test_a_window_spans_all_attempts_and_no_queueing() -> None:
    spans = [
        run(-1, "w0", 0, 5, Phase.INVOKE),
        run(0, "w0", 0, 5, Phase.QUEUE),
        run(0, "w0", 5, 6, Phase.FETCH),
        run(0, "w0", 6, 7),
        run(0, "w0", 9, 10, attempt=2),
    ]

    assert windows(trace(*spans)) == {0: Window(5.0, 10.0)}


def test_the_path_follows_the_upstream_that_ended_last() -> None:
    """a -> b -> d      b takes 1 s, c 3 s, on workers of their own
    `-> c -/
    """
    plan = pinned(graphs.diamond(), ["w0", "w1", "w2"])
    spans = [run(0, "w0", 0, 1), run(1, "w1", 1, 2), run(2, "w2", 1, 4), run(3, "w0", 4, 5)]

    assert critical_path(plan, trace(*spans, names="abcd")) == (0, 2, 3)


def test_a_step_that_waits_for_its_worker_is_caused_by_what_ran_there() -> None:
    """a, b -> c: b needs nothing, but a keeps their worker busy"""
    plan = pinned(graphs.drawn("a", "b c"), ["w0", "w0", "w1"])
    spans = [run(0, "w0", 0, 5), run(1, "w0", 5, 6), run(2, "w1", 6, 7)]

    assert critical_path(plan, trace(*spans, names="abc")) == (0, 1, 2)


def test_a_run_that_never_reached_a_sink_has_no_path() -> None:
    plan = pinned(graphs.chain(2), ["w0"])

    assert critical_path(plan, trace(run(0, "w0", 0, 1))) == ()
    assert critical_path(plan, trace()) == ()


def test_a_deep_chain_is_its_own_path() -> None:
    plan = pinned(graphs.chain(3_000), ["w0", "w1"])

    assert critical_path(plan, played(plan)) == tuple(range(3_000))


def rows(segments: tuple[Segment, ...]) -> list[tuple[int, str, float, float]]:
    return [(s.task, s.cause.value, s.begin_s, s.end_s) for s in segments]


def test_the_makespan_is_cut_by_what_held_the_run_up() -> None:
    """a -> b on workers of their own: w1 starts only when b is ready"""
    spans = [
        run(-1, "w0", 0, 1, Phase.INVOKE, detail="cold"),
        run(0, "w0", 1, 3),
        run(0, "w0", 3, 3.25, Phase.DUMP),
        run(0, "w0", 3.25, 4, Phase.STORE),
        run(0, "w0", 4, 4.5, Phase.COMMIT),
        run(1, "w1", 4.5, 6.5, Phase.QUEUE),
        run(-1, "w1", 4.75, 6, Phase.INVOKE, detail="warm"),
        run(-1, "w1", 6, 6.5, Phase.PROGRAM),
        run(1, "w1", 6.5, 7, Phase.FETCH),
        run(1, "w1", 7, 7.5, Phase.LOAD),
        run(1, "w1", 7.5, 9.5),
        run(1, "w1", 9.5, 10, Phase.COMMIT),
    ]
    segments = explained([(), (0,)], (1,), trace(*spans, names="ab"))

    assert rows(segments) == [
        (0, "start-up", 0.0, 1.0),
        (0, "run", 1.0, 3.0),
        (0, "upload", 3.0, 4.0),
        (0, "hand-over", 4.0, 4.5),
        (1, "start-up", 4.5, 6.5),
        (1, "input", 6.5, 7.5),
        (1, "run", 7.5, 9.5),
        (1, "hand-over", 9.5, 10.0),
    ]
    assert shares(segments) == pytest.approx(
        {
            Reason.RUN: 0.4,
            Reason.START: 0.3,
            Reason.HANDOVER: 0.1,
            Reason.INPUT: 0.1,
            Reason.UPLOAD: 0.1,
        }
    )


def test_imports_of_a_step_keep_its_worker_busy_and_count_as_its_start() -> None:
    spans = [run(0, "w0", 0, 3, Phase.IMPORT), run(0, "w0", 3, 4)]
    made = trace(*spans, names="a")

    assert windows(made) == {0: Window(0.0, 4.0)}
    assert rows(explained([()], (0,), made)) == [(0, "start-up", 0.0, 3.0), (0, "run", 3.0, 4.0)]
    assert worker_starts(made, include_woken=True) == ()


def test_a_ready_task_waits_for_the_worker_that_is_busy_with_others() -> None:
    """a and b need nothing; their worker takes b last"""
    spans = [run(1, "w0", 0, 5, Phase.QUEUE), run(0, "w0", 0, 5), run(1, "w0", 5, 6)]

    assert rows(explained([(), ()], (0, 1), trace(*spans, names="ab"))) == [
        (1, "busy worker", 0.0, 5.0),
        (1, "run", 5.0, 6.0),
    ]


def test_a_failed_attempt_and_the_pause_after_it_have_reasons_of_their_own() -> None:
    spans = [
        run(0, "w0", 0, 2),
        run(0, "w0", 2, 2.5, Phase.COMMIT, detail="failed"),
        run(0, "w1", 5, 5.5, Phase.QUEUE, attempt=2),
        run(0, "w1", 6, 7, attempt=2),
        run(0, "w1", 7, 8, Phase.COMMIT, attempt=2),
    ]

    assert rows(explained([()], (0,), trace(*spans, names="a"))) == [
        (0, "failed attempt", 0.0, 2.5),
        (0, "back-off", 2.5, 5.0),
        (0, "busy worker", 5.0, 5.5),
        (0, "other", 5.5, 6.0),
        (0, "run", 6.0, 7.0),
        (0, "hand-over", 7.0, 8.0),
    ]


def test_nothing_waits_to_try_again_after_the_last_attempt() -> None:
    """The run ends a second after the report of the failure."""
    spans = [run(0, "w0", 0, 2), run(0, "w0", 2, 3, Phase.COMMIT, detail="failed")]
    ended = replace(trace(*spans, names="a"), finished_s=1_004.0)

    assert rows(explained([()], (0,), ended)) == [
        (0, "failed attempt", 0.0, 3.0),
        (0, "other", 3.0, 4.0),
    ]


def test_a_commit_of_a_simulation_is_of_the_attempt_that_succeeded() -> None:
    """There all COMMITs have attempt 1."""
    spans = [run(0, "w0", 0, 2), run(0, "w0", 3, 4, attempt=2), run(0, "w0", 4, 5, Phase.COMMIT)]

    assert rows(explained([()], (0,), trace(*spans, names="a"))) == [
        (0, "failed attempt", 0.0, 2.0),
        (0, "back-off", 2.0, 3.0),
        (0, "run", 3.0, 4.0),
        (0, "hand-over", 4.0, 5.0),
    ]


def test_a_run_without_any_act_explains_nothing() -> None:
    assert rows(explained([()], (0,), Trace.of((), "a", submitted_s=0.0, finished_s=3.0))) == [
        (-1, "other", 0.0, 3.0)
    ]
    assert explained([()], (0,), trace()) == ()
    assert shares(()) == {}


@settings(max_examples=40)
@given(st.data())
def test_segments_tile_the_makespan_of_any_simulated_plan(data: st.DataObject) -> None:
    """For any plan, prices and pool. The first segment is a start, or a wait for a worker."""
    problem = data.draw(problems())
    plan = data.draw(plans(problem.dag, copies=True, linger=True))
    pool = data.draw(
        st.sampled_from((problem.pool, Pool(cap=problem.pool.cap, eager=False, linger_s=0.5)))
    )
    played_out = simulate(plan, problem.costs, pool)
    segments = explained([step.upstream for step in plan.steps], plan.sinks, played_out)

    assert segments[0].begin_s == 0.0
    assert segments[-1].end_s == played_out.makespan_s
    assert all(a.end_s == b.begin_s for a, b in pairwise(segments))
    assert all(segment.duration_s > 0 for segment in segments)
    assert segments[0].cause in {Reason.START, Reason.WORKER}
    assert Reason.OTHER not in shares(segments)
    assert sum(shares(segments).values()) == pytest.approx(1.0)


@settings(max_examples=60)
@given(st.data())
def test_the_chain_of_any_simulated_run_adds_up_to_its_makespan(data: st.DataObject) -> None:
    """With failed attempts and back-offs, too; each link waits for the one before along an edge."""
    problem = data.draw(problems())
    plan = data.draw(plans(problem.dag, copies=True, linger=True))
    tasks = st.sampled_from(range(len(problem.dag)))
    attempts = st.tuples(st.floats(0, 5), st.sampled_from((0.0, 1.0)))
    failures = data.draw(st.dictionaries(tasks, st.lists(attempts, max_size=2).map(tuple)))
    played_out = simulate(plan, problem.costs.with_(failures=failures), problem.pool)
    upstream = [step.upstream for step in plan.steps]

    chain = links(explained(upstream, plan.sinks, played_out))

    assert chain[0].begin_s == 0.0
    assert chain[-1].end_s == played_out.makespan_s
    assert all(a.end_s == b.begin_s for a, b in pairwise(chain))
    assert sum(link.duration_s for link in chain) == pytest.approx(played_out.makespan_s)
    assert all(a.task in upstream[b.task] for a, b in pairwise(chain))
    assert chain[-1].task in plan.sinks


@settings(max_examples=40)
@given(st.data())
def test_the_runs_of_the_segments_are_those_of_their_steps(data: st.DataObject) -> None:
    plan = data.draw(planned())
    played_out = simulate(plan, data.draw(costs(plan.dag)), Pool(cap=2))
    ran = {s.task: s.duration_s for s in played_out.spans if s.phase is Phase.RUN}

    for segment in explained([step.upstream for step in plan.steps], plan.sinks, played_out):
        if segment.cause is Reason.RUN:
            assert segment.duration_s == pytest.approx(ran[segment.task])


def test_many_tasks_that_wait_for_one_worker_are_explained_in_one_pass() -> None:
    spans = [
        span
        for i in range(20_000)
        for span in (run(i, "w0", 0, i, Phase.QUEUE), run(i, "w0", i, i + 1))
    ]
    segments = explained(
        [()] * 20_000, tuple(range(20_000)), trace(*spans, names=[f"t{i}" for i in range(20_000)])
    )

    assert rows(segments) == [
        (19_999, "busy worker", 0.0, 19_999.0),
        (19_999, "run", 19_999.0, 20_000.0),
    ]


@settings(max_examples=40)
@given(st.data())
def test_the_steps_of_the_chain_are_those_that_the_segments_name(data: st.DataObject) -> None:
    plan = data.draw(planned())
    played_out = simulate(plan, data.draw(costs(plan.dag)), Pool(cap=2))
    upstream = [step.upstream for step in plan.steps]

    steps = chain_steps(upstream, plan.sinks, played_out)

    assert all(a in upstream[b] for a, b in pairwise(steps))
    named = [link.task for link in links(explained(upstream, plan.sinks, played_out))]
    assert named == [step for step in steps if step in named]
