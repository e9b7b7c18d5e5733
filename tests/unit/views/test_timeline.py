"""The timeline as a picture."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagnb.trace.trace import Phase, Trace
from dagnb.views.axis import ticks
from dagnb.views.palette import colours
from dagnb.views.timeline import functions_of, timeline_svg
from tests.unit.views.samples import (
    HOSTILE,
    SVG,
    job,
    parsed,
    pinned,
    played,
    run,
    texts,
    titles,
    trace,
)

_BOX = re.compile(r"M([\d.]+) ([\d.]+)h([\d.]+)v([\d.]+)h")


def bars(
    root: ET.Element, kind: str, function: str | None = None
) -> list[tuple[float, float, float, float]]:
    """x, y, width and height of the bars of a kind; of runs, those of a function"""
    looks = (kind, function)
    groups = [
        node
        for node in root.iter(f"{SVG}g")
        if (node.get("data-kind"), node.get("data-function")) == looks
    ]
    found = [_BOX.match(path.get("d", "")) for group in groups for path in group.iter(f"{SVG}path")]
    return [tuple(map(float, match.groups())) for match in found if match]  # type: ignore[misc]  # four groups


def test_bars_are_as_wide_as_their_spans_are_long() -> None:
    root = parsed(timeline_svg(trace(run(0, "w0", 0, 1), run(2, "w1", 1, 4))))

    ((x1, y1, wide1, high1),) = bars(root, "run", "f")
    ((x2, y2, wide2, high2),) = bars(root, "run", "g")
    assert wide2 / wide1 == pytest.approx(3, abs=0.01)
    assert x2 == pytest.approx(x1 + wide1, abs=0.02)
    assert y2 > y1 + high1
    assert high1 == high2


def test_a_line_parts_wide_bars_of_one_colour_that_follow_at_once() -> None:
    """f, f and g on w0; f, a pause and f on w1; on w2 an f and one too narrow to be hidden."""
    seen = trace(
        run(0, "w0", 0, 10), run(1, "w0", 10, 20), run(2, "w0", 20, 30),
        run(0, "w1", 0, 10), run(1, "w1", 15, 20),
        run(0, "w2", 0, 10), run(1, "w2", 10, 10.01),
    )  # fmt: skip
    root = parsed(timeline_svg(seen))

    (line,) = [
        path.get("d", "") for path in root.iter(f"{SVG}path") if path.get("class") == "stroke-bg"
    ]
    _, second, *_ = sorted((y, x, high) for x, y, _, high in bars(root, "run", "f"))
    y, x, high = second
    assert line == f"M{x:g} {y:g}v{high:g}"


def test_a_run_wears_the_colour_of_its_function_wherever_it_is_named_so() -> None:
    root = parsed(timeline_svg(trace(run(0, "w0", 0, 1), run(2, "w0", 1, 2))))

    fills = {
        node.get("data-function"): node.get("fill")
        for node in root.iter(f"{SVG}g")
        if node.get("data-kind") == "run"
    }
    assert fills == colours(["f", "g"])


def test_functions_may_be_given_instead_of_taken_from_names() -> None:
    root = parsed(timeline_svg(trace(run(0, "w0", 0, 1)), ["resize", "resize", "merge"]))

    assert len(bars(root, "run", "resize")) == 1
    assert functions_of(trace(names=("my-task-12", "scan", "scan'", "count-3''"))) == [
        "my-task",
        "scan",
        "scan",
        "count",
    ]


def test_a_cold_start_is_hatched_and_a_warm_one_is_not() -> None:
    spans = [
        run(-1, "w0", 0, 1, Phase.INVOKE, detail="cold"),
        run(-1, "w1", 0, 1, Phase.INVOKE, detail="warm"),
    ]
    root = parsed(timeline_svg(trace(*spans, run(0, "w0", 1, 2))))

    kinds = [node for node in root.iter(f"{SVG}g") if node.get("data-kind")]
    groups = {node.get("data-kind"): next(node.iter(f"{SVG}path")).get("d", "") for node in kinds}
    assert groups["cold"].count("L") > 10
    assert groups["warm"].count("L") == 0
    assert {"cold start", "warm start"} <= set(texts(root))


def test_imports_of_a_task_are_named_and_are_no_start() -> None:
    spans = [run(0, "w0", 0, 1, Phase.IMPORT), run(0, "w0", 1, 3)]
    root = parsed(timeline_svg(trace(*spans)))

    kinds = [node.get("data-kind") for node in root.iter(f"{SVG}g") if node.get("data-kind")]
    ((_, y, wide, high),) = bars(root, "import")
    ((_, run_y, run_wide, run_high),) = bars(root, "run", "f")
    assert kinds == ["import", "run"]
    assert (y, high) == (run_y, run_high)
    assert run_wide == pytest.approx(2 * wide, rel=0.01)
    assert "import" in texts(root)
    assert "f-0 import: 1 s, from 0 s" in titles(root)


def test_traffic_lies_below_the_work_of_its_lane() -> None:
    root = parsed(
        timeline_svg(trace(run(0, "w0", 0, 2, Phase.FETCH), run(0, "w0", 1, 3), run(1, "w1", 0, 3)))
    )

    ((_, fetch_y, _, fetch_high),) = bars(root, "fetch")
    (_, run_y, _, run_high), (_, next_y, _, _) = sorted(
        bars(root, "run", "f"), key=lambda bar: bar[1]
    )
    assert run_y + run_high <= fetch_y
    assert fetch_y + fetch_high < next_y


def test_tooltips_say_task_phase_time_size_and_attempt() -> None:
    spans = [
        run(0, "w0", 0, 0.5, Phase.FETCH, n_bytes=1_500_000),
        run(0, "w0", 0.5, 2.5, attempt=2, detail="ValueError"),
    ]

    assert {
        "f-0 fetch: 500 ms, from 0 s, 1.5 MB",
        "f-0 run: 2 s, from 500 ms, attempt 2, ValueError",
    } <= set(titles(parsed(timeline_svg(trace(*spans)))))


def test_queueing_is_not_drawn() -> None:
    root = parsed(timeline_svg(trace(run(0, "w0", 0, 3, Phase.QUEUE), run(0, "w0", 3, 4))))

    assert bars(root, "queue") == []
    assert "queue" not in texts(root)


def test_what_the_client_does_before_and_after_makes_the_picture_no_longer() -> None:
    acts = [run(0, "w0", 0, 2), run(1, "w0", 2, 4)]
    client = [run(-1, "", -30, 0, Phase.SUBMIT), run(-1, "", 4, 60, Phase.RETURN)]
    times = Trace.of([*acts, *client], ("f-0", "g-0"), submitted_s=1_000.0, finished_s=1_004.0)

    assert timeline_svg(times) == timeline_svg(trace(*acts, names=("f-0", "g-0")))


def test_reading_the_program_is_traffic_of_the_worker_or_of_the_task() -> None:
    program = [run(-1, "w0", 0, 1, Phase.PROGRAM, n_bytes=2_000), run(0, "w0", 1, 2, Phase.PROGRAM)]
    root = parsed(timeline_svg(trace(*program, run(0, "w0", 2, 4))))

    assert len(bars(root, "program")) == 2
    assert {"w0 program: 1 s, from 0 s, 2 kB", "f-0 program: 1 s, from 1 s"} <= set(titles(root))
    assert "program" in texts(root)


def test_what_was_planned_is_outlined_and_both_ends_are_marked() -> None:
    plan = pinned(job(), ["w0", "w1"])
    root = parsed(timeline_svg(played(plan), planned=played(plan, run_s=1.3)))

    outline = next(
        node for node in root.iter(f"{SVG}path") if "planned" in (node.get("class") or "")
    )
    assert outline.get("d", "").count("z") == len(plan.steps)
    words = texts(root)
    assert [w for w in words if w.startswith(("end ", "planned "))] == [
        f"end {played(plan).makespan_s:.3g} s",
        f"planned {played(plan, run_s=1.3).makespan_s:.3g} s",
    ]


def test_ten_thousand_spans_are_less_than_a_megabyte() -> None:
    spans = []
    for i in range(2_000):
        begin = i * 0.05
        for j, phase in enumerate((Phase.FETCH, Phase.LOAD, Phase.RUN, Phase.STORE, Phase.COMMIT)):
            spans.append(run(i, f"w{i % 16}", begin + j * 0.1, begin + j * 0.1 + 0.1, phase))
    svg = timeline_svg(trace(*spans, names=[f"f{i % 7}-{i}" for i in range(2_000)]))

    assert len(spans) == 10_000
    assert len(svg) < 600_000
    assert len(parsed(svg)) > 0


def test_three_times_as_many_spans_are_no_larger() -> None:
    spans = [run(i, f"w{i % 300}", i * 0.003, i * 0.003 + 0.9) for i in range(30_000)]
    svg = timeline_svg(trace(*spans, names=[f"f-{i}" for i in range(30_000)]))

    assert len(svg) < 800_000
    assert any("f: " in title and " x " in title for title in titles(parsed(svg)))


def test_hostile_names_stay_text() -> None:
    spans = [run(i, name, i, i + 1, detail=name) for i, name in enumerate(HOSTILE)]
    svg = timeline_svg(trace(*spans, names=HOSTILE))

    assert {node.tag for node in parsed(svg).iter()} == {
        f"{SVG}{name}" for name in ("svg", "style", "rect", "g", "path", "title", "text")
    }
    assert "<img" not in svg


@pytest.mark.parametrize(
    "spans",
    [(), (run(0, "w0", 0, 0),), (run(-1, "", -1, 0, Phase.SUBMIT),)],
    ids=["none", "instant", "submission only"],
)
def test_a_trace_of_almost_nothing_has_a_picture(spans: tuple[()]) -> None:
    assert texts(parsed(timeline_svg(trace(*spans))))[0].startswith("0")


def test_a_narrow_picture_keeps_bars_inside() -> None:
    root = parsed(
        timeline_svg(
            played(pinned(job(), ["w0", "worker-with-a-name-that-is-far-too-long"])), width=400
        )
    )

    assert root.get("width") == "400"
    assert all(
        x + wide <= 400
        for look in (("run", "count"), ("fetch", None))
        for x, _, wide, _ in bars(root, *look)
    )


@pytest.mark.parametrize(
    ("span_s", "last", "n"),
    [
        (3.2, 3.0, 7),
        (0.0004, 0.0004, 9),
        (90.0, 90.0, 7),
        (700.0, 600.0, 6),
        (86_400.0, 86_400.0, 7),
        (0.0, 0.0, 1),
    ],
)
def test_ticks_are_round(span_s: float, last: float, n: int) -> None:
    found = ticks(span_s)

    assert (found[-1], len(found)) == (last, n)


@given(st.floats(1e-6, 1e9))
def test_ticks_are_even_few_and_within(span_s: float) -> None:
    found = ticks(span_s)

    assert 2 <= len(found) <= 14
    assert found[0] == 0
    assert found[-1] <= span_s * (1 + 1e-6)
    assert found[1] * (len(found) - 1) == pytest.approx(found[-1], rel=1e-3)


def test_a_trace_read_back_gives_the_same_picture() -> None:
    made = played(pinned(job(), ["w0", "w1"]))

    assert timeline_svg(Trace.from_json(made.to_json())) == timeline_svg(made)


def test_workers_are_named_in_words() -> None:
    root = parsed(timeline_svg(trace(run(0, "~/1", 0, 1), run(2, "~200mb/1", 0, 1))))

    assert {"worker 1", "worker 1 (200 MB)"} <= set(titles(root))
    assert not any("~" in text for text in [*texts(root), *titles(root)])


def test_failed_attempts_have_a_colour_an_entry_and_words_of_their_own() -> None:
    """f-0 fails on w0 and succeeds on w1; f-1 fails for good."""
    spans = [
        run(0, "w0", 0, 2),
        run(0, "w1", 3, 5, attempt=2),
        run(1, "w0", 2, 4),
        run(1, "w0", 4, 4.5, Phase.COMMIT, detail="failed"),
    ]

    root = parsed(timeline_svg(trace(*spans)))

    assert len(bars(root, "failed")) == 2
    assert len(bars(root, "run", "f")) == 1
    assert "failed attempt" in texts(root)
    said = titles(root)
    assert "f-0 failed attempt: 2 s, from 0 s, attempt 1" in said
    assert "f-1 failed attempt: 2 s, from 2 s, attempt 1" in said
    assert "f-0 run: 2 s, from 3 s, attempt 2" in said
    (group,) = (node for node in root.iter(f"{SVG}g") if node.get("data-kind") == "failed")
    assert group.get("class") == "fill-lost stroke-failed"
    assert "L" in (next(group.iter(f"{SVG}path")).get("d") or "")  # hatched, not only coloured


def test_a_failed_attempt_on_a_page_says_itself_that_it_failed() -> None:
    """The page's script knows the latest attempt of a task alone."""
    drawn = timeline_svg(trace(run(0, "w0", 0, 2), run(0, "w1", 3, 5, attempt=2)), is_bare=True)

    assert 'data-say="f-0 failed attempt: 2 s, from 0 s, attempt 1"' in drawn


def test_a_run_without_failures_has_no_entry_for_them() -> None:
    assert "failed attempt" not in texts(parsed(timeline_svg(trace(run(0, "w0", 0, 1)))))


def test_bars_with_room_say_their_task_and_duration_and_narrow_ones_do_not() -> None:
    spans = [run(0, "w0", 0, 90), run(1, "w0", 90, 93), run(2, "w0", 93, 93.5)]

    said = texts(parsed(timeline_svg(trace(*spans))))

    assert "f-0 1 min 30 s" in said
    assert "3 s" in said
    assert not any(text.endswith("500 ms") for text in said)


def test_lanes_of_half_height_have_no_words() -> None:
    spans = [run(0, f"w{i}", 0, 9) for i in range(31)]

    assert "f-0 9 s" not in texts(parsed(timeline_svg(trace(*spans))))
