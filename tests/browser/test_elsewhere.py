"""The view in other front ends of the same server."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.browser.chromium import Window
from tests.browser.gates import Gates
from tests.browser.notebook import Notebook
from tests.browser.view import View

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("default")]

CHAIN = """@task
def first():
    while is_shut("first"): time.sleep(0.01)

@task
def second(before):
    while is_shut("second"): time.sleep(0.01)

run = second(first()).run()
"""
VOILA = {
    "cdn.jsdelivr.net": "Voila's template asks for icons",
    "cdnjs.cloudflare.com": "Voila's template asks for a maker of formulas",
    "shared module is not a function": "Voila loads the extensions of Notebook 7, which do not fit",
}
DONE = {"first": "done", "second": "done"}


def test_boxes_change_colour_in_notebook_7(
    notebook: Callable[..., Notebook], gates: Gates, window: Window
) -> None:
    """first -> second"""
    window.forgiven["(reading 'schema')"] = "Notebook 7 misses a setting of its own"
    opened = notebook(gates.setup, f"{CHAIN}run.result()").open("notebook")
    opened.run_to_end(0)
    opened.run(1)

    view = opened.view(1)
    view.until_boxes(first="running", second="waiting")
    gates.open("first")
    view.until_boxes(first="done", second="running")
    opened.screenshot("running")
    gates.open("second")
    last = view.until_over()

    assert (last.state, last.boxes) == ("ok", DONE)
    assert [set(output["data"]) for output in opened.save()["cells"][1]["outputs"]] == [
        {"text/html", "text/plain"}
    ]


def test_a_page_of_voila_shows_the_last_picture(
    notebook: Callable[..., Notebook], gates: Gates, window: Window
) -> None:
    """first -> second"""
    window.forgiven |= VOILA
    for gate in ("first", "second"):
        gates.open(gate)

    opened = notebook(gates.setup, f"{CHAIN}run.result()").open("voila")
    last = View(opened.page.locator("body")).until_over()
    opened.screenshot("over")

    assert (last.state, last.boxes) == ("ok", DONE)


def test_a_page_of_voila_shows_a_run_that_goes_on_until_its_end(
    notebook: Callable[..., Notebook], gates: Gates, window: Window
) -> None:
    """first -> second"""
    window.forgiven |= VOILA

    opened = notebook(gates.setup, CHAIN).open("voila")
    view = View(opened.page.locator("body"))
    view.until_boxes(first="running", second="waiting")
    gates.open("first")
    view.until_boxes(first="done", second="running")
    gates.open("second")
    last = view.until(lambda seen: seen.state == "ok", "the end")
    opened.screenshot("over")

    assert last.boxes == DONE
    assert view.redrawn().boxes == DONE
