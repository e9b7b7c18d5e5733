"""The view of a run as HTML that stays: the picture and its facts in one piece, clickable without kernel or network.

Where scripts are not allowed, what they start from is left: header, table, errors; in a page of ours the pictures too.
In a notebook these are carried by scripts of their own: front ends that strip SVG would leave its words as a heap.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
import re
from collections import Counter
from collections.abc import Mapping

from dagnb.protocol.messages import RunState, TaskState
from dagnb.protocol.run_description import counts, errors_of
from dagnb.trace.trace import Trace
from dagnb.views.canvas import TYPE
from dagnb.views.errors import errors_text
from dagnb.views.facts import Row, RunFacts
from dagnb.views.graph import graph_svg
from dagnb.views.markup import element, escaped, plain
from dagnb.views.page import fragment, pre, table
from dagnb.views.palette import STATES
from dagnb.views.show import picture_or
from dagnb.views.snapshot import Snapshot
from dagnb.views.text import counts_text, dag_text
from dagnb.views.view_updates import Message, ViewUpdates, graph_of
from dagnb.views.wording import seconds_text

MAX_TASKS = 1_500
"""tasks whose own numbers stay in the page: failed ones first, then the slowest"""

MAX_LOGS = 40_000
"""characters of output that stay in the page"""

MAX_EDGES = 6_000
MAX_ROWS = 20

RUN_LOOKS = {
    RunState.OK: "text-done",
    RunState.FAILED: "text-failed",
    RunState.DEADLINE: "text-failed",
    RunState.CANCELLED: "text-cancelled",
    RunState.RUNNING: "text-running",
}
"""state of a run -> class of the word"""

_UNTRUSTED = "Trust this notebook to see the picture, the timeline and the details."
_WORDS = {state.value: state.word for state in TaskState}
_PARTS = ("words.js", "story.js", "picture.js", "details.js", "view.js")
_FOLDER = importlib.resources.files("dagnb.views") / "static"
_COMMENT = re.compile(r"^\s*//.*\n|^\s+", re.MULTILINE)


@functools.cache
def script() -> str:
    """What makes a view of elements and data, to be run in a scope of its own: comments and indents are left out."""
    return _COMMENT.sub(
        "", "".join((_FOLDER / part).read_text(encoding="utf-8") for part in _PARTS)
    )


@functools.cache
def look() -> str:
    """The style sheet of a view; the colours come with every page of ours."""
    return TYPE + (_FOLDER / "view.css").read_text(encoding="utf-8").replace("\n", "")


def bundle(now: Snapshot, telling: ViewUpdates | None = None) -> dict[str, str]:
    """MIME type -> what to show of a run as it stands. telling: one that told this moment last, if there is one."""
    return {"text/html": view_html(now, telling), "text/plain": view_text(now)}


def view_html(now: Snapshot, telling: ViewUpdates | None = None) -> str:
    """The view for a notebook's output."""
    return fragment(view_section(now, telling=telling, is_stripped=True))


def view_section(
    now: Snapshot,
    planned: Trace | None = None,
    *,
    telling: ViewUpdates | None = None,
    is_stripped: bool = False,
) -> str:
    """The view: what shows by itself, and the data and the script that make it answer to clicks.

    planned: what the plan's simulation gave, outlined on the timeline. is_stripped: shown where perhaps no pictures are
    allowed.
    """
    if telling is None:
        telling = ViewUpdates(now.description, now.seen.submitted_at, planned)
        telling.tell(now)
    drawn = telling.draw()
    data, errors = _apart(telling.everything())
    data = {**data, "graph": _limited(graph_of(now.description), len(now.description.names), now)}
    data = {
        **data,
        **_kept(data, telling.facts, now),
        "drawn": {**drawn, "lanes": ""},
        "title": plain(now.description.name),
    }
    told = json.dumps(
        {**data, "run": now.seen.run, "icons": icons()}, separators=(",", ":"), ensure_ascii=False
    )
    body = element(
        "section",
        _head(now),
        element("noscript", _UNTRUSTED) if is_stripped else "",
        element("div", _carried(_graph(telling, now), is_stripped), class_="graph scroll"),
        element("div", _functions(telling, now), class_="functions"),
        element("div", _carried(str(drawn["lanes"]), is_stripped), class_="lanes scroll"),
        element("div", "".join(errors), class_="errors"),
        element("script", told.replace("<", "\\u003c"), type="application/json"),
        class_="dagnb dagnb-view",
    )
    return element("style", look()) + body + element("script", f"(()=>{{{script()}mountAll();}})()")


def view_text(now: Snapshot) -> str:
    """The run in a few lines."""
    head = f"{plain(now.description.name)}: {now.seen.state}, {_facts(now).replace(' · ', ', ')}"
    errors = errors_of(now.seen, now.description)
    return f"{head}\n\n{errors_text(errors)}" if errors else head


