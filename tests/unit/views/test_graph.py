"""The picture of a graph, with and without states."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest

from dagnb.graph.dag import Dag
from dagnb.graph.resources import Resources
from dagnb.graph.task import task
from dagnb.views.graph import dag_svg, graph_svg
from dagnb.views.palette import STATES, colours
from tests import graphs
from tests.unit.views.samples import HOSTILE, SVG, arrows, boxes, frame, job, parsed, texts, titles


def parts(box: ET.Element) -> dict[str, float]:
    """role -> width of the parts of a progress bar, with its track"""
    rects = [
        node
        for node in box.iter(f"{SVG}rect")
        if (node.get("class") or "").split()[0] in {"track", "part"}
    ]
    return {node.get("class", "").split("fill-")[1]: float(node.get("width", 0)) for node in rects}


def test_every_task_has_a_box_with_its_number_and_the_colour_of_its_function() -> None:
    dag = job(2)
    root = parsed(dag_svg(dag))

    found = boxes(root)
    assert {label: box.get("data-task") for label, box in found.items()} == {
        dag.calls[i].name: str(i) for i in range(len(dag))
    }
    tint = colours(call.function for call in dag.calls)
    stripes = {
        label: next(p.get("stroke") for p in box.iter(f"{SVG}path")) for label, box in found.items()
    }
    assert stripes == {call.name: tint[call.function] for call in dag.calls}
    assert len(arrows(root)) == sum(len(call.upstream) for call in dag.calls)


def test_states_are_told_by_word_border_and_icon() -> None:
    dag = graphs.fan_out(len(STATES))
    states = {0: "done"} | {i + 1: state for i, state in enumerate(STATES)}
    root = parsed(graph_svg(dag, states))

    for i, state in enumerate(STATES):
        box = boxes(root)[f"b{i}"]
        assert texts(box)[1] == state
        assert f"stroke-{state}" in frame(box).get("class", "")
        icon = next(node for node in box.iter(f"{SVG}path") if "icon" in (node.get("class") or ""))
        assert icon.get("d") == STATES[state].icon


def test_tasks_without_state_wait_and_no_states_at_all_is_the_still_picture() -> None:
    assert {texts(box)[1] for box in boxes(parsed(graph_svg(job(), {}))).values()} == {"waiting"}
    assert graph_svg(job(), None) == dag_svg(job())


def test_the_legend_counts_states_that_occur() -> None:
    root = parsed(graph_svg(job(4), {0: "done", 1: "done", 2: "failed"}))

    inside = {text for box in boxes(root).values() for text in texts(box)}
    assert [text for text in texts(root) if text not in inside] == [
        "2 done",
        "5 waiting",
        "1 failed",
    ]


def test_a_folded_box_shows_its_progress_in_proportion() -> None:
    states = (
        {0: "done"} | dict.fromkeys(range(1, 51), "done") | dict.fromkeys(range(51, 61), "running")
    )
    root = parsed(graph_svg(job(100), states))

    count = boxes(root)["count"]
    assert texts(count)[1] == "50 / 100"
    widths = parts(count)
    assert widths["done"] / widths["line"] == pytest.approx(0.5, abs=0.01)
    assert widths["running"] / widths["line"] == pytest.approx(0.1, abs=0.01)
    assert titles(count)[0].splitlines()[-1] == "10 running, 40 waiting, 50 done"
    assert (count.get("data-task"), count.get("data-tasks"), count.get("data-box")) == (
        "1",
        "1-100",
        "b1",
    )


def test_tooltips_say_what_the_user_said_of_a_task() -> None:
    @task(retries=2, resources=Resources(cpus=2))
    def heavy(x: int) -> int:
        return x

    twice = heavy(heavy(1))  # type: ignore[arg-type]  # a node stands for its value
    root = parsed(dag_svg(Dag.of(twice)))

    assert titles(boxes(root)["heavy-1"])[0].splitlines() == [
        "heavy-1",
        "1 upstream, 0 downstream",
        "resources: 2 CPUs",
        "2 retries",
        "its value is a result",
    ]


def test_hostile_names_stay_text() -> None:
    dag = Dag.from_edges(HOSTILE, pairwise(HOSTILE))
    svg = graph_svg(dag, {0: "running"})

    tags = {node.tag for node in parsed(svg).iter()}
    assert tags == {
        f"{SVG}{name}" for name in ("svg", "style", "rect", "g", "path", "title", "text")
    }
    assert "<img" not in svg
    assert "<script" not in svg
    assert any('<img src=x onerror="alert(1)">' in title for title in titles(parsed(svg)))


def test_ten_thousand_tasks_are_a_small_picture() -> None:
    dag = job(9_996)
    svg = graph_svg(dag, dict.fromkeys(range(3_000), "done"))

    assert len(boxes(parsed(svg))) == 5
    assert texts(boxes(parsed(svg))["count"])[1] == "2,999 / 9,996"
    assert len(svg) < 30_000


def test_nothing_comes_from_a_network_and_nothing_clashes_with_another_picture() -> None:
    svg = graph_svg(job(), {0: "done"})

    assert "http" not in svg.replace("http://www.w3.org/2000/svg", "")
    assert "url(" not in svg
    assert not [node for node in parsed(svg).iter() if node.get("id")]
