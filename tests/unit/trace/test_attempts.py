"""Attempts before the last one: what they cost, and which of them failed."""

from __future__ import annotations

from dagnb.trace.attempts import earlier_attempts
from dagnb.trace.trace import Phase, Span, Trace

FIRST = [
    Span(0, "w0", Phase.QUEUE, 0.0, 0.5),
    Span(0, "w0", Phase.LOAD, 0.5, 1.0),
    Span(0, "w0", Phase.IMPORT, 1.0, 3.0),
    Span(0, "w0", Phase.RUN, 3.0, 7.0),
]
REPORT = Span(0, "w0", Phase.COMMIT, 7.0, 7.25, detail="failed")
SECOND = [
    Span(0, "w1", Phase.QUEUE, 9.25, 10.0, attempt=2),
    Span(0, "w1", Phase.RUN, 10.0, 12.0, attempt=2),
    Span(0, "w1", Phase.DUMP, 12.0, 12.25, attempt=2),
    Span(0, "w1", Phase.COMMIT, 12.25, 12.5, attempt=2),
]


def traced(*spans: Span) -> Trace:
    return Trace.of(spans, ["a"], submitted_s=0.0, finished_s=12.5)


def test_an_attempt_that_failed_has_its_seconds_and_its_back_off() -> None:
    ((attempt,),) = earlier_attempts(traced(*FIRST, REPORT, *SECOND)).values()

    assert (attempt.load_s, attempt.import_s, attempt.run_s) == (0.5, 2.0, 4.0)
    assert attempt.wait_s == 2.0
    assert attempt.is_failure


def test_an_attempt_whose_worker_died_is_no_failure_of_its_function() -> None:
    ((attempt,),) = earlier_attempts(traced(*FIRST, *SECOND)).values()

    assert not attempt.is_failure


def test_a_task_that_succeeded_at_once_has_no_earlier_attempt() -> None:
    assert earlier_attempts(traced(*FIRST)) == {}
