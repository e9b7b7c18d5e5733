"""What stays of a run in the file, in the next session, and in an exported page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.chromium import file_pattern, opened_window
from tests.browser.gates import Gates
from tests.browser.notebook import Notebook
from tests.browser.view import View

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("default")]

SUM = """@task
def one(): return 1

@task
def add(a, b): return a + b

run = add(one(), 2).run()
run.result()
"""
NOT_LOADED = "Failed to load resource"
"""what the page of nbconvert itself asks for: a maker of formulas, for one"""

DONE = {"one": "done", "add": "done"}


def test_the_last_picture_is_in_the_file_and_needs_no_kernel(
    notebook: Callable[..., Notebook], gates: Gates, browser: Browser, tmp_path: Path
) -> None:
    """one -> add"""
    import nbconvert

    opened = notebook(gates.setup, SUM).open()
    opened.run_to_end(0)
    opened.run_to_end(1)
    fresh = opened.view(1).until_over()
    saved = opened.save()
    opened.end_kernels()
    opened.reopen()
    again = opened.view(1).until_over()
    opened.screenshot("reopened")
    exported = tmp_path / "exported.html"
    exported.write_text(nbconvert.HTMLExporter().from_filename(opened.path)[0], encoding="utf-8")

    with opened_window(browser, allowed=file_pattern(exported)) as offline:
        page = offline.page()
        page.goto(exported.as_uri(), wait_until="domcontentloaded")
        view = View(page.locator("body"))
        out = view.until_over()
        is_visible = view.picture.is_visible()

    outputs = saved["cells"][1]["outputs"]
    assert [set(output["data"]) for output in outputs] == [
        {"text/html", "text/plain"},
        {"text/plain"},
    ]
    assert "<svg" in "".join(outputs[0]["data"]["text/html"])
    assert fresh.boxes == again.boxes == out.boxes == DONE
    assert {seen.count[:12] for seen in (fresh, again, out)} == {"2 of 2 tasks"}
    assert is_visible
    assert all(said.startswith(NOT_LOADED) for said in offline.errors)
