"""What is known of a run from one moment to the next."""

from __future__ import annotations

from dataclasses import replace

from dagnb.protocol.messages import Event, RunState
from dagnb.trace.lost_attempts import UNRECORDED
from dagnb.trace.trace import LATE_S
from dagnb.views.snapshot import MAX_LOG, ended, joined
from tests.unit.views.samples import job, observed, run, snapped


def test_what_was_known_stays_and_what_is_new_is_added() -> None:
    dag = job(2)
    before = snapped(dag, "DXWWWW", run(0, "w0", 0, 1), logs={0: "scanned"})
    seen = observed(
        dag, "DDXWWW", events=(Event(1_003.0, "start", 2, "w1"), Event(1_003.0, "done", 1, "w0"))
    )

    now = joined(before, seen, [run(1, "w0", 1, 2)], {1: "", 0: "scanned again"}, n_chunks=3)

    assert [span.task for span in now.spans] == [0, 1]
    assert now.n_chunks == 4
    assert now.logs == {0: "scanned again"}
    assert now.started == {2: (1_003.0, "w1")}
    assert now.description is before.description


def test_tasks_of_which_an_attempt_ended_may_have_printed() -> None:
    dag = job(2)

    assert ended(observed(dag, "DXWFBR"), None) == [0, 3, 4, 5]
    assert ended(observed(dag, "DDXFWR"), snapped(dag, "DXRXWX")) == [1, 3, 5]


def test_the_time_goes_on_until_the_run_is_over() -> None:
    dag = job(2)

    assert snapped(dag, "DXWWWW", now=1_007.5).elapsed_s == 7.5
    over = snapped(dag, "DDDDDD", state=RunState.OK, finished_at=1_004.0, now=1_500.0)
    assert (over.elapsed_s, over.is_over, over.trace.makespan_s) == (4.0, True, 4.0)


def test_spans_are_complete_when_all_who_took_part_have_left_or_it_is_too_late() -> None:
    dag = job(2)
    end = {"state": RunState.OK, "finished_at": 1_004.0, "n_instances": 2}

    def settled(n_left: int, **changes: object) -> bool:
        return replace(snapped(dag, "DDDDDD", **(end | changes)), n_left=n_left).is_settled

    assert [settled(n_left, now=1_004.1) for n_left in (0, 1, 2, 3)] == [False, False, True, True]
    assert settled(0, now=1_004.0 + LATE_S + 0.1)
    assert settled(0, now=1_004.1, n_instances=0)
    assert not settled(9, state=RunState.RUNNING)


def test_who_has_left_is_counted_from_moment_to_moment() -> None:
    before = joined(
        None, replace(observed(job(2), "DWWWWW"), meta=_META), [], {}, n_chunks=4, n_left=1
    )

    now = joined(before, observed(job(2), "DDWWWW"), [], {}, n_chunks=3, n_left=2)

    assert (now.n_chunks, now.n_left) == (7, 3)


def test_of_a_long_output_only_the_end_is_held() -> None:
    now = joined(
        None,
        replace(observed(job(2), "DWWWWW"), meta=_META),
        [],
        {0: "a" * 99_999 + "end"},
        n_chunks=0,
    )

    assert now.logs[0].endswith("aend")
    assert len(now.logs[0]) == 2 * MAX_LOG + 1


_META = '{"name": "x", "planner": "p", "names": ["f"], "functions": ["f"], "upstream": [[]], "sinks": [0]}'


def test_an_attempt_that_its_worker_could_not_record_is_known_from_the_events() -> None:
    """Task 1 is killed on w0, then raises on w1, then succeeds."""
    dag = job(2)
    before = joined(
        None,
        replace(
            observed(
                dag,
                "DRWWWW",
                events=(Event(1_001.0, "start", 1, "w0"), Event(1_003.0, "retry", 1, "w0")),
            ),
            meta=_META,
        ),
        [],
        {},
        n_chunks=1,
    )
    seen = observed(
        dag,
        "DDWWWW",
        events=(
            Event(1_004.0, "start", 1, "w1"),
            Event(1_005.0, "retry", 1, "w1"),
            Event(1_006.0, "start", 1, "w1"),
            Event(1_007.0, "done", 1, "w1"),
        ),
    )
    own = [run(1, "w1", 4, 5, attempt=2), run(1, "w1", 6, 7, attempt=3)]

    now = joined(before, seen, own, {}, n_chunks=1)

    killed = run(1, "w0", 1, 3, attempt=1, detail=UNRECORDED)
    assert now.whole_trace.spans == (killed, *own)
    assert now.trace.spans == tuple(own)


def test_a_run_without_bad_ends_has_one_trace() -> None:
    now = snapped(job(2), "DXWWWW", run(0, "w0", 0, 1))

    assert now.whole_trace == now.trace
