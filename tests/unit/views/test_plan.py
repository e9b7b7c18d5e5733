"""The planning image."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest

from dagnb.graph import client_hook
from dagnb.graph.dag import Dag
from dagnb.graph.resources import Resources
from dagnb.planning.plan import Plan, Prewarm, Step, Way, WorkerTerms
from dagnb.planning.planner import HINTED, UNKNOWN, Basis, StartCost, Uncertainty
from dagnb.views.palette import PLAIN, colours
from dagnb.views.plan import copied, plan_svg, summary
from dagnb.views.show import bundle
from tests import graphs
from tests.unit.planning.test_chains import THREE_BRANCHES
from tests.unit.views.samples import (
    HOSTILE,
    SVG,
    arrows,
    boxes,
    floating,
    frame,
    job,
    parsed,
    pinned,
    played,
    predicted,
    texts,
    titles,
)


def stripe(box: ET.Element) -> str | None:
    return next(path.get("stroke") for path in box.iter(f"{SVG}path"))


def bold(root: ET.Element) -> list[str]:
    return [label for label, box in boxes(root).items() if frame(box).get("stroke-width") == "2.4"]


def test_pinned_steps_say_their_worker_and_wear_its_colour() -> None:
    root = parsed(plan_svg(pinned(graphs.diamond(), ["w0", "w1"])))

    found = boxes(root)
    assert {label: texts(box)[1] for label, box in found.items()} == {
        "a": "w0",
        "b": "w1",
        "c": "w0",
        "d": "w1",
    }
    assert {label: stripe(box) for label, box in found.items()} == {
        label: colours(["w0", "w1"])[worker]
        for label, worker in zip("abcd", ("w0", "w1", "w0", "w1"), strict=True)
    }
    assert "Planner dealt: 4 tasks on 2 workers" in texts(root)


def test_floating_steps_are_dashed_and_name_what_their_pool_has() -> None:
    root = parsed(plan_svg(floating(graphs.diamond(), resources=Resources(cpus=2))))

    assert {texts(box)[1] for box in boxes(root).values()} == {"any worker (2 CPUs)"}
    assert {frame(box).get("stroke-dasharray") for box in boxes(root).values()} == {"5 3"}
    assert {stripe(box) for box in boxes(root).values()} == {PLAIN}
    assert "any free worker" in texts(root)
    assert "Planner loose: 4 tasks, any free worker takes the next" in texts(root)


def test_a_copy_has_a_second_frame_and_says_why() -> None:
    steps = (
        Step(task=0, worker="w0"),
        Step(task=0, worker="w1"),
        Step(task=1, upstream=(1,), worker="w1"),
    )
    plan = Plan(dag=graphs.chain(2), steps=steps, planner="p")
    found = boxes(parsed(plan_svg(plan)))

    assert copied(plan) == {1}
    assert {label: len(list(box.iter(f"{SVG}rect"))) for label, box in found.items()} == {
        "t0": 1,
        "t0'": 2,
        "t1": 1,
    }
    assert "copy" in titles(found["t0'"])[0]
    assert summary(plan) == "Planner p: 2 tasks on 2 workers, 1 copy"


def test_a_prediction_gives_times_and_a_bold_critical_path() -> None:
    """a -> b -> d      c shares the worker of a; b has one of its own
    `-> c -/
    """
    plan = pinned(graphs.diamond(), ["w0", "w1"])
    long = played(plan)
    spans = [
        replace(s, end_s=s.end_s - 0.5) if s.task == 2 and s.phase == "run" else s
        for s in long.spans
    ]
    root = parsed(plan_svg(plan, replace(long, spans=tuple(spans))))

    assert bold(root) == ["a", "b", "d"]
    assert {label: texts(box)[2] for label, box in boxes(root).items()} == {
        "a": "0 to 1.1 s",
        "b": "1.1 to 2.2 s",
        "c": "1.1 to 1.7 s",
        "d": "2.2 to 3.3 s",
    }
    assert sorted(arrow.get("stroke-width", "") for arrow in arrows(root)) == [
        "1.4",
        "1.4",
        "2.6",
        "2.6",
    ]
    assert "critical path: d waits for b" in titles(boxes(root)["d"])[0]
    assert any("forecast 3.3 s" in text for text in texts(root))


def test_an_arrow_is_bold_only_where_the_path_follows_a_value() -> None:
    """f0 -> g0, ..., f34 -> g34 on one worker: g0 waits for the worker, not for a value of f34"""
    names = [f"{function}-{i}" for function in "fg" for i in range(35)]
    dag = Dag.from_edges(
        names, zip(names[:35], names[35:], strict=True), functions=[name[0] for name in names]
    )
    plan = pinned(dag, ["w0"])
    root = parsed(plan_svg(plan, played(plan)))

    assert bold(root) == ["f", "g"]
    assert [arrow.get("stroke-width") for arrow in arrows(root)] == ["1.4"]
    assert "g-0 waits for its worker, busy with f-34" in titles(boxes(root)["g"])[0]


def test_a_plan_that_knows_its_problem_says_what_is_predicted_of_it() -> None:
    """a -> b -> d      b and c take 2 s each, on workers of their own that start cold in 1 s
    `-> c -/
    """
    plan = predicted(
        pinned(graphs.diamond(), ["w0", "w1", "w2"]),
        run_s={0: 1.0, 1: 2.0, 2: 2.0, 3: 1.0},
        cold=StartCost(invoke_s=1.0),
        warm=StartCost(),
        uncertainty=Uncertainty(batch=0.1),
        basis=dict.fromkeys(range(4), Basis("5 samples")),
    )
    root = parsed(plan_svg(plan))

    words = texts(root)
    assert words[0] == "Planner dealt: 4 tasks on 3 workers"
    assert words[1] == "Forecast: 5 s (4.51 to 5.56 s in 8 of 10 runs)"
    assert (
        words[2]
        == "7.5 GB·s · 1 cold start, 1 warm · at most 25 % above optimal, if these durations hold"
    )
    assert words[3].startswith("With these durations, no plan takes less than 4 s: the longest way")
    assert words[4] == "Durations from past runs or hints"
    assert texts(boxes(root)["d"])[2] == "4 to 5 s"
    assert {"cold start", "warm start", "80 % computing", "20 % starting workers"} <= set(words)
    assert (
        "3 s of the makespan: 67 % computing, 33 % starting workers, <1 % handing over"
        in titles(boxes(root)["c"])[0]
    )


def test_a_plan_likely_longer_than_its_medians_says_both() -> None:
    """Four tasks at once: half of all runs wait for one that takes longer than its median."""
    dag = graphs.fan_in(4)
    plan = pinned(dag, [f"w{i}" for i in range(4)])
    doubted = predicted(
        plan,
        run_s=dict.fromkeys(range(5), 1.0),
        uncertainty=Uncertainty(run=dict.fromkeys(range(5), 0.8)),
        basis=dict.fromkeys(range(5), Basis("5 samples")),
    )

    said = texts(parsed(plan_svg(doubted)))

    forecast = re.fullmatch(r"Forecast: ([\d.]+) s \([\d.]+ to [\d.]+ s in 8 of 10 runs\)", said[1])
    assert forecast is not None
    assert float(forecast[1]) > 2.2
    assert any(
        re.fullmatch(
            r"Where the time goes: 2(\.\d+)? s if every task takes its median duration", word
        )
        for word in said
    )


def test_the_makespan_is_explained_by_parts_that_fill_the_bar() -> None:
    plan = predicted(
        pinned(graphs.chain(3), ["w0"]),
        run_s=dict.fromkeys(range(3), 1.0),
        warm=StartCost(invoke_s=1.0),
    )
    root = parsed(plan_svg(plan))

    parts = {
        path.get("data-reason"): path.get("d", "")
        for path in root.iter(f"{SVG}path")
        if path.get("data-reason")
    }
    wide = {reason: float(re.findall(r"h([\d.]+)", d)[0]) for reason, d in parts.items()}
    assert list(wide) == ["run", "start-up", "hand-over", "upload", "input"]
    assert wide["run"] / wide["start-up"] == pytest.approx(3.0, abs=0.01)
    assert sum(wide.values()) == pytest.approx(720 - 32, abs=2)


def test_functions_that_never_ran_are_named_before_any_number_is_believed() -> None:
    dag = Dag.from_edges("abc", [], functions="fgh")
    guessed = Basis("unknown; as 3 other functions", is_known=False)
    mostly = predicted(
        pinned(dag, ["w0"]), run_s={0: 18.0, 1: 1.0, 2: 1.0}, basis={0: HINTED, 1: guessed}
    )
    guess = predicted(pinned(dag, ["w0"]), basis={0: HINTED, 1: guessed, 2: UNKNOWN})

    shown = texts(parsed(plan_svg(mostly)))
    assert "g, h never ran: 90 % of the run time is known" in shown
    assert any(line.startswith("Forecast: ") for line in shown)
    assert texts(parsed(plan_svg(guess)))[1:3] == [
        "No forecast yet: g, h never ran",
        "3 tasks, 1 of them on the longest path",
    ]
    assert not [text for text in texts(parsed(plan_svg(guess))) if re.search(r"\d m?s\b", text)]


def test_a_plan_gives_its_image_for_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_hook, "_client", replace(client_hook.client(), show=bundle))
    plan = predicted(pinned(graphs.diamond(), ["w0"]))

    assert plan.to_svg() == bundle(plan)["image/svg+xml"] == plan_svg(plan)


def test_without_a_prediction_nothing_is_bold_and_no_time_is_shown() -> None:
    root = parsed(plan_svg(pinned(graphs.diamond(), ["w0"])))

    assert bold(root) == []
    assert {len(texts(box)) for box in boxes(root).values()} == {2}
    assert "critical path" not in texts(root)


def test_a_folded_box_gives_the_window_of_all_its_steps() -> None:
    plan = pinned(job(80), ["w0"])
    count = boxes(parsed(plan_svg(plan, played(plan, run_s=0.4))))["count"]

    assert texts(count) == ["count", "80 on w0", "0.5 to 40.5 s"]


def test_edges_look_as_their_values_travel() -> None:
    plan = pinned(graphs.chain(4), ["w0"])
    plan = replace(plan, ways={(0, 1): Way.LOCAL, (1, 2): Way.STREAM, (2, 3): Way.INLINE})
    root = parsed(plan_svg(plan))

    assert [arrow.get("stroke-dasharray") for arrow in arrows(root)] == [None, "7 3", "1.5 3"]
    assert "stroke-done" in (arrows(root)[0].get("class") or "")
    assert {"stays on its worker", "streamed while stored", "travels with the message"} <= set(
        texts(root)
    )


def test_terms_prewarms_and_notes_are_written_below() -> None:
    plan = replace(
        pinned(graphs.chain(2), ["w0"], resources=Resources(memory_mb=512)),
        workers={"w0": WorkerTerms(linger_s=2.0, hold=True)},
        prewarms=(
            Prewarm(resources=Resources(cpus=2), n=3),
            Prewarm(resources=Resources(), anchor=0, offset_s=0.5),
        ),
        notes=("lower bound 2 s",),
    )

    assert {
        "w0 (512 MB, lingers 2 s, holds its order)",
        "prewarm 3 containers (2 CPUs) at submission",
        "prewarm 1 container (default) 500 ms after 't0'",
        "lower bound 2 s",
    } <= set(texts(parsed(plan_svg(plan))))


def test_many_workers_are_listed_in_part() -> None:
    words = texts(parsed(plan_svg(pinned(graphs.fan_out(40), [f"w{i}" for i in range(30)]))))

    assert "18 more workers" in words
    assert "w9" in words


def test_hostile_workers_and_notes_stay_text() -> None:
    dag = Dag.from_edges(HOSTILE, [])
    steps = tuple(Step(task=i, worker=name) for i, name in enumerate(HOSTILE))
    svg = plan_svg(Plan(dag=dag, steps=steps, planner=HOSTILE[0], notes=HOSTILE))

    assert {node.tag for node in parsed(svg).iter()} <= {
        f"{SVG}{name}" for name in ("svg", "style", "rect", "g", "path", "title", "text")
    }
    assert "<img" not in svg
    made = predicted(Plan(dag=dag, steps=steps, planner=HOSTILE[0]))
    assert "<img" not in plan_svg(made)
    assert parsed(plan_svg(made)).tag == f"{SVG}svg"


def test_ten_thousand_steps_on_a_hundred_workers_are_a_small_image() -> None:
    plan = pinned(job(9_996), [f"w{i}" for i in range(100)])
    svg = plan_svg(plan, played(plan))

    assert len(boxes(parsed(svg))) <= 60
    assert len(svg) < 200_000


def red(root: ET.Element) -> list[str]:
    """Boxes framed as breaking the chain rule."""
    return [
        label
        for label, box in boxes(root).items()
        if "stroke-failed" in (frame(box).get("class") or "")
    ]


def test_a_break_of_the_chain_rule_is_marked_on_its_tasks_and_edges_and_said_below() -> None:
    """Three branches leave w0 and come back; the first one shows it."""
    broken = THREE_BRANCHES.chain_break
    assert broken is not None

    root = parsed(broken.to_svg())

    assert red(root) == ["left-0", "away-0", "back-0"]
    marked = [arrow for arrow in arrows(root) if "stroke-failed" in (arrow.get("class") or "")]
    assert len(marked) == 2
    assert "breaks the chain rule" in texts(root)
    assert f"Chain rule: {broken.text}" in " ".join(texts(root))
    assert broken.text in (root.get("aria-label") or "")
    assert sum(f"chain rule: {broken.text}" in title for title in titles(root)) == 3


def test_a_plan_is_drawn_without_the_chain_rule_unless_that_is_asked_for() -> None:
    root = parsed(THREE_BRANCHES.to_svg())

    assert red(root) == []
    assert "breaks the chain rule" not in texts(root)


def test_a_break_of_the_chain_rule_has_a_picture_and_a_text_in_a_notebook() -> None:
    broken = THREE_BRANCHES.chain_break
    assert broken is not None

    shown = broken._repr_mimebundle_()

    assert shown["image/svg+xml"] == broken.to_svg()
    assert "back-0" in shown["text/html"]
    assert f"Chain rule: {broken.text}" in shown["text/plain"]


def test_advice_is_marked_on_the_task_that_is_waited_for_and_said_below() -> None:
    """t0:w0 -> t1:w1 -> t2:w0 -> t3:w1 ..."""
    plan = pinned(graphs.chain(7), ["w0", "w1"])
    first, *_ = plan.check()

    root = parsed(plan_svg(plan))

    waited_for = [label for label, box in boxes(root).items() if "icon fill-retrying" in icons(box)]
    assert waited_for == ["t2", "t3", "t4", "t5", "t6"]
    said = " ".join(texts(root))
    assert f"Advice: {first.text}" in said
    assert "Advice: 2 more in plan.check()." in said
    assert "its worker waits for it, or starts again" in texts(root)
    assert any(f"advice: {first.text}" in title for title in titles(root))
    assert f"Advice: {first.text}" in bundle(plan)["text/plain"]


def icons(box: ET.Element) -> list[str]:
    return [path.get("class") or "" for path in box.iter(f"{SVG}path")]


def test_names_in_remarks_stay_text() -> None:
    names = [*HOSTILE[:3]]
    dag = Dag.from_edges(names, list(pairwise(names)))
    broken = pinned(dag, [HOSTILE[0], "w1"]).chain_break
    assert broken is not None

    drawn = broken.to_svg()

    assert "<img" not in drawn
    assert "<script" not in drawn
    assert any(HOSTILE[0] in title for title in titles(parsed(drawn)))