def icons() -> dict[str, Mapping[str, object]]:
    """state -> how its icon is drawn, for the browser; with the byte that stands for it."""
    bytes_of = {state.word: state.value for state in TaskState}
    return {
        bytes_of[name]: {"word": name, "path": state.icon, "hollow": state.is_hollow}
        for name, state in STATES.items()
    }


def _apart(told: Message) -> tuple[Message, list[str]]:
    """What was told, and the HTML of its errors, which the page shows itself."""
    errors = told["errors"]
    assert isinstance(errors, list)
    bare = [{name: value for name, value in error.items() if name != "html"} for error in errors]
    return {**told, "errors": bare}, [error["html"] for error in errors]


def _limited(graph: Message, n_tasks: int, now: Snapshot) -> Message:
    """The graph without what would be too much for a page that is kept."""
    n_edges = sum(map(len, now.description.upstream))
    small: Message = {} if n_edges <= MAX_EDGES else {"upstream": [[]] * n_tasks}
    return {**graph, **small}


def _kept(data: Message, facts: RunFacts, now: Snapshot) -> Message:
    """The rows and outputs that stay: of failed tasks first, then of the slowest."""
    failed = {task for task, _ in now.seen.errors}
    order = sorted(
        facts.of, key=lambda task: (task not in failed, -(facts.of[task].run_s or 0.0), task)
    )
    chosen = set(order[:MAX_TASKS])
    rows: list[Row] = [facts.row(task) for task in sorted(chosen)]
    logs: dict[str, str] = {}
    told = data["logs"]
    assert isinstance(told, dict)
    room = MAX_LOGS
    for task in order:
        text = told.get(str(task), "") if task in chosen else ""
        if text and len(text) <= room:
            logs[str(task)] = text
            room -= len(text)
    n_left_out = len(facts.of) - len(rows)
    return {
        "rows": rows,
        "logs": logs,
        "n_left_out": n_left_out,
        "totals": _totals(facts, now) if n_left_out else None,
    }


def _totals(facts: RunFacts, now: Snapshot) -> list[list[float]]:
    """How often each function ran, for how many milliseconds together and at most: rows that are left out count too."""
    found: dict[str, list[float]] = {
        function: [0, 0.0, 0.0] for function in dict.fromkeys(now.description.functions)
    }
    for task, fact in facts.of.items():
        if fact.run_s is not None:
            total = found[now.description.functions[task]]
            total[0] += 1
            total[1] += fact.run_s * 1e3
            total[2] = max(total[2], fact.run_s * 1e3)
    return [[n, round(together, 2), round(most, 2)] for n, together, most in found.values()]


def _head(now: Snapshot) -> str:
    reason = (
        f" ({now.seen.reason})" if now.seen.reason and now.seen.reason != now.seen.state else ""
    )
    state = element("span", escaped(now.seen.state + reason), class_=RUN_LOOKS[now.seen.state])
    return element(
        "p",
        element("b", escaped(now.description.name)),
        " ",
        state,
        escaped(f" · {_facts(now)}"),
        class_="head",
    )


def _facts(now: Snapshot) -> str:
    return f"{counts_text(counts(now.seen))} · {seconds_text(now.elapsed_s)} · run {now.seen.run}"


def _graph(telling: ViewUpdates, now: Snapshot) -> str:
    states = {i: _WORDS[state] for i, state in enumerate(now.seen.states)}
    picture, missing = picture_or(lambda: graph_svg(telling.dag, states, is_styled=False))
    return picture or element("p", escaped(missing), class_="text-dim") + pre(dag_text(telling.dag))


def _carried(picture: str, is_stripped: bool) -> str:
    """The picture, or a script that holds it."""
    return (
        element("script", picture, type="image/svg+xml")
        if is_stripped and picture.startswith("<svg")
        else picture
    )


def _functions(telling: ViewUpdates, now: Snapshot) -> str:
    """A table: a row a function, a column a state; it is what is left where pictures are not allowed."""
    tally: dict[str, Counter[str]] = {}
    for function, state in zip(telling.description.functions, now.seen.states, strict=True):
        tally.setdefault(function, Counter())[_WORDS[state]] += 1
    present = [state for state in STATES if any(found[state] for found in tally.values())]
    rows = [
        (escaped(function), f"{found.total():,}", *(f"{found[state]:,}" for state in present))
        for function, found in list(tally.items())[:MAX_ROWS]
    ]
    more = (
        element("p", f"and {len(tally) - MAX_ROWS:,} more functions")
        if len(tally) > MAX_ROWS
        else ""
    )
    return table(("function", "tasks", *present), rows, right=range(1, len(present) + 2)) + more
