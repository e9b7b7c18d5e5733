"""A run on one page."""

from __future__ import annotations

import re
import sysconfig
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from dagnb.errors import TaskError
from dagnb.graph.dag import Dag
from dagnb.views.report import report_html
from tests.unit.views.samples import HOSTILE, job, pinned, played
from tests.unit.views.test_errors import Tags


def page(**changes: object) -> str:
    dag = job(4)
    plan = pinned(dag, ["w0", "w1"])
    fields: dict[str, object] = {
        "run": "01J9ZZ",
        "name": "total",
        "state": "failed",
        "dag": dag,
        "plan": plan,
        "trace": played(plan),
        "predicted": played(plan, run_s=1.2),
        "states": dict.fromkeys(range(5), "done") | {5: "failed"},
        "errors": [TaskError(task="stats", attempt=1, worker="w1", type="ValueError", message="no rows", final=True)],
        "created": "2026-01-01 12:00",
    }
    return report_html(**(fields | changes))  # type: ignore[arg-type]


def sections(html: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", html)


def test_the_page_has_everything_in_order() -> None:
    html = page()

    assert sections(html) == ["Graph", "Errors", "Timeline", "Where the time went", "Functions", "Plan"]
    text = Tags(html).text
    assert "total failed" in text
    assert "run 01J9ZZ · 2026-01-01 12:00 · makespan" in text
    assert "5 of 8 tasks done, 2 waiting, 1 failed" in text
    assert "stats ValueError: no rows" in text
    assert "end 6.6 s" in text
    assert "planned 7.8 s" in text
    assert "dealt: 8 steps, 8 pinned to 2 workers, predicted" in text


def test_tables_hold_the_numbers() -> None:
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", page())]
    cells = [[re.sub(r"<.*?>", "", cell).strip() for cell in row] for row in rows]

    assert ["done", "5", ""] in cells
    assert ["fetch", "inputs came from the store", "800 ms", ""] in cells
    assert ["run", "your functions ran", "8 s", ""] in cells
    functions = [row for row in cells if len(row) == 5]
    assert functions[0] == ["count", "4", "4 s", "1 s", "1 s"]
    assert [row[0] for row in functions] == ["count", "join", "report", "scan", "stats"]


def test_the_page_is_well_formed_and_needs_no_network_and_no_script() -> None:
    html = page()

    ET.fromstring(re.sub(r"<!doctype html>|<meta [^>]*>", "", html))
    assert "http" not in html.replace("http://www.w3.org/2000/svg", "")
    assert not {"script", "link", "img", "iframe"} & Tags(html).tags
    assert "@import" not in html
    assert "url(" not in html
    assert "prefers-color-scheme:dark" in html


def test_what_is_missing_is_left_out() -> None:
    html = page(plan=None, trace=None, predicted=None, states=None, errors=(), created="")

    assert sections(html) == ["Graph"]
    assert "8 tasks" in Tags(html).text


def test_hostile_text_stays_text_everywhere() -> None:
    quiet = Tags(page()).tags
    dag = Dag.from_edges(HOSTILE, [])
    plan = pinned(dag, HOSTILE)
    for text in HOSTILE:
        error = TaskError(task=text, attempt=1, worker=text, type=text, message=text, stderr_tail=text)
        html = page(
            run=text,
            name=text,
            state=text,
            created=text,
            dag=dag,
            plan=plan,
            trace=played(plan),
            predicted=None,
            states={},
            errors=[error],
        )
        assert Tags(html).tags <= quiet | {"pre", "details", "summary"}
        ET.fromstring(re.sub(r"<!doctype html>|<meta [^>]*>", "", html))


def test_without_graphviz_the_page_tells_the_graph_in_words_and_the_cure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    dag = job(17)

    text = Tags(page(dag=dag, plan=pinned(dag, ["w9"]), trace=None)).text
    assert "pip install graphviz-pure" in text
    assert "join      -> report" in text
    assert "w9: scan" in text


def test_a_large_run_is_a_page_one_can_mail() -> None:
    dag = job(9_996)
    plan = pinned(dag, [f"w{i}" for i in range(64)])
    html = page(dag=dag, plan=plan, trace=played(plan), predicted=None, states=dict.fromkeys(range(10_000), "done"))

    assert len(html) < 1_500_000
