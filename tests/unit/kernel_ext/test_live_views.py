"""Runs on show in one kernel."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from dagnb_kernel_ext import widgets
from dagnb_kernel_ext.widgets import LiveViews

from dagnb.errors import StorageUnavailableError
from tests.unit.kernel_ext.conftest import Cells


class Away:
    """A run whose store is away."""

    id = "01RUN"
    done = False
    outlives_process = True

    def __init__(self) -> None:
        self.asked = threading.Event()

    def snapshot(self, before: object = None) -> Any:
        self.asked.set()
        raise StorageUnavailableError("redis://here", "it is away")


@pytest.fixture
def shown(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What was put under cells, or in the place of what was there."""
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(widgets, "_MAX_FAILURES", 0)
    monkeypatch.setattr(cells.shell, "kernel", object(), raising=False)
    monkeypatch.setattr(widgets, "put", lambda bundle, output="": found.append(dict(bundle)))
    monkeypatch.setattr(widgets, "change", lambda output, bundle: found.append(dict(bundle)))
    return found


def test_a_view_that_was_lost_says_why_and_a_later_look_opens_a_new_one(
    cells: Cells, shown: list[dict[str, Any]]
) -> None:
    live_views, run = LiveViews(cells.shell), Away()
    live_views.show(run)  # type: ignore[arg-type]  # it has what a view needs
    assert live_views._shown["01RUN"].settle(20)
    live_views.show(run)  # type: ignore[arg-type]  # as above
    assert live_views._shown["01RUN"].settle(20)

    kinds = [sorted(bundle) for bundle in shown]
    live, lost = ["text/html", "text/plain"], ["text/plain"]
    assert kinds == [live, lost, live, lost]
    assert "%dag attach 01RUN" in shown[0]["text/html"]
    assert "the store at redis://here cannot be reached: it is away" in shown[1]["text/plain"]
    live_views.after_cell(None)
    assert live_views._shown == {}
