"""The time of a run in words and on a page."""

from __future__ import annotations

import re

import pytest

from dagnb.trace.trace import Phase, Trace
from dagnb.views.time_use import TimeUse, time_use_html, time_use_text
from tests.unit.views.samples import HOSTILE, Tags, run, trace

RETRIED = trace(
    run(-1, "w0", 0, 1, Phase.INVOKE, detail="cold"),
    run(0, "w0", 1, 3),
    run(0, "w0", 3, 3.5, Phase.COMMIT),
    run(1, "w0", 3.5, 5.5),
    run(1, "w0", 5.5, 6, Phase.COMMIT, detail="failed"),
    run(1, "w0", 8, 10, attempt=2),
    run(2, "w1", 3.5, 5.5),
    names=("scan", "count", "other"),
)
"""scan -> count on w0, whose first attempt fails; w1 runs another task meanwhile"""

EDGES = [(), (0,), (0,)]


def test_the_text_says_what_workers_did_and_which_chain_took_the_makespan() -> None:
    workers, makespan, *chain = time_use_text(TimeUse.of(EDGES, (1, 2), RETRIED)).splitlines()

    assert workers == (
        "2 workers: 36 % computing, 12 % failed attempts, 6 % starting, 6 % moving data, 40 % idle"
    )
    assert makespan == (
        "makespan 10 s: 40 % computing, 25 % failed attempts, 20 % waiting to try again, "
        "10 % starting workers, 5 % handing over"
    )
    assert chain == [
        "the chain of tasks that took these 10 s:",
        "  scan   0 to 3.5 s   3.5 s: starting workers 1 s, computing 2 s, handing over 500 ms",
        "  count  3.5 to 10 s  6.5 s: failed attempts 2.5 s, waiting to try again 2 s, computing 2 s",
    ]


def test_a_long_chain_shows_its_longest_steps_in_order_and_the_sum_of_the_others() -> None:
    n = 100
    spans = [run(i, "w0", 10 * i, 10 * i + 10 - (i % 4)) for i in range(n)]
    edges = [(i - 1,) if i else () for i in range(n)]
    played = trace(*spans, names=[f"t{i}" for i in range(n)])

    rows = TimeUse.of(edges, (n - 1,), played).rows()

    assert len(rows) == 21
    assert [row[0] for row in rows[:-1]] == [f"t{i}" for i in range(4, 81, 4)]
    assert rows[-1][:2] == ("80 more tasks", "in between")


def test_the_chain_of_a_run_without_a_result_leads_to_the_step_that_came_last() -> None:
    unfinished = trace(run(0, "w0", 0, 2), names=("a", "b"))
    ended = TimeUse.of([(), (0,)], (1,), unfinished)
    goes_on = TimeUse.of([(), (0,)], (1,), unfinished, is_over=False)

    workers, whole, _, chain = time_use_text(ended).splitlines()
    assert workers == "1 worker: 100 % computing"
    assert whole == "makespan 2 s: 100 % computing"
    assert chain.split() == ["a", "0", "to", "2", "s", "2", "s:", "computing", "2", "s"]
    assert time_use_text(goes_on).splitlines()[1] == "so far 2 s: 100 % computing"
    empty = TimeUse.of([()], (0,), Trace.of((), "a", submitted_s=0.0, finished_s=0.0))
    assert time_use_text(empty) == "No task has run."
    assert "No task has run." in time_use_html(empty)


def test_the_page_shows_the_same_numbers_and_a_bar_with_a_label() -> None:
    html = time_use_html(TimeUse.of(EDGES, (1, 2), RETRIED))

    text = Tags(html).text
    assert "2 workers: 36 % computing" in text
    assert "its seconds add up to 10 s" in text
    cells = [re.sub(r"<.*?>", "", cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", html)]
    assert cells[:3] == ["scan", "0 to 3.5 s", "3.5 s"]
    assert 'aria-label="makespan 10 s: 40 % computing, 25 % failed attempts' in html


@pytest.mark.parametrize("name", HOSTILE)
def test_names_of_tasks_stay_text(name: str) -> None:
    time_use = TimeUse.of([()], (0,), trace(run(0, "w0", 0, 1), names=(name,)))

    html = time_use_html(time_use)

    assert not {"img", "script"} & Tags(html).tags
    assert "\x1b" not in time_use_text(time_use)
