"""The view answers to clicks, keys, a second look, the cancel button; live, and afterwards in
a page.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from ipykernel import version_info

from tests.browser.chromium import file_pattern, opened_window
from tests.browser.gates import Gates
from tests.browser.notebook import Notebook
from tests.browser.view import View

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("default")]

Make = Callable[..., Notebook]

CHAIN = """@task
def first():
    print("the first <i>line</i>")
    while is_shut("first"): time.sleep(0.01)
    return 1

@task
def second(before):
    while is_shut("second"): time.sleep(0.01)
    return before + 1

run = second(first()).run()
"""
BLOCK = "while is_shut('cell'): time.sleep(0.1)"


def test_a_click_tells_of_a_task_while_the_cell_blocks_and_the_page_that_stays_goes_on_there(
    notebook: Make, gates: Gates
) -> None:
    """first -> second"""
    opened = notebook(gates.setup, CHAIN + BLOCK).open()
    opened.run_to_end(0)
    opened.run(1)
    view = opened.view(1)
    view.until_boxes(first="running")

    view.box("first").click()
    running = view.until_details("first-0 running", "worker 1", "needed by")
    gates.open("first")
    done = view.until_details("first-0 done", "cold start", "ran", "the first <i>line</i>")
    opened.screenshot("details")
    view.show("Timeline")
    gates.open("second")
    view.until_over()
    after = view.until_details("first-0 done")
    shown = view.root.get_by_role("tab", selected=True).inner_text()
    was_running = opened.is_running(1)
    gates.open("cell")
    opened.await_end(1)

    assert was_running
    assert "output" not in running
    assert "second-0" in done
    assert shown == "Timeline"
    assert "the first <i>line</i>" in after


def test_the_view_can_be_used_by_keyboard_alone(notebook: Make, gates: Gates) -> None:
    """first -> second"""
    gates.open("second")
    opened = notebook(gates.setup, CHAIN).open()
    opened.run_to_end(0)
    opened.run(1)
    opened.await_end(1)
    view = opened.view(1)
    view.until_boxes(first="running")
    visited = []

    def go(key: str) -> None:
        opened.page.keyboard.press(key)
        visited.append(view.focused())

    view.root.locator("button.cancel").focus()
    for key in ("Tab", "Tab", "ArrowRight", "Enter"):
        go(key)
    told = view.until_details("second-0 waiting", "needs")
    for key in ("Tab", "Tab", "Enter"):
        go(key)
    linked = view.until_details("first-0 running")
    go("Escape")
    closed = view.details()
    for key in ("Shift+Tab", "ArrowRight"):
        go(key)
    gates.open("first")
    view.until_over()

    assert visited[:4] == ["Graph", "first: running", "second: waiting", "second: waiting"]
    assert visited[4:7] == ["close details", "first-0", "close details"]
    assert ("first-0" in told, "needed by" in linked, closed) == (True, True, "")
    assert visited[7:] == ["second: waiting", "Graph", "Timeline"]


def test_several_views_of_a_run_and_one_after_a_reload_show_the_same(
    notebook: Make, gates: Gates
) -> None:
    """first -> second"""
    opened = notebook(gates.setup, CHAIN, "run").open()
    opened.run_to_end(0)
    opened.run_to_end(1)
    opened.view(1).until_boxes(first="running")
    gates.open("first")
    opened.view(1).until_boxes(first="done", second="running")

    opened.run_to_end(2)
    late = opened.view(2).until_boxes(first="done", second="running")
    opened.save()
    opened.reopen()
    again = opened.view(1).until_boxes(first="done", second="running")
    opened.view(1).box("first").click()
    told = opened.view(1).until_details("first-0 done", "the first <i>line</i>")
    gates.open("second")
    ended = [opened.view(k).until(lambda seen: seen.state == "ok", "the end") for k in (1, 2)]

    assert late.count == again.count == "1 of 2 tasks"
    assert "ran" in told
    assert [seen.count for seen in ended] == ["2 of 2 tasks"] * 2


@pytest.mark.skipif(
    version_info < (7, 1),
    reason="older kernels hear nothing while a cell blocks; the button says so",
)
def test_the_cancel_button_ends_the_run_while_the_cell_sleeps(notebook: Make, gates: Gates) -> None:
    """first -> second"""
    opened = notebook(gates.setup, CHAIN + BLOCK).open()
    opened.run_to_end(0)
    opened.run(1)
    view = opened.view(1)
    view.until_boxes(first="running")

    view.press_cancel()
    last = view.until_over()
    was_running = opened.is_running(1)
    gates.open("cell")
    opened.await_end(1)

    assert last.state == "cancelled (cancelled in the notebook)"
    assert was_running


SAVED = f"{CHAIN}run.result()"


def _ended(notebook: Make, gates: Gates) -> Notebook:
    for gate in ("first", "second"):
        gates.open(gate)
    opened = notebook(gates.setup, SAVED).open()
    opened.run_to_end(0)
    opened.run_to_end(1)
    opened.view(1).until_over()
    opened.save()
    opened.end_kernels()
    opened.close()
    return opened


def test_a_saved_picture_answers_to_clicks_without_kernel_and_network(
    notebook: Make, gates: Gates, browser: Browser, tmp_path: Path
) -> None:
    """first -> second"""
    import nbconvert

    exported = tmp_path / "exported.html"
    file = _ended(notebook, gates).path
    exported.write_text(nbconvert.HTMLExporter().from_filename(file)[0], encoding="utf-8")

    with opened_window(browser, allowed=file_pattern(exported)) as offline:
        page = offline.page()
        page.goto(exported.as_uri(), wait_until="domcontentloaded")
        view = View(page.locator("body"))
        view.until_over()
        view.box("first").click()
        told = view.until_details("first-0 done", "the first <i>line</i>")
        found = view.violations()

    assert "cold start" in told
    assert found == []


def test_a_notebook_that_is_not_trusted_shows_a_table_in_the_place_of_the_picture(
    notebook: Make, gates: Gates
) -> None:
    """first -> second"""
    opened = _ended(notebook, gates)
    changed = json.loads(opened.path.read_text())
    changed["cells"][1]["source"] = f"# changed by somebody else\n{SAVED}"
    opened.path.write_text(json.dumps(changed))

    opened.open()
    shown = opened.output(1).inner_text()

    assert "second ok" in shown
    assert "Trust this notebook" in shown
    assert "upstream" not in shown
