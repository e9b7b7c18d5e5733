"""A run on one page."""

from __future__ import annotations

import re
import sysconfig
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from dagnb.graph.dag import Dag
from dagnb.protocol.messages import RunState
from dagnb.trace.trace import Phase
from dagnb.views.report import report_html
from dagnb.views.snapshot import Snapshot
from tests.unit.views.samples import HOSTILE, Tags, failure, job, pinned, played, run, snapped


def moment(dag: Dag, workers: tuple[str, ...] = ("w0", "w1"), **changes: object) -> Snapshot:
    """A run that played a plan of these workers, in which the sixth task failed."""
    states = ("DDDDDF" + "W" * len(dag))[: len(dag)]
    spans = played(pinned(dag, workers)).spans
    fields = {"state": RunState.FAILED, "finished_at": max(span.end_s for span in spans)}
    errors = {(min(5, len(dag) - 1), 1): failure("no rows")}
    return snapped(dag, states, *spans, **({"errors": errors} | fields | changes))  # type: ignore[arg-type]


def page(**changes: object) -> str:
    dag = job(4)
    plan = pinned(dag, ["w0", "w1"])
    fields = {"plan": plan, "predicted": played(plan, run_s=1.2), "created": "2026-01-01 12:00"}
    return report_html(moment(dag), **(fields | changes))  # type: ignore[arg-type]


def still(html: str) -> str:
    """What a page shows where no script is allowed."""
    return re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)


def sections(html: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", html)


def test_the_page_has_everything_in_order() -> None:
    html = page()

    assert sections(html) == ["Where the time went", "Plan"]
    text = Tags(still(html)).text
    assert "total failed" in text
    assert "run 01J9ZZ · 2026-01-01 12:00 · makespan" in text
    assert "5 of 8 tasks done, 2 waiting, 1 failed" in text
    assert "stats ValueError: no rows" in text
    assert "end 6.6 s" in text
    assert "planned 7.8 s" in text
    assert "Planner dealt: 8 tasks on 2 workers, forecast" in text
    assert 'class="dagnb dagnb-view"' in html


def test_every_phase_is_explained_but_the_queue_in_which_many_tasks_wait_at_once() -> None:
    dag = job(4)
    spans = [run(0, "w0", n, n + 1, phase) for n, phase in enumerate(Phase)]
    html = still(report_html(snapped(dag, "D" * len(dag), *spans)))

    assert [phase for phase in Phase if f"<td>{phase}</td>" not in html] == [Phase.QUEUE]


def test_tables_hold_the_numbers() -> None:
    rows = [
        re.findall(r"<td[^>]*>(.*?)</td>", row)
        for row in re.findall(r"<tr>(.*?)</tr>", still(page()))
    ]
    cells = [[re.sub(r"<.*?>", "", cell).strip() for cell in row] for row in rows]

    assert ["fetch", "inputs came from the store", "800 ms", ""] in cells
    assert ["run", "your functions ran", "8 s", ""] in cells
    assert ["count", "4", "4", "0", "0"] in cells
    assert ["stats", "1", "0", "0", "1"] in cells


def test_the_page_is_well_formed_and_needs_no_network() -> None:
    html = page()

    ET.fromstring(re.sub(r"<!doctype html>|<meta [^>]*>", "", still(html)))
    assert "http" not in html.replace("http://www.w3.org/2000/svg", "")
    assert not {"link", "img", "iframe"} & Tags(html).tags
    assert "src=" not in html
    assert "@import" not in html
    assert "url(" not in html
    assert "prefers-color-scheme:dark" in html


def test_what_is_missing_is_left_out() -> None:
    html = page(plan=None, predicted=None, created="")

    assert sections(html) == ["Where the time went"]
    assert "planned" not in Tags(still(html)).text


def test_hostile_text_stays_text_everywhere() -> None:
    quiet = Tags(page()).tags
    dag = Dag.from_edges(HOSTILE, [])
    plan = pinned(dag, HOSTILE)
    for text in HOSTILE:
        now = moment(
            dag,
            HOSTILE,
            run=text,
            reason=text,
            errors={(0, 1): failure(text, type=text, worker=text)},
        )
        html = report_html(
            replace(now, description=replace(now.description, name=text)), plan=plan, created=text
        )
        assert Tags(html).tags <= quiet | {"pre", "details", "summary"}
        ET.fromstring(re.sub(r"<!doctype html>|<meta [^>]*>", "", still(html)))


def test_without_graphviz_the_page_tells_the_graph_in_words_and_the_cure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    dag = job(17)

    text = Tags(still(report_html(moment(dag), plan=pinned(dag, ["w9"])))).text
    assert "pip install graphviz-pure" in text
    assert "join      -> report" in text
    assert "w9: scan" in text


def test_a_large_run_is_a_page_one_can_mail() -> None:
    dag = job(9_996)
    workers = tuple(f"w{i}" for i in range(64))
    html = report_html(moment(dag, workers), plan=pinned(dag, workers))

    assert len(html) < 1_000_000
