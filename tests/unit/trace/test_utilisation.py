"""The time of the workers by its use."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagnb.planning.planner import Pool
from dagnb.simulation.simulate import simulate
from dagnb.trace.lost_attempts import UNRECORDED, with_killed
from dagnb.trace.trace import Phase, Trace
from dagnb.trace.utilisation import Use, utilisation
from tests.strategies import plans, problems
from tests.unit.views.samples import run, trace


def test_the_seconds_of_workers_are_shared_out_from_their_first_act_to_the_end_of_the_run() -> None:
    spans = [
        run(-1, "", 0, 1, Phase.SUBMIT),
        run(-1, "w0", 0, 1, Phase.INVOKE),
        run(-1, "w0", 1, 2, Phase.PROGRAM),
        run(0, "w0", 2, 6),
        run(0, "w0", 6, 7, Phase.COMMIT),
        run(1, "w1", 2, 5, Phase.QUEUE),
        run(-1, "w1", 3, 5, Phase.BOOT),
        run(1, "w1", 5, 6, Phase.FETCH),
        run(1, "w1", 6, 10),
    ]

    used = utilisation(trace(*spans))

    assert used.n_workers == 2
    assert used.total_s == pytest.approx(10 + 7)
    assert used.seconds == pytest.approx(
        {Use.COMPUTING: 8, Use.FAILED: 0, Use.STARTING: 4, Use.MOVING: 2, Use.IDLE: 3}
    )
    assert Use.FAILED not in used.shares()


def test_acts_that_overlap_count_once() -> None:
    """A worker fetches for a later task while it runs one."""
    spans = [run(0, "w0", 0, 4), run(1, "w0", 1, 5, Phase.FETCH), run(1, "w0", 6, 8)]

    assert utilisation(trace(*spans)).seconds == pytest.approx(
        {Use.COMPUTING: 6, Use.FAILED: 0, Use.STARTING: 0, Use.MOVING: 1, Use.IDLE: 1}
    )


def test_failed_and_killed_attempts_are_no_computing() -> None:
    spans = [
        run(0, "w0", 0, 1),
        run(0, "w0", 4, 6, attempt=3),
        run(1, "w0", 6, 7),
        run(1, "w0", 7, 8, Phase.COMMIT, detail="failed"),
    ]
    killed = [
        run(0, "w0", 0, 9, detail=UNRECORDED),
        run(0, "w0", 1, 3, attempt=2, detail=UNRECORDED),
    ]

    used = utilisation(with_killed(trace(*spans), killed))

    assert used.seconds[Use.FAILED] == pytest.approx(1 + 2 + 1)
    assert used.seconds[Use.COMPUTING] == pytest.approx(2)
    assert used.seconds[Use.IDLE] == pytest.approx(1)


def test_what_happens_outside_the_run_does_not_count() -> None:
    """A clock that is behind, and a task that still runs after the last sink."""
    spans = [run(0, "w0", -1, 2), run(1, "w1", 1, 9)]

    used = utilisation(replace(trace(*spans), finished_s=1_004.0))

    assert used.seconds[Use.COMPUTING] == pytest.approx(2 + 3)
    assert used.total_s == pytest.approx(4 + 3)


def test_a_run_without_workers_used_no_time() -> None:
    used = utilisation(Trace.of((), "a", submitted_s=0.0, finished_s=3.0))

    assert (used.n_workers, used.total_s, used.shares()) == (0, 0.0, {})


@settings(max_examples=60)
@given(st.data())
def test_the_uses_of_any_simulated_run_add_up_to_the_seconds_of_its_workers(
    data: st.DataObject,
) -> None:
    problem = data.draw(problems())
    plan = data.draw(plans(problem.dag, copies=True, linger=True))
    pool = data.draw(st.sampled_from((problem.pool, Pool(cap=2, eager=False, linger_s=0.5))))
    played = simulate(plan, problem.costs, pool)

    used = utilisation(played)

    there_s = 0.0
    for worker in played.workers:
        acts = [s.begin_s for s in played.by_worker[worker] if s.phase is not Phase.QUEUE]
        first = min(acts, default=played.finished_s)
        there_s += max(0.0, played.finished_s - first)
    assert used.total_s == pytest.approx(there_s)
    assert used.total_s <= len(played.workers) * played.makespan_s * (1 + 1e-9)
    if used.total_s:
        assert sum(used.shares().values()) == pytest.approx(1.0)
