"""A view whose kernel does not answer: a cell keeps it busy, or it was restarted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.browser.chromium import Window
from tests.browser.gates import Gates
from tests.browser.notebook import Notebook

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("default")]

CELL = """%%dag total
def first():
    while is_shut("first"): time.sleep(0.01)
def second(before):
    while is_shut("second"): time.sleep(0.01)
    return 42
second(first())"""


def test_a_page_opened_while_a_cell_waits_shows_its_run_and_a_restarted_kernel_gives_the_run_back(
    notebook: Callable[..., Notebook], gates: Gates, window: Window
) -> None:
    """first -> second"""
    window.forgiven["before replies were done"] = (
        "JupyterLab tells what it asked a busy kernel before the restart"
    )
    opened = notebook(gates.setup, CELL, "run = %dag attach", "run.result()").open()
    opened.run_to_end(0)
    opened.run(1)
    opened.view(1).until_boxes(first="running")
    opened.save()

    opened.reopen(is_busy=True)  # the kernel answers nothing
    opened.view(1).until_boxes(first="running", second="waiting")
    gates.open("first")
    late = opened.view(1).until_boxes(first="done", second="running")
    opened.restart()
    gone = opened.view(1).until_hint(
        "No news from the kernel", "restarted or shut down", "%dag attach"
    )

    opened.save()
    opened.reopen()
    saved = opened.output(1).inner_text()
    opened.run_to_end(0)
    opened.run_to_end(2)
    again = opened.view(2).until_boxes(first="done", second="running")
    revived = opened.view(1).until_boxes(first="done", second="running")
    gates.open("second")
    opened.run_to_end(3)
    ended = opened.view(2).until_over()

    run = gone.split()[-1]
    assert (late.state, late.count, late.is_live) == ("running", "1 of 2 tasks", True)
    assert f"%dag attach {run} shows the run again" in saved
    assert "attached to the only run that is going on: total" in opened.output(2).inner_text()
    assert (again.is_live, revived.is_live) == (True, True)
    assert (ended.state, ended.boxes) == ("ok", {"first": "done", "second": "done"})
    assert opened.output(3).inner_text().split()[-1] == "42"
