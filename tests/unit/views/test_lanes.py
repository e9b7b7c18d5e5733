"""Bars of a timeline: what is drawn alone, what joins, who shares a lane."""

from __future__ import annotations

from dagnb.trace.trace import Phase
from dagnb.views.lanes import MAX_BARS, MAX_LANES, OWN_LANES, lanes
from tests.unit.views.samples import run, trace

NAMES = ("f", "f", "g")


def test_wide_spans_are_bars_of_their_own_with_work_and_traffic_apart() -> None:
    spans = [
        run(-1, "w0", 0, 1, Phase.INVOKE, detail="cold"),
        run(0, "w0", 1, 2, Phase.FETCH),
        run(0, "w0", 2, 4),
        run(2, "w1", 0, 4),
    ]
    found = lanes(trace(*spans), NAMES, pixel_s=0.01)

    assert found.names == (("w0",), ("w1",))
    assert [(b.lane, *b.look, b.is_traffic, b.begin_s, b.end_s, b.n) for b in found.bars] == [
        (0, "cold", "", False, 0.0, 1.0, 1),
        (0, "fetch", "", True, 1.0, 2.0, 1),
        (0, "run", "f", False, 2.0, 4.0, 1),
        (1, "run", "g", False, 0.0, 4.0, 1),
    ]


def test_what_nobody_does_is_no_bar() -> None:
    client = [run(-1, "", -1, 0, Phase.SUBMIT), run(-1, "", 4, 9, Phase.RETURN)]
    spans = [*client, run(0, "w0", 0, 3, Phase.QUEUE), run(0, "w0", 3, 4)]

    assert lanes(trace(*spans), NAMES, pixel_s=0.01).names == (("w0",),)
    assert [bar.look for bar in lanes(trace(*spans), NAMES, pixel_s=0.01).bars] == [("run", "f")]


def test_narrow_neighbours_of_one_kind_join_and_keep_their_sum() -> None:
    spans = [run(0, "w0", i * 0.001, i * 0.001 + 0.0005) for i in range(1_000)]
    (bar,) = lanes(trace(*spans), NAMES, pixel_s=0.01).bars

    assert bar.n == 1_000
    assert abs(bar.busy_s - 0.5) < 1e-6
    assert (bar.begin_s, round(bar.end_s, 6)) == (0.0, 0.9995)


def test_a_gap_that_can_be_seen_is_not_joined_over() -> None:
    spans = [run(0, "w0", 0, 0.001), run(0, "w0", 0.5, 0.501)]

    assert [bar.n for bar in lanes(trace(*spans), NAMES, pixel_s=0.01).bars] == [1, 1]


def test_a_narrow_bar_does_not_disappear_into_another_lane_or_row() -> None:
    spans = [
        run(0, "w0", 0, 0.001),
        run(0, "w1", 0, 0.001),
        run(0, "w0", 0.001, 0.002, Phase.COMMIT),
    ]

    assert len(lanes(trace(*spans), NAMES, pixel_s=0.01).bars) == 3


def test_within_a_pixel_the_kind_with_most_time_is_shown() -> None:
    spans = [run(2, "w0", 0.0, 0.001), run(0, "w0", 0.002, 0.008), run(2, "w0", 0.009, 0.0095)]
    (bar,) = lanes(trace(*spans), NAMES, pixel_s=0.01).bars

    assert (bar.look, bar.n) == (("run", "f"), 1)


def test_there_are_never_too_many_bars() -> None:
    spans = [run(i % 3, f"w{i % 40}", i * 0.01, i * 0.01 + 0.2) for i in range(20_000)]
    found = lanes(trace(*spans), NAMES, pixel_s=0.01)

    assert len(found.bars) <= MAX_BARS
    assert sum(bar.busy_s for bar in found.bars) > 0


def test_few_workers_have_lanes_in_natural_order() -> None:
    spans = [run(0, f"w{i}", 12 - i, 13 - i) for i in range(12)]

    assert lanes(trace(*spans), NAMES, pixel_s=0.01).names == tuple((f"w{i}",) for i in range(12))


def test_many_short_lived_workers_take_over_the_lanes_of_those_that_left() -> None:
    spans = [run(0, f"w{i}", i // 20, i // 20 + 0.9) for i in range(OWN_LANES * 5)]
    found = lanes(trace(*spans), NAMES, pixel_s=0.01)

    assert [len(workers) for workers in found.names] == [15] * 20
    assert len(found.bars) == OWN_LANES * 5


def test_workers_without_a_lane_are_counted() -> None:
    spans = [run(0, f"w{i}", 0, 1) for i in range(MAX_LANES + 7)]
    found = lanes(trace(*spans), NAMES, pixel_s=0.01)

    assert (len(found.names), found.n_hidden) == (MAX_LANES, 7)


def test_a_span_that_clocks_put_before_submission_begins_at_zero() -> None:
    (bar,) = lanes(trace(run(0, "w0", -0.5, 0.5)), NAMES, pixel_s=0.01).bars

    assert (bar.begin_s, bar.end_s) == (0.0, 0.5)


def test_a_span_of_no_known_step_is_still_shown() -> None:
    assert [bar.look for bar in lanes(trace(run(9, "w0", 0, 1)), NAMES, pixel_s=0.01).bars] == [
        ("run", "?")
    ]
