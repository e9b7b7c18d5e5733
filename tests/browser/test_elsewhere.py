"""The view in other front ends of the same server, where they are installed; dagnb[test] does not bring them."""

from __future__ import annotations

import importlib.util
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
run.result()
"""
VOILA = {
    "cdn.jsdelivr.net": "Voila's template asks for icons",
    "cdnjs.cloudflare.com": "Voila's template asks for a maker of formulas",
    "shared module is not a function": "Voila loads the extensions of Notebook 7, which do not fit",
}
DONE = {"first": "done", "second": "done"}


def needs(package: str) -> pytest.MarkDecorator:
    """Skips where the package is not installed."""
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"no package {package}")


@needs("notebook")
def test_boxes_change_colour_in_notebook_7(notebook: Callable[..., Notebook], gates: Gates, window: Window) -> None:
    """first -> second"""
    window.forgiven["(reading 'schema')"] = "Notebook 7 misses a setting of its own"
    opened = notebook(gates.setup, CHAIN).open("notebook")
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
    assert [set(output["data"]) for output in opened.save()["cells"][1]["outputs"]] == [{"text/html", "text/plain"}]


@needs("voila")
def test_a_page_of_voila_shows_the_last_picture(
    notebook: Callable[..., Notebook], gates: Gates, window: Window
) -> None:
    """first -> second"""
    window.forgiven |= VOILA
    for gate in ("first", "second"):
        gates.open(gate)

    opened = notebook(gates.setup, CHAIN).open("voila")
    last = View(opened.page.locator("body")).until_over()
    opened.screenshot("over")

    assert (last.state, last.boxes) == ("ok", DONE)
