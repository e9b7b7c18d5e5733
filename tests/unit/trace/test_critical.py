"""Which steps made a run as long as it was."""

from __future__ import annotations

from dagnb.trace.span import Phase
from dagnb.trace.critical import Window, critical_path, windows
from tests import graphs
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
