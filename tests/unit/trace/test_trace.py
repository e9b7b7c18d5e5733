"""Facts that a trace derives from its spans."""

from __future__ import annotations

from dagnb.trace.trace import Phase, Span, Trace


def test_the_last_attempt_of_a_step_is_all_that_counts_of_it() -> None:
    spans = [
        Span(0, "w0", Phase.LOAD, 0.0, 1.0, 10, 1),
        Span(0, "w0", Phase.RUN, 1.0, 2.0, 0, 1),
        Span(-1, "w1", Phase.REGISTER, 0.0, 1.0),
        Span(1, "w1", Phase.RUN, 1.0, 4.0, 0, 1),
        Span(0, "w1", Phase.RUN, 5.0, 6.0, 0, 2),
        Span(0, "w1", Phase.DUMP, 6.0, 7.0, 30, 2),
        Span(0, "w0", Phase.DUMP, 8.0, 9.0, 20, 1),
    ]

    last = Trace.of(spans, ["a", "b"], submitted_s=0.0, finished_s=9.0).last_attempts

    assert last == {0: {Phase.RUN: spans[4], Phase.DUMP: spans[5]}, 1: {Phase.RUN: spans[3]}}


def test_of_two_spans_of_one_phase_the_later_counts() -> None:
    spans = [Span(0, "w0", Phase.COMMIT, begin, begin + 1.0) for begin in (3.0, 1.0)]

    last = Trace.of(spans, ["a"], submitted_s=0.0, finished_s=9.0).last_attempts

    assert last == {0: {Phase.COMMIT: spans[0]}}
