"""What a notebook shows."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest

from dagnb.graph.task import task
from dagnb.views.graph import dag_svg
from dagnb.views.plan import plan_svg
from dagnb.views.show import bundle
from dagnb.views.text import dag_text, plan_text, trace_text
from dagnb.views.timeline import timeline_svg
from tests import graphs
from tests.unit.views.samples import job, pinned, played


@task
def twice(x: int) -> int:
    return 2 * x


def test_a_dag_is_its_graph() -> None:
    assert bundle(job()) == {"image/svg+xml": dag_svg(job()), "text/plain": dag_text(job())}


def test_a_node_is_the_graph_of_all_it_needs() -> None:
    shown = bundle(twice(twice(1)))  # type: ignore[arg-type]  # a node stands for its value

    assert shown["text/plain"].splitlines() == [
        "2 tasks, 2 levels",
        "  twice-0  -> twice-1",
        "  twice-1",
    ]
    assert shown["image/svg+xml"].startswith("<svg ")


def test_plans_and_traces_are_pictures_in_a_page_too_with_words_that_survive_without_it() -> None:
    plan = pinned(job(), ["w0", "w1"])
    made = played(plan)

    for thing, svg, text, caption in (
        (plan, plan_svg(plan), plan_text(plan), "Planner dealt: 8 tasks on 2 workers"),
        (made, timeline_svg(made), trace_text(made), "makespan 6.6 s, 2 workers"),
    ):
        shown = bundle(thing)
        assert (shown["image/svg+xml"], shown["text/plain"]) == (svg, text)
        assert svg in shown["text/html"]
        assert f'<p class="text-dim">{caption}</p>' in shown["text/html"]


def test_without_graphviz_there_is_text_and_the_cure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    dag = graphs.chain(13)

    shown = bundle(dag)
    assert list(shown) == ["text/plain"]
    assert shown["text/plain"].startswith(dag_text(dag))
    assert "pip install graphviz-pure" in shown["text/plain"]
    assert list(bundle(pinned(dag, ["w0"]))) == ["text/plain"]
    assert "image/svg+xml" in bundle(played(pinned(dag, ["w0"])))


def test_anything_else_is_its_own_words() -> None:
    assert bundle(3) == {"text/plain": "3"}
