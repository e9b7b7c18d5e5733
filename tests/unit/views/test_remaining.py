"""How much longer a run will take."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dagnb.planning.plan import Forecast
from dagnb.trace.trace import Phase, Span
from dagnb.views.remaining import Remaining, TimeLeft
from dagnb.views.snapshot import Snapshot
from tests import graphs
from tests.unit.views.samples import run, snapped, trace

FORECAST = Forecast(p10_s=8.0, p50_s=10.0, p90_s=15.0, known=0.5)
PLANNED = trace(run(0, "w0", 0, 2), run(1, "w0", 2, 8), run(2, "w0", 8, 10), names="abc")
"""a, b and c one after the other, 2 s, 6 s and 2 s"""


def moment(states: str, elapsed_s: float, **started: float) -> Snapshot:
    """A chain of three. started: a, b, c -> seconds after submission."""
    now = snapped(graphs.chain(3), states, now=1_000.0 + elapsed_s)
    return replace(
        now, started={"abc".index(task): (1_000.0 + at, "w0") for task, at in started.items()}
    )


def p50(states: str, elapsed_s: float, **started: float) -> float:
    left = Remaining(3, FORECAST, PLANNED).left(moment(states, elapsed_s, **started))
    assert left is not None
    return left.p50_s


def test_before_anything_is_done_all_of_it_is_left() -> None:
    assert Remaining(3, FORECAST, PLANNED).left(moment("RWW", 0)) == TimeLeft(
        p10_s=8.0, p50_s=10.0, p90_s=15.0
    )


def test_what_is_done_is_no_longer_left_however_late_it_was() -> None:
    assert p50("DRW", 2) == pytest.approx(8.0)
    assert p50("DRW", 9) == pytest.approx(8.0)
    assert p50("DDR", 9) == pytest.approx(2.0)


def test_a_running_task_counts_as_far_as_it_is_and_no_further_than_it_was_planned() -> None:
    assert p50("DXW", 5, b=2) == pytest.approx(5.0)
    assert p50("DXW", 60, b=2) == pytest.approx(2.0)


def test_the_band_shrinks_with_what_is_left() -> None:
    assert Remaining(3, FORECAST, PLANNED).left(moment("DDR", 9)) == TimeLeft(
        p10_s=pytest.approx(1.6), p50_s=pytest.approx(2.0), p90_s=pytest.approx(3.0)
    )


def ran(n: int) -> tuple[Span, ...]:
    """The first n tasks, a quarter of a second each, as they arrive."""
    pairs = (
        (run(i, "w0", i / 4, (i + 1) / 4), run(i, "w0", (i + 1) / 4, (i + 1) / 4, Phase.DUMP))
        for i in range(n)
    )
    return tuple(span for pair in pairs for span in pair)


def test_a_run_whose_tasks_take_twice_as_long_is_slow_to_its_end_the_surer_the_more_were_seen() -> (
    None
):
    names = [f"t{i}" for i in range(80)]
    plan = trace(*(run(i, "w0", i / 8, (i + 1) / 8) for i in range(80)), names=names)
    found = Remaining(80, FORECAST, plan)
    left = []
    for n in (1, 8, 40):
        now = snapped(graphs.chain(80), "D" * n + "R" + "W" * (79 - n), now=1_000.0 + n / 4)
        seen = found.left(replace(now, spans=ran(n)))
        assert seen is not None
        left.append(seen.p50_s / (10.0 * (1 - n / 80)))
    again = Remaining(80, FORECAST, plan).left(replace(now, spans=ran(n)))

    assert left[0] < left[1] < left[2]
    assert left == pytest.approx([1.32, 1.80, 1.95], abs=0.02)
    assert again == seen


def test_an_attempt_that_failed_at_once_says_nothing_of_the_pace() -> None:
    failed = run(0, "w0", 0, 0.01)
    now = replace(moment("XWW", 1, a=1), spans=(failed,))

    left, before = (
        Remaining(3, FORECAST, PLANNED).left(seen) for seen in (now, replace(now, spans=()))
    )

    assert left == before


def test_of_a_run_as_quick_as_planned_the_pace_is_one() -> None:
    now = replace(moment("DRW", 2), spans=(run(0, "w0", 0, 2), run(0, "w0", 2, 2, Phase.DUMP)))

    left = Remaining(3, FORECAST, PLANNED).left(now)

    assert left is not None
    assert left.p50_s == pytest.approx(8.0)


def test_without_the_planned_run_tasks_count_alike() -> None:
    left = Remaining(3, FORECAST).left(moment("DRW", 9))

    assert left is not None
    assert left.p50_s == pytest.approx(20 / 3)


@pytest.mark.parametrize(
    "forecast", [None, replace(FORECAST, known=0.0)], ids=["no forecast", "only guesses"]
)
def test_nothing_is_left_to_say_where_nothing_is_known(forecast: Forecast | None) -> None:
    assert Remaining(3, forecast, PLANNED).left(moment("DRW", 3)) is None


def test_a_run_that_is_over_has_nothing_left() -> None:
    now = moment("DDD", 9)
    over = replace(now, seen=replace(now.seen, state="ok"))

    assert Remaining(3, FORECAST, PLANNED).left(over) is None
