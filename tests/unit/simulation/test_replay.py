"""Replay: a simulated run that is measured and simulated again takes as long."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import Phase as Phases
from hypothesis import strategies as st

from dagnb.planning.plan import Plan
from dagnb.planning.planner import Costs, LinearCost, Pool, StartCost
from dagnb.simulation.replay import measured, replay, started
from dagnb.simulation.simulate import play, simulate
from dagnb.trace.starts import worker_starts
from dagnb.trace.trace import Phase, Span, Trace
from tests import graphs, strategies
from tests.unit.forecast.past_runs import description_of, floating

SECONDS = st.sampled_from((0.0, 0.001, 0.1)) | st.floats(0, 3)
STARTS = st.builds(StartCost, invoke_s=SECONDS, boot_s=SECONDS, register_s=st.floats(0.001, 0.5))
"""A worker that is woken does not register again, so registering takes some time here."""
PAUSES = st.just(0.0) | st.floats(0.001, 3)
"""A trace does not show a back-off that is shorter than a rounding error."""
FAILURES = st.lists(st.tuples(SECONDS, PAUSES), min_size=1, max_size=2).map(tuple)
UNLIKE_S = 1.618e-5
"""times a root, so that no sum of some is a sum of others"""
PHASES = (Phases.explicit, Phases.reuse, Phases.generate)
"""to shrink a run takes longer than a test may"""
QUICK = settings(
    max_examples=40,
    phases=PHASES,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@st.composite
def runs(draw: st.DrawFn, *, eager: bool) -> tuple[Plan, Costs, Pool]:
    """Draws plans with values of all sizes, retries, and instances that start and leave.

    No two tasks end at once: the order of two acts of one moment would depend on rounding.
    """
    plan = description_of(draw(strategies.planned(max_tasks=10, copies=True))).plan
    some = st.sampled_from(range(len(plan.steps)))
    kinds = st.sampled_from(strategies.KINDS)
    more: dict[str, Any] = (
        {} if eager else {"starts": draw(st.dictionaries(st.tuples(kinds, st.booleans()), STARTS))}
    )
    usual = draw(strategies.costs(plan.dag))
    costs = usual.with_(
        run_s={
            task: usual.run(task) + UNLIKE_S * math.sqrt(task + 2) for task in range(len(plan.dag))
        },
        wake_s=draw(st.sampled_from((0.0, 0.001, 0.05))),
        commit_s=draw(st.sampled_from((0.0, 0.0003, 0.02))),
        program_s=draw(SECONDS),
        cold=draw(STARTS),
        warm=draw(STARTS),
        failures=draw(st.dictionaries(some, FAILURES, max_size=2)),
        import_s=draw(st.dictionaries(some, SECONDS, max_size=3)),
        **more,
    )
    pool = Pool(
        cap=draw(st.none() | st.integers(1, 4)),
        eager=eager,
        linger_s=math.inf if eager else draw(st.sampled_from((0.0, 0.01, math.inf))),
        keep_alive_s=draw(st.sampled_from((0.0, 0.5, math.inf))),
        warm={} if eager else draw(st.dictionaries(kinds, st.integers(1, 2))),
    )
    return plan, costs, pool


@QUICK
@given(runs(eager=True))
def test_a_replay_on_processes_takes_as_long(case: tuple[Plan, Costs, Pool]) -> None:
    plan, costs, pool = case
    trace = simulate(plan, costs, pool)

    assert replay(plan, trace, pool).makespan_s == pytest.approx(
        trace.makespan_s, rel=1e-6, abs=1e-9
    )


@QUICK
@given(runs(eager=False))
def test_a_replay_on_containers_takes_as_long(case: tuple[Plan, Costs, Pool]) -> None:
    plan, costs, pool = case
    trace = simulate(plan, costs, pool)
    assume(len(started(trace)) == play(plan, costs, pool).fleet.n_started)
    assume(tells_all(trace, costs))

    assert replay(plan, trace, pool).makespan_s == pytest.approx(
        trace.makespan_s, rel=1e-6, abs=1e-9
    )


def tells_all(trace: Trace, costs: Costs) -> bool:
    """Tells whether the spans say everything that a replay needs.

    They must say how long waking takes; each attempt must have fetched what the last one did, and
    succeeded. An instance that was woken for nothing leaves no span, so neither does an unusual
    price of that. An attempt that failed, whose back-off outlasts the run, looks like one whose
    last spans were lost.
    """
    ran, dumped = (
        {s.task for s in trace.spans if s.phase is phase} for phase in (Phase.RUN, Phase.DUMP)
    )
    fetched: dict[int, set[float]] = {}
    for span in trace.spans:
        if span.phase is Phase.FETCH:
            fetched.setdefault(span.task, set()).add(round(span.duration_s, 9))
    is_waking_told = costs.wake_s == Costs.wake_s or any(
        start.was_woken for start in worker_starts(trace, include_woken=True)
    )
    return (
        is_waking_told and ran == dumped and all(len(lengths) == 1 for lengths in fetched.values())
    )


def test_acts_replayed_are_those_measured() -> None:
    plan, pool = description_of(floating(graphs.wide(3))).plan, Pool(cap=2)
    costs = Costs(
        run_s={0: 1.0, 1: 2.0, 2: 3.0, 3: 0.5, 4: 0.1},
        default_output_bytes=10**6,
        fetch=LinearCost(0.1, 1e-7),
        load=LinearCost(0.01),
        failures={2: ((0.3, 0.7), (0.2, 0.4))},
        import_s={0: 0.6, 2: 0.9},
    )
    trace = simulate(plan, costs, pool)

    costs_again, again = measured(trace, 5), replay(plan, trace, pool)

    assert [part for failed in costs_again.failures[2] for part in failed] == pytest.approx(
        [0.3, 0.7, 0.2, 0.4]
    )
    assert [costs_again.run(i) for i in range(5)] == pytest.approx([1.0, 2.0, 3.0, 0.5, 0.1])
    assert costs_again.known_s[0, "import"] == pytest.approx(0.6)
    assert costs_again.known_s[2, "import"] == pytest.approx(0.9)
    assert again.by_phase() == pytest.approx(trace.by_phase())


def test_imports_of_a_failed_attempt_are_a_part_of_its_replayed_run() -> None:
    spans = [
        Span(0, "w0", Phase.IMPORT, 0.0, 2.0),
        Span(0, "w0", Phase.RUN, 2.0, 3.0),
        Span(0, "w0", Phase.QUEUE, 3.5, 4.0, attempt=2),
        Span(0, "w0", Phase.RUN, 4.0, 5.0, attempt=2),
    ]

    costs = measured(Trace.of(spans, ["a"], submitted_s=0.0, finished_s=5.0), 1)

    assert costs.failures[0][0][0] == 3.0
    assert (0, "import") not in costs.known_s


def test_a_failed_attempt_that_unpickled_for_longer_is_replayed_as_long() -> None:
    """Its first attempt unpickles for 2 s, as a cold import may do; the second for 0.5 s."""
    spans = [
        Span(0, "w0", Phase.LOAD, 0.0, 2.0),
        Span(0, "w0", Phase.RUN, 2.0, 3.0),
        Span(0, "w0", Phase.COMMIT, 3.0, 3.1, detail="failed"),
        Span(0, "w0", Phase.QUEUE, 4.1, 4.2, attempt=2),
        Span(0, "w0", Phase.LOAD, 4.2, 4.7, attempt=2),
        Span(0, "w0", Phase.RUN, 4.7, 5.7, attempt=2),
        Span(0, "w0", Phase.DUMP, 5.7, 5.8, attempt=2),
        Span(0, "w0", Phase.COMMIT, 5.8, 5.9, attempt=2),
    ]
    plan = description_of(floating(graphs.drawn("a"))).plan
    trace = Trace.of(spans, plan.names, submitted_s=0.0, finished_s=5.9)

    again = replay(plan, trace, Pool(cap=1))

    assert measured(trace, 1).failures[0][0] == pytest.approx((2.5, 1.0))
    assert again.total_s(Phase.LOAD) + again.total_s(Phase.RUN) == pytest.approx(4.5)


def test_a_container_that_comes_after_the_end_is_not_waited_for() -> None:
    """Two tasks, and a warm container for the first; the cold one is still starting at the end."""
    plan = description_of(floating(graphs.drawn("a", "b"))).plan
    pool = Pool(eager=False, warm={plan.steps[0].resources: 1})
    costs = Costs(
        default_run_s=0.1, cold=StartCost(boot_s=60.0), warm=StartCost(invoke_s=0.1, register_s=0.1)
    )
    trace = simulate(plan, costs, pool)

    assert trace.makespan_s == pytest.approx(0.4, abs=0.01)
    assert replay(plan, trace, pool).makespan_s == pytest.approx(trace.makespan_s)


def test_starts_that_differ_are_replayed_in_the_order_of_demand() -> None:
    plan, pool = description_of(floating(graphs.drawn("a", "b"))).plan, Pool(cap=2)
    starts = (StartCost(invoke_s=0.5, register_s=0.5), StartCost(invoke_s=3.0, register_s=0.5))
    trace = simulate(plan, Costs(default_run_s=4.0, start_series=starts), pool)

    again = replay(plan, trace, pool)

    assert [start.total_s for start in started(trace)] == pytest.approx([1.0, 3.5])
    assert again.makespan_s == pytest.approx(trace.makespan_s)


def test_who_was_only_woken_did_not_start() -> None:
    spans = [
        Span(-1, "w", Phase.INVOKE, 0.0, 1.0, detail="cold"),
        Span(-1, "w", Phase.REGISTER, 1.0, 1.5, detail="cold"),
        Span(-1, "w", Phase.INVOKE, 5.0, 5.25, detail="warm"),
    ]
    trace = Trace.of(spans, ["a"], submitted_s=0.0, finished_s=6.0)

    assert [start.total_s for start in started(trace)] == [1.5]
    assert measured(trace, 1).wake_s == 0.25


def test_a_run_without_any_span_is_replayed_at_usual_prices() -> None:
    plan = description_of(floating(graphs.chain(2))).plan
    bare = Trace.of([], plan.names, submitted_s=0.0, finished_s=1.0)

    assert replay(plan, bare, Pool(cap=1)).makespan_s > 0
