"""Planned and real beside one another."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from dagnb.forecast.makespans import DelayCause, Makespans, makespans
from dagnb.graph import client_hook
from dagnb.planning.plan import Forecast, Plan
from dagnb.trace.trace import Phase
from dagnb.views.compared import compared_svg, delays, makespans_lines, makespans_svg
from dagnb.views.show import bundle
from tests import graphs
from tests.unit.views.samples import (
    HOSTILE,
    SVG,
    description_of,
    parsed,
    pinned,
    played,
    predicted,
    run,
    texts,
    titles,
    trace,
)


def compared(plan: Plan, run_s: float = 1.5) -> Makespans:
    return makespans(description_of(plan.dag), played(plan, run_s=run_s), plan)


def test_a_task_is_delayed_by_as_much_as_it_ends_later_than_planned() -> None:
    planned = trace(run(0, "w0", 0, 1), run(1, "w0", 1, 2))
    real = trace(run(0, "w0", 0, 1.5), run(1, "w0", 1.5, 1.75), run(2, "w0", 1.75, 2))

    assert delays(planned, real) == {0: (1.5, 0.5), 1: (1.75, -0.25)}


def test_bars_say_how_late_they_were_over_outlines_of_what_was_planned() -> None:
    plan = pinned(graphs.chain(2), ["w0"])
    root = parsed(compared_svg(played(plan), played(plan, run_s=1.5)))

    assert {
        "t0 run: 1.5 s, from 100 ms\n500 ms later than planned",
        "t1 run: 1.5 s, from 1.7 s\n1 s later than planned",
    } <= set(titles(root))
    outline = next(
        node for node in root.iter(f"{SVG}path") if "planned" in (node.get("class") or "")
    )
    assert outline.get("d", "").count("z") == 2
    assert texts(root)[0] == "planned 2.2 s, real 3.2 s"


def test_stems_are_as_high_as_tasks_were_late_and_hang_when_they_were_early() -> None:
    planned = trace(run(0, "w0", 0, 1), run(1, "w0", 1, 4))
    real = trace(run(0, "w0", 0, 3), run(1, "w0", 3, 3.5))
    root = parsed(compared_svg(planned, real))

    stems = {
        node[0].text: node
        for node in root.iter(f"{SVG}path")
        if "v" in node.get("d", "") and len(node) and "z" not in node.get("d", "")
    }
    high = {
        said: float(re.findall(r"v(-?[\d.]+)", node.get("d", ""))[0])
        for said, node in stems.items()
    }
    assert high == {
        "f-0 2 s later than planned": -34.0,
        "f-1 500 ms sooner than planned": pytest.approx(8.5),
    }
    assert [node.get("class") for node in stems.values()] == ["stroke-failed", "stroke-done"]


def test_the_makespans_of_a_run_are_explained_beside_one_another() -> None:
    found = compared(predicted(pinned(graphs.chain(3), ["w0"]), run_s=dict.fromkeys(range(3), 1.0)))
    words = texts(parsed(makespans_svg(found)))

    assert words[0] == "plan 3 s, replay 4.52 s, real 4.8 s"
    assert words[1] == "1.8 s late: task durations +1.52 s, scheduling +279 ms"
    assert {"planned, 3 s: where the time goes", "real, 4.8 s: where the time goes"} <= set(words)
    assert any(word.startswith("Largest causes: +500 ms run of t0") for word in words)


def test_causes_too_many_for_one_line_go_on_in_the_next() -> None:
    found = compared(predicted(pinned(graphs.chain(3), ["w0"])))
    long = tuple(
        DelayCause(phase=Phase.RUN, task=f"{'long' * 10}-{i}", seconds=0.5) for i in range(5)
    )
    words = texts(parsed(makespans_svg(replace(found, causes=long))))

    said = " ".join(word for word in words if "run of long" in word)
    assert said == "Largest causes: " + ", ".join(f"+500 ms run of {cause.task}" for cause in long)
    assert sum("run of long" in word for word in words) == 3


def test_without_a_plan_the_replay_is_drawn_and_without_a_trace_nothing() -> None:
    plan = pinned(graphs.chain(3), ["w0"])
    found = makespans(description_of(plan.dag), played(plan))

    assert texts(parsed(makespans_svg(found)))[0] == "replay 3.02 s, real 3.3 s"
    assert makespans_svg(Makespans(real_s=1.0, replay_s=1.0)) == ""


def test_a_notebook_shows_the_picture_and_the_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_hook, "_client", replace(client_hook.client(), show=bundle))
    found = compared(predicted(pinned(graphs.chain(3), ["w0"])))

    shown = found._repr_mimebundle_()
    assert shown["image/svg+xml"] == makespans_svg(found)
    assert shown["text/plain"] == str(found)
    assert bundle(Makespans(real_s=1.0, replay_s=1.0)) == {
        "text/plain": str(Makespans(real_s=1.0, replay_s=1.0))
    }


def test_lines_say_whether_the_band_held() -> None:
    forecast = Forecast(p10_s=1.0, p50_s=1.5, p90_s=2.0)
    found = Makespans(
        real_s=3.0,
        replay_s=2.5,
        plan_s=1.5,
        forecast=forecast,
        causes=(DelayCause(task="", phase=Phase.INVOKE, seconds=-0.5),),
    )

    assert makespans_lines(found) == [
        "1.5 s late: task durations +1 s, scheduling +500 ms",
        "Outside the forecast of 1 to 2 s",
        "Largest causes: -500 ms invoke of workers",
    ]


def test_hostile_names_stay_text() -> None:
    spans = [run(i, name, i, i + 1, detail=name) for i, name in enumerate(HOSTILE)]
    svg = compared_svg(trace(*spans, names=HOSTILE), trace(*spans, names=HOSTILE), lines=HOSTILE)

    assert parsed(svg).tag == f"{SVG}svg"
    assert "<img" not in svg
