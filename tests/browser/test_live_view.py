"""The view while a run goes on, whatever the cell does meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import pytest

from tests.browser.gates import Gates
from tests.browser.notebook import Notebook
from tests.browser.view import TABS

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("default")]

Make = Callable[..., Notebook]

SETUP = """@task
def first(gate):
    while is_shut(gate): time.sleep(0.01)

@task
def second(before, gate):
    while is_shut(gate): time.sleep(0.01)
"""
START = "run = second(first('{way}-1'), '{way}-2').run()\n"
MEANWHILE = {
    "sleeps": "while is_shut('{way}'): time.sleep(0.2)",
    "computes in C": "while is_shut('{way}'): hashlib.pbkdf2_hmac('sha256', b'', b'', 400_000)",
    "computes in Python": "while is_shut('{way}'): pass",
    "awaits": "while is_shut('{way}'): await asyncio.sleep(0.05)",
}
FAILING = """@task
def lucky():
    while is_shut("lucky"): time.sleep(0.01)

@task
def unlucky():
    raise ValueError("<b>out of luck</b>")

run = dagnb.run(lucky(), unlucky(), on_error="continue")
run.result()
"""


def test_boxes_change_colour_whatever_the_cell_does_meanwhile(notebook: Make, gates: Gates) -> None:
    """first -> second"""
    cells = [(START + doing).format(way=way) for way, doing in MEANWHILE.items()]
    opened = notebook(gates.setup + SETUP, *cells).open()
    opened.run_to_end(0)

    for k, way in enumerate(MEANWHILE, 1):
        opened.run(k)
        view = opened.view(k)
        early = view.until_boxes(first="running", second="waiting")
        gates.open(f"{way}-1")
        late = view.until_boxes(first="done", second="running")
        opened.screenshot(way)
        gates.open(f"{way}-2")
        last = view.until_over()
        was_running = opened.is_running(k)
        gates.open(way)
        opened.await_end(k)

        assert early.colours["first"] == late.colours["second"] != late.colours["first"], way
        assert (early.state, early.count) == ("running", "0 of 2 tasks"), way
        assert (late.state, late.count) == ("running", "1 of 2 tasks"), way
        assert (last.state, last.boxes) == ("ok", {"first": "done", "second": "done"}), way
        assert was_running, way


def test_an_error_appears_before_the_run_ends_and_can_be_read_in_both_themes(
    notebook: Make, gates: Gates
) -> None:
    """lucky, unlucky"""
    opened = notebook(gates.setup, FAILING).open()
    opened.run_to_end(0)
    opened.run(1)
    view = opened.view(1)

    early = view.until(
        lambda seen: bool(seen.errors) and seen.boxes["lucky"] == "running", "the error"
    )
    live = _violations(opened, "light")
    was_running = opened.is_running(1)
    gates.open("lucky")
    last = view.until_over()
    opened.await_end(1)
    over = _violations(opened, "dark")

    assert was_running
    assert (early.is_live, early.state) == (True, "running")
    assert early.boxes == {"lucky": "running", "unlucky": "failed"}
    assert "ValueError: <b>out of luck</b>" in early.errors[0]
    assert last.state.startswith("failed")
    assert last.boxes == {"lucky": "done", "unlucky": "failed"}
    assert "out of luck" in opened.error_text(1)
    assert live == over == []


def test_an_interrupt_ends_the_run_and_its_view(notebook: Make, gates: Gates) -> None:
    """first -> second"""
    opened = notebook(gates.setup + SETUP, START.format(way="never") + "run.result()").open()
    opened.run_to_end(0)
    opened.run(1)
    opened.view(1).until_boxes(first="running")

    opened.interrupt()
    last = opened.view(1).until_over()
    opened.await_end(1)

    assert last.state.startswith("cancelled")


def _violations(opened: Notebook, theme: Literal["light", "dark"]) -> list[str]:
    """The findings of axe in the view below the second cell, tab by tab."""
    opened.set_theme(theme)
    view = opened.view(1)
    found = []
    for tab in TABS:
        view.show(tab)
        opened.screenshot(f"{view.state_text()}-{theme}-{tab}")
        found += [f"{tab}: {line}" for line in view.violations()]
    return found
