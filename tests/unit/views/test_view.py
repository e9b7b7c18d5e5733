"""The view that stays: small, whole, and safe to open."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from dagnb.graph.dag import Dag
from dagnb.protocol.messages import RunState, TaskState
from dagnb.trace.trace import Phase
from dagnb.views import view
from dagnb.views.snapshot import Snapshot
from dagnb.views.view import MAX_LOGS, MAX_TASKS, view_html, view_section, view_text
from tests.unit.views.samples import HOSTILE, Tags, failure, job, run, snapped

_DATA = re.compile(r'<script type="application/json">(.*?)</script>')


def data(html: str) -> Any:
    (found,) = _DATA.findall(html)
    return json.loads(found)


def over(dag: Dag, states: str = "", n_workers: int = 8, **changes: object) -> Snapshot:
    """A run of which every task fetched, ran and committed."""
    spans = []
    for i in range(len(dag)):
        worker, at = f"~/{i % n_workers}", i / 50
        spans.append(run(i, worker, at, at + 0.001, Phase.QUEUE))
        spans.append(run(i, worker, at + 0.001, at + 0.002, Phase.FETCH, n_bytes=1_234))
        spans.append(run(i, worker, at + 0.002, at + 0.017 + (i % 13) / 1_000))
        spans.append(run(i, worker, at + 0.03, at + 0.031, Phase.COMMIT, n_bytes=33))
    fields = {"state": RunState.OK, "finished_at": 1_000.0 + len(dag) / 50}
    return snapped(dag, states or "D" * len(dag), *spans, **(fields | changes))  # type: ignore[arg-type]


def test_a_thousand_tasks_take_less_than_200_kb() -> None:
    dag = job(996)
    now = over(dag)
    logs = {i: f"line of task {i}\n" * 5 for i in range(0, 1_000, 3)}

    html = view_html(
        Snapshot(
            **{name: getattr(now, name) for name in now.__slots__ if name != "logs"}, logs=logs
        )
    )

    assert len(html.encode()) < 200_000
    assert len(data(html)["rows"]) == 1_000


def test_ten_thousand_tasks_stay_small_and_keep_the_failed_and_the_slowest() -> None:
    dag = job(9_996)
    now = over(dag, errors={(77, 1): failure("broken")}, states="D" * 77 + "F" + "D" * 9_922)
    html = view_html(now)
    rows = {row[0]: row for row in data(html)["rows"]}

    assert len(html.encode()) < 500_000
    assert len(rows) == MAX_TASKS
    assert 77 in rows
    assert data(html)["n_left_out"] == 10_000 - MAX_TASKS
    assert min(row[8] for task, row in rows.items() if task != 77) > 24


def without_scripts(html: str) -> str:
    return re.sub(r"<(script|style).*?</\1>", "", html, flags=re.DOTALL)


def test_an_untrusted_notebook_shows_header_table_and_errors_and_a_word_on_the_rest() -> None:
    dag = job(3)
    html = view_html(
        over(dag, states="DDFDDDD", errors={(2, 1): failure("no rows")}, state=RunState.FAILED)
    )
    page = Tags(without_scripts(html))

    assert {"table", "article"} <= page.tags
    assert "svg" not in page.tags
    assert "total failed · 6 of 7 tasks done, 1 failed · 140 ms · run 01J9ZZ" in page.text
    assert "Trust this notebook" in page.text
    assert "ValueError: no rows" in page.text
    assert html.count("<svg") == 2


def test_a_page_of_ours_shows_its_pictures_without_scripts_too() -> None:
    still = without_scripts(view_section(over(job(3))))

    assert still.count("<svg") == 2
    assert "count-1" in Tags(still).text
    assert "Trust" not in still


def test_html_has_no_element_that_closes_itself_but_in_pictures() -> None:
    quiet = re.sub(r"<(svg|script|style).*?</\1>", "", view_html(over(job(2))), flags=re.DOTALL)

    assert "/>" not in quiet


def test_what_the_script_needs_is_in_the_data() -> None:
    dag = job(2)
    told = data(view_html(over(dag)))

    assert told["title"] == "total"
    assert told["graph"]["names"] == ["scan", "count-0", "count-1", "stats", "join", "report"]
    assert told["states"] == {"D": "0-5"}
    assert {look["word"] for look in told["icons"].values()} == {state.word for state in TaskState}
    assert told["drawn"]["critical"]


def test_outputs_that_stay_are_limited_and_those_of_failed_tasks_come_first() -> None:
    dag = Dag.from_edges([f"f-{i}" for i in range(100)], [])
    now = over(dag, errors={(99, 1): failure("x")})
    logs = {i: f"{i}" + "y" * 1_500 for i in range(100)}
    kept = data(
        view_html(
            Snapshot(
                **{name: getattr(now, name) for name in now.__slots__ if name != "logs"}, logs=logs
            )
        )
    )

    assert sum(map(len, kept["logs"].values())) <= MAX_LOGS
    assert "99" in kept["logs"]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_cannot_leave_the_data_or_become_markup(text: str) -> None:
    quiet = Tags(view_html(over(job(2), errors={(0, 1): failure("x")}))).tags
    dag = Dag.from_edges([text, "b"], [(text, "b")])
    now = over(
        dag,
        errors={(0, 1): failure(text)},
        reason=text,
        state=RunState.CANCELLED,
        run=text,
        name=text,
    )
    html = view_html(
        Snapshot(
            **{name: getattr(now, name) for name in now.__slots__ if name != "logs"}, logs={0: text}
        )
    )

    assert Tags(html).tags <= quiet | {"pre", "details", "summary"}
    assert len(re.findall("<script", html)) == 4
    assert data(html)["graph"]["names"][1] == "b"


def test_the_text_tells_state_counts_and_errors() -> None:
    dag = job(2)

    assert view_text(over(dag)) == "total: ok, 6 of 6 tasks done, 120 ms, run 01J9ZZ"
    assert "ValueError: no rows" in view_text(over(dag, errors={(0, 1): failure("no rows")}))


def test_the_script_turns_text_of_a_run_into_text_and_asks_nobody_for_anything() -> None:
    source = view.script()

    assert not re.search(
        r"(innerHTML|outerHTML)\s*=[^=]|insertAdjacentHTML|document\.write|eval\(", source
    )
    assert not re.search(r"fetch\(|XMLHttp|import\(|https?://(?!www\.w3\.org/2000/svg)", source)
    assert "</" not in source


def test_totals_of_functions_count_what_is_left_out_too() -> None:
    n = 3_000
    dag = Dag.from_edges([f"f-{i}" for i in range(n)], [], functions=["f"] * n)
    spans = [run(i, "w0", 0, 1 if i % 2 else 3) for i in range(n)]
    told = data(view_html(snapped(dag, "D" * n, *spans, state=RunState.OK, finished_at=1_003.0)))

    assert told["n_left_out"] == n - MAX_TASKS
    assert told["totals"] == [[n, 2_000.0 * n, 3_000.0]]
    assert data(view_html(over(job(2))))["totals"] is None
