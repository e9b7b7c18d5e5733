"""What a view is told of a run, and when."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from importlib import resources
from xml.etree import ElementTree as ET

import pytest
from dagnb_kernel_ext import frozen
from dagnb_kernel_ext.feed import Feed
from dagnb_kernel_ext.moment import MAX_TEXT, Message, is_news, message, moment
from dagnb_kernel_ext.sketching import icons, live_svg

import dagnb
from dagnb import task
from dagnb.handle import Run
from dagnb.protocol.messages import Observation, RunState
from dagnb.protocol.story import Story
from dagnb.views import layout
from dagnb.views.layout import Picture

EVIL = "<img src=x onerror=alert(1)>"


class Gate:
    """For tasks to wait at. A class, because it is pickled by name: its event stays this one."""

    opened = threading.Event()


@dataclass
class Listener:
    """An audience that remembers."""

    heard: list[Message] = field(default_factory=list)
    kept: list[Message] = field(default_factory=list)
    begun: list[Picture] = field(default_factory=list)
    ended: list[Observation] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    failing: threading.Event = field(default_factory=threading.Event)

    def begin(self, story: Story, picture: Picture) -> None:
        self.begun.append(picture)

    def hear(self, news: Message) -> None:
        self.heard.append(news)
        if news["errors"]:
            self.failing.set()

    def keep(self, checkpoint: Message) -> None:
        self.kept.append(checkpoint)

    def end(self, seen: Observation, story: Story) -> None:
        self.ended.append(seen)

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


def _taken(messages: list[Message]) -> dict[str, str]:
    """box -> its state, as a browser has it after these messages."""
    boxes: dict[str, str] = {}
    for each in messages:
        boxes |= {box: now["state"] for box, now in each["boxes"].items()}  # type: ignore[attr-defined]  # a dict
    return boxes


def test_a_feed_tells_everything_until_the_run_is_over_and_then_ends(opened: threading.Event) -> None:
    listener = Listener()
    run = _run(wait_for_gate(1), wait_for_gate(2))
    feed = Feed(run, listener, str, period_s=0.01)
    opened.set()

    assert feed.wait(20)
    assert len(listener.begun) == len(listener.ended) == 1
    assert listener.heard[-1]["state"] == "ok"
    assert listener.heard[-1]["counts"] == {"done": 2}
    assert set(_taken(listener.heard).values()) == {"done"}
    serials = [each["serial"] for each in listener.heard]
    assert serials == list(range(1, len(serials) + 1))
    assert json.dumps(listener.heard)
    assert listener.kept[0]["boxes"].keys() == {box.id for box in listener.begun[0].boxes}  # type: ignore[attr-defined]


def test_an_error_is_told_before_the_run_is_over(opened: threading.Event) -> None:
    """wait_for_gate   broken"""
    listener = Listener()
    run = _run(wait_for_gate(1), broken(), on_error="continue")
    feed = Feed(run, listener, lambda file: "Cell In[1]", period_s=0.01)

    assert listener.failing.wait(20)
    assert run.state is RunState.RUNNING
    (error,) = [error for each in listener.heard for error in each["errors"]]  # type: ignore[attr-defined]  # a list
    assert (error["task"], error["type"], error["message"]) == ("broken-0", "ValueError", EVIL)
    assert error["code"].startswith("Cell In[1], line ")
    opened.set()
    assert feed.wait(20)


def test_a_feed_of_a_run_that_is_forgotten_says_so(opened: threading.Event) -> None:
    listener = Listener()
    run = _run(wait_for_gate(1))
    feed = Feed(run, listener, str, period_s=0.01)
    run.forget()

    assert feed.wait(20)
    assert listener.lost == ["the store no longer knows this run"]


def _seen(states: str, *, errors: int = 0, text: str = "x") -> tuple[Observation, Story]:
    told = json.dumps({"type": "ValueError", "message": text, "worker": "w0", "stdout_tail": text})
    n = len(states)
    story = Story(
        name=text,
        planner="flexible",
        names=tuple(f"f-{i}" for i in range(n)),
        functions=(text,) * n,
        upstream=((),) * n,
        sinks=tuple(range(n)),
        is_single=False,
    )
    seen = Observation(
        run="R",
        state=RunState.RUNNING,
        states=states,
        meta="",
        now=5.0,
        submitted_at=3.0,
        finished_at=0.0,
        reason="",
        events=(),
        errors={(i, 1): told for i in range(errors)},
        workers={},
        results={},
        n_instances=2,
        cursor="1",
    )
    return seen, story


def test_a_message_holds_only_boxes_and_errors_that_are_new() -> None:
    seen, story = _seen("RRF", errors=1)
    picture = layout.of_dag(story.dag)
    first = moment(seen, story, picture)
    later = replace(seen, states="XRF", errors=_seen("XRF", errors=2)[0].errors)
    second = moment(later, story, picture, first)

    told = message(second, first, 2, str)
    assert told["boxes"] == {"b0": {"state": "running", "counts": {"running": 1}}}
    assert [error["task"] for error in told["errors"]] == ["f-1"]  # type: ignore[index, attr-defined]  # a list of dicts
    assert (told["counts"], told["failed"], told["n_errors"]) == ({"ready": 1, "running": 1, "failed": 1}, 1, 2)
    assert len(message(second, None, 3, str)["boxes"]) == 3  # type: ignore[arg-type]  # a dict


def test_time_alone_is_no_news() -> None:
    seen, story = _seen("RX")
    picture = layout.of_dag(story.dag)
    first = moment(seen, story, picture)

    assert not is_news(moment(replace(seen, now=9.0), story, picture, first), first)
    assert is_news(moment(replace(seen, n_instances=1), story, picture, first), first)


def test_ten_thousand_tasks_with_errors_make_a_small_message() -> None:
    seen, story = _seen("F" * 10_000, errors=10_000, text="x" * 100_000)
    story = replace(story, functions=("f",) * 10_000)
    told = message(moment(seen, story, layout.of_dag(story.dag)), None, 1, str)

    assert told["n_errors"] == 10_000
    assert len(told["boxes"]) <= layout.MAX_BOXES  # type: ignore[arg-type]  # a dict
    assert len(json.dumps(told)) < 100 * MAX_TEXT


class _Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.found.add(tag)


def test_nothing_a_user_writes_becomes_markup_in_a_picture() -> None:
    seen, story = _seen("F" * 3, errors=1, text=EVIL)
    kept = frozen.bundle(seen, story, lambda file: EVIL)
    drawn = live_svg(layout.of_dag(story.dag), (EVIL,) * 3)

    assert not {"img", "script"} & _Tags(kept["text/html"]).found
    assert {"svg", "table", "article"} <= _Tags(kept["text/html"]).found
    assert EVIL in kept["text/plain"]
    assert "img" not in {element.tag for element in ET.fromstring(drawn).iter()}
    assert EVIL in "".join(ET.fromstring(drawn).itertext())


def test_the_browser_writes_text_and_never_markup() -> None:
    source = (resources.files("dagnb_kernel_ext") / "static" / "live.js").read_text(encoding="utf-8")

    assert "textContent" in source
    assert not [word for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write") if word in source]


def test_the_first_picture_has_room_for_every_state() -> None:
    _, story = _seen("R" * 3)
    root = ET.fromstring(live_svg(layout.of_dag(story.dag), story.names))
    boxes = [element for element in root.iter() if element.get("data-box")]

    assert [box.get("data-box") for box in boxes] == ["b0", "b1", "b2"]
    assert set(icons()) >= {state.word for state in dagnb.protocol.messages.TaskState}


def test_the_last_picture_of_many_tasks_is_small() -> None:
    seen, story = _seen("D" * 1000)
    kept = frozen.bundle(replace(seen, state=RunState.OK, finished_at=9.0), story, str)

    assert sum(map(len, kept.values())) < 200_000
    assert kept["text/plain"].startswith("x: ok, 1,000 of 1,000 tasks done, 6 s, run R")
