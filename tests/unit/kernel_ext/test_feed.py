"""The messages that a view gets of a run, and when."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from dagnb_kernel_ext.widgets import Feed

import dagnb
from dagnb import session, task
from dagnb.handle import Run
from dagnb.protocol.messages import RunState
from dagnb.views.snapshot import Snapshot
from dagnb.views.view_updates import Message, ViewUpdates
from tests.unit.views.test_view_updates import states_after

EVIL = "<img src=x onerror=alert(1)>"


class Gate:
    """For tasks to wait at. A class, because it is pickled by name: its event stays this one."""

    opened = threading.Event()


@dataclass
class Recorder:
    """A listener that remembers."""

    heard: list[Message] = field(default_factory=list)
    kept: list[Message] = field(default_factory=list)
    begun: list[ViewUpdates] = field(default_factory=list)
    ended: list[Snapshot] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    failing: threading.Event = field(default_factory=threading.Event)
    keeping: threading.Event = field(default_factory=threading.Event)

    def begin(self, updates: ViewUpdates) -> None:
        self.begun.append(updates)

    def receive(self, message: Message) -> None:
        self.heard.append(message)
        if message["errors"]:
            self.failing.set()

    def save(self, checkpoint: Message) -> None:
        self.kept.append(checkpoint)
        self.keeping.set()

    def end(self, last: Snapshot) -> None:
        self.ended.append(last)

    def lose(self, reason: str) -> None:
        self.lost.append(reason)


@task
def wait_for_gate(n: int) -> int:
    Gate.opened.wait(20)
    return n


@task
def broken() -> int:
    raise ValueError(EVIL)


@pytest.fixture
def opened() -> Iterator[threading.Event]:
    Gate.opened.clear()
    yield Gate.opened
    Gate.opened.set()


def _run(*nodes: dagnb.graph.task.Node[int], **options: str) -> Run[object]:
    return dagnb.run(*nodes, workers="inline", **options)  # type: ignore[arg-type]  # options of run


def test_a_feed_tells_everything_until_the_run_is_over_and_then_ends(
    opened: threading.Event,
) -> None:
    listener = Recorder()
    run = _run(wait_for_gate(1), wait_for_gate(2))
    feed = Feed(run, listener, period_s=0.01)
    opened.set()

    assert feed.wait(20)
    assert len(listener.begun) == len(listener.ended) == 1
    assert listener.heard[-1]["state"] == "ok"
    assert states_after(listener.heard, 2) == "DD"
    assert {row[0] for each in listener.heard for row in each["rows"]} == {0, 1}  # type: ignore[attr-defined]  # a list
    serials = [each["serial"] for each in listener.heard]
    assert serials == sorted(serials)
    assert json.dumps(listener.heard)


def test_a_view_that_opens_late_is_told_everything(opened: threading.Event) -> None:
    listener = Recorder()
    feed = Feed(_run(wait_for_gate(1), wait_for_gate(2)), listener, period_s=0.01)

    assert listener.keeping.wait(20)
    opened.set()
    assert feed.wait(20)
    assert set(states_after(listener.kept[:1], 2)) <= {"R", "X"}
    assert "data-task" in listener.kept[0]["drawn"]["lanes"]  # type: ignore[index]  # a dict


def test_an_error_is_told_before_the_run_is_over(opened: threading.Event) -> None:
    """wait_for_gate   broken"""
    listener = Recorder()
    run = _run(wait_for_gate(1), broken(), on_error="continue")
    feed = Feed(run, listener, period_s=0.01)

    assert listener.failing.wait(20)
    assert run.state is RunState.RUNNING
    (error,) = [error for each in listener.heard for error in each["errors"]]  # type: ignore[attr-defined]  # a list
    assert (error["task"], error["attempt"]) == (1, 1)
    assert "ValueError: &lt;img src=x" in error["html"]
    opened.set()
    assert feed.wait(20)


def test_a_feed_of_a_run_that_is_forgotten_says_so(opened: threading.Event) -> None:
    listener = Recorder()
    run = _run(wait_for_gate(1))
    feed = Feed(run, listener, period_s=0.01)
    run.forget()

    assert feed.wait(20)
    assert listener.lost == ["the store no longer knows this run"]


def test_a_feed_that_cannot_go_on_says_so_and_nowhere_else(
    opened: threading.Event, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    listener = Recorder()
    run = _run(wait_for_gate(1))

    def broken_look(before: object = None) -> Snapshot:
        raise ValueError("what is this")

    monkeypatch.setattr(run, "snapshot", broken_look)

    assert Feed(run, listener, period_s=0.01).wait(20)
    assert listener.lost == ["the view cannot go on: ValueError: what is this"]
    assert capsys.readouterr().err == ""


def test_a_view_of_an_attached_run_says_how_much_longer_by_what_past_runs_took(
    opened: threading.Event,
) -> None:
    opened.set()
    _run(wait_for_gate(1)).result()
    session.wait_for_pending(20)
    opened.clear()
    listener = Recorder()

    attached: Run[object] = dagnb.attach(_run(wait_for_gate(1)).id, workers="inline")
    feed = Feed(attached, listener, period_s=0.01)
    assert listener.keeping.wait(20)
    opened.set()

    assert feed.wait(20)
    assert attached.plan is None
    assert listener.heard[0]["left"] is not None
    assert listener.begun[0].planned is not None
