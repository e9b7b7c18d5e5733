"""The pictures of the README: DAGNB_SCREENSHOTS=docs scripts/test tests/browser/test_pictures.py"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.browser.gates import Gates
from tests.browser.notebook import Notebook

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("default")]

TASKS = """@task
def load(month):
    print("loading month", month)
    time.sleep(0.15 + 0.03 * month)
    return list(range(month * 10))

@task
def clean(rows):
    time.sleep(0.1 + len(rows) / 400)
    return [row for row in rows if row % 7]

@task
def outliers(rows):
    if not rows:
        raise ValueError("no rows left")
    return max(rows)

@task
def merge(parts):
    while is_shut("merge"): time.sleep(0.01)
    return sum(map(len, parts))

@task
def report(total, highest):
    time.sleep(0.1)
    return total, highest

months = [clean(load(month)) for month in range(1, 7)]
"""
GOOD = """total = report(merge(months), outliers(months[5]))
run = dagnb.run(total, name="year")
run.result()"""
BAD = "dagnb.run(outliers([]), outliers(months[0]), on_error='continue', name='outliers').result()"


def test_a_run_in_colour_with_its_details_its_timeline_and_an_error(
    notebook: Callable[..., Notebook], gates: Gates
) -> None:
    """six months loaded and cleaned -> merge, outliers -> report"""
    opened = notebook(gates.setup, TASKS, GOOD, BAD).open()
    opened.page.set_viewport_size({"width": 1500, "height": 1100})
    opened.run_to_end(0)
    opened.run_to_end(1)
    opened.run(2)
    view = opened.view(2)
    view.until_boxes(merge="running", outliers="done")

    view.box("load-5").click()
    told = view.until_details("load-5 done", "loading month 6")
    opened.picture(2, "live-view")
    gates.open("merge")
    last = view.until_over()
    opened.await_end(2)
    view.show("Timeline")
    opened.picture(2, "timeline")
    opened.run(3)
    opened.await_end(3)
    opened.view(3).show("Errors")
    errors = opened.view(3).errors()
    opened.picture(3, "errors")

    assert "needed by" in told
    assert set(last.boxes.values()) == {"done"}
    assert "no rows left" in errors[0]
