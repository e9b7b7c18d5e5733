"""The view of a run as HTML: a placeholder while the run is watched, then a page that stays.

    run goes on   placeholder_bundle   the browser replaces it by the live view
    run is over   bundle               pictures and data, clickable without a kernel

The placeholder
---------------
It is not the widget itself: when its kernel is gone or does not answer, a front end shows 'model
not found' or 'Loading widget' in the place of a widget, whatever else the output holds. HTML stays
readable, in a saved notebook too.

The page
--------
Where scripts are not allowed, header, table and errors are shown; in a report the pictures, too. In
a notebook each picture is inside a script element: a front end that strips SVG elements would leave
their words behind, one after the other.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
import re
from collections import Counter
from collections.abc import Mapping

from dagnb.failure import read_errors
from dagnb.protocol.messages import RunState, TaskState
from dagnb.protocol.run_description import counts
from dagnb.trace.trace import Trace
from dagnb.views.canvas import TYPE
from dagnb.views.errors import errors_text
from dagnb.views.graph import graph_svg
from dagnb.views.markup import element, escaped, plain
from dagnb.views.page import fragment, pre, table
from dagnb.views.palette import STATES
from dagnb.views.show import picture_or
from dagnb.views.snapshot import Row, RunFacts, Snapshot
from dagnb.views.text import counts_text, dag_text
from dagnb.views.view_updates import Message, ViewUpdates, graph_of
from dagnb.views.wording import moment_text, seconds_text

MAX_TASKS = 1_500
"""tasks whose own numbers the page holds: failed ones first, then the slowest"""

MAX_LOGS = 40_000
"""characters of output that the page holds"""

MAX_EDGES = 6_000
MAX_ROWS = 20

RUN_LOOKS = {
    RunState.OK: "text-done",
    RunState.FAILED: "text-failed",
    RunState.DEADLINE: "text-failed",
    RunState.CANCELLED: "text-cancelled",
    RunState.RUNNING: "text-running",
}
"""state of a run -> class that colours its word"""

_UNTRUSTED = "Trust this notebook to see the picture, the timeline and the details."
_WORDS = {state.value: state.word for state in TaskState}
_PARTS = ("words.js", "run_state.js", "picture.js", "details.js", "view.js")
_FOLDER = importlib.resources.files("dagnb.views") / "static"
# Whole lines only: "//" is also in the middle of lines, in the name of the SVG namespace.
_COMMENT = re.compile(r"^\s*//.*\n|^\s+", re.MULTILINE)


@functools.cache
def script() -> str:
    """The script of a view, to be run in a scope of its own.

    Comments and indents are left out: every notebook with a run holds a copy of it for each view.
    """
    source = "".join((_FOLDER / part).read_text(encoding="utf-8") for part in _PARTS)
    return _COMMENT.sub("", source)


@functools.cache
def look() -> str:
    """The style sheet of a view; the colours come with `palette.style`."""
    return TYPE + (_FOLDER / "view.css").read_text(encoding="utf-8").replace("\n", "")


def bundle(now: Snapshot, updates: ViewUpdates | None = None) -> dict[str, str]:
    """The view of a run by MIME type.

    updates: those of a live view, whose last snapshot was `now`; None: new ones are made.
    """
    return {"text/html": view_html(now, updates), "text/plain": view_text(now)}


def view_html(now: Snapshot, updates: ViewUpdates | None = None) -> str:
    """The view for a notebook's output."""
    return fragment(view_section(now, updates=updates, is_stripped=True))


def view_section(
    now: Snapshot,
    planned: Trace | None = None,
    *,
    updates: ViewUpdates | None = None,
    is_stripped: bool = False,
) -> str:
    """The view: elements that need no script, and the data and script that answer clicks.

    planned: simulated run of the plan, outlined on the timeline. updates: see `bundle`.
    is_stripped: for places where pictures may not be allowed.
    """
    if updates is None:
        updates = ViewUpdates(now.description, now.seen.submitted_at, planned)
        updates.update(now)
    drawn = updates.draw()
    message, errors = _without_html(updates.everything())
    data = {
        **message,
        **_limited_facts(message, updates.facts, now),
        "graph": _limited_graph(now),
        "drawn": {**drawn, "lanes": ""},  # the element below has the timeline
        "title": plain(now.description.name),
        "run": now.seen.run,
        "icons": icons(),
    }
    encoded = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    body = element(
        "section",
        _head(now),
        element("noscript", _UNTRUSTED) if is_stripped else "",
        element("div", _carried(_graph(updates, now), is_stripped), class_="graph scroll"),
        element("div", _functions(updates, now), class_="functions"),
        element("div", _carried(str(drawn["lanes"]), is_stripped), class_="lanes scroll"),
        element("div", "".join(errors), class_="errors"),
        # Text of a run that holds "</script>" would end the element.
        element("script", encoded.replace("<", "\\u003c"), type="application/json"),
        class_="dagnb dagnb-view",
    )
    return element("style", look()) + body + element("script", f"(()=>{{{script()}mountAll();}})()")


def view_text(now: Snapshot) -> str:
    """The run in a few lines."""
    head = f"{plain(now.description.name)}: {now.seen.state}, {', '.join(_facts(now))}"
    if errors := read_errors(now.seen.errors, now.description.names, now.seen.failed):
        return f"{head}\n\n{errors_text(errors)}"
    return head


def icons() -> dict[str, Mapping[str, object]]:
    """The byte of each task state -> its word and icon, for the browser."""
    looks: dict[str, Mapping[str, object]] = {}
    for state in TaskState:
        style = STATES[state.word]
        looks[state.value] = {"word": state.word, "path": style.icon, "hollow": style.is_hollow}
    return looks


def _without_html(message: Message) -> tuple[Message, list[str]]:
    """A message without the HTML of its errors, and that HTML, which the page shows itself."""
    errors = message["errors"]
    assert isinstance(errors, list)
    bare, html = [], []
    for error in errors:
        bare.append({"task": error["task"], "attempt": error["attempt"]})
        html.append(error["html"])
    return {**message, "errors": bare}, html


def _limited_graph(now: Snapshot) -> Message:
    """The graph, without its edges where these are too many for a page that is kept."""
    graph = graph_of(now.description)
    if sum(map(len, now.description.upstream)) > MAX_EDGES:
        graph["upstream"] = [[]] * len(now.description.names)
    return graph


def _limited_facts(message: Message, facts: RunFacts, now: Snapshot) -> Message:
    """The rows and outputs that the page holds: of failed tasks first, then of the slowest."""
    failed = {task for task, _ in now.seen.errors}
    order = sorted(
        facts.of, key=lambda task: (task not in failed, -(facts.of[task].run_s or 0.0), task)
    )
    chosen = order[:MAX_TASKS]
    rows: list[Row] = list(map(facts.row, sorted(chosen)))

    all_logs = message["logs"]
    assert isinstance(all_logs, dict)
    logs: dict[str, str] = {}
    room = MAX_LOGS
    for task in chosen:
        text = all_logs.get(str(task), "")
        # A long output is left out; a shorter one of a later task may still fit.
        if text and len(text) <= room:
            logs[str(task)] = text
            room -= len(text)
    n_left_out = len(facts.of) - len(rows)
    # With all rows the script can add them up itself.
    totals = _totals(facts, now) if n_left_out else None
    return {
        "rows": rows,
        "logs": logs,
        "n_left_out": n_left_out,
        "totals": totals,
    }


def _totals(facts: RunFacts, now: Snapshot) -> list[list[float]]:
    """Each function's number of calls, total and longest milliseconds; left-out rows count too.

    In the order of the functions in the graph's message.
    """
    totals: dict[str, list[float]] = {}
    for function in now.description.functions:
        totals.setdefault(function, [0, 0.0, 0.0])
    for task, fact in facts.of.items():
        if fact.run_s is None:
            continue
        total = totals[now.description.functions[task]]
        total[0] += 1
        total[1] += fact.run_s * 1e3
        total[2] = max(total[2], fact.run_s * 1e3)
    return [[n, round(total, 2), round(longest, 2)] for n, total, longest in totals.values()]


def _head(now: Snapshot) -> str:
    text: str = now.seen.state
    if now.seen.reason and now.seen.reason != text:
        text += f" ({now.seen.reason})"
    name = element("b", escaped(now.description.name))
    state = element("span", escaped(text), class_=RUN_LOOKS[now.seen.state])
    return element(
        "p",
        name,
        " ",
        state,
        escaped(f" · {' · '.join(_facts(now))}"),
        class_="head",
    )


def _facts(now: Snapshot) -> tuple[str, ...]:
    return counts_text(counts(now.seen)), seconds_text(now.elapsed_s), f"run {now.seen.run}"


def _graph(updates: ViewUpdates, now: Snapshot) -> str:
    states = {i: _WORDS[state] for i, state in enumerate(now.seen.states)}
    picture, missing = picture_or(lambda: graph_svg(updates.dag, states, is_styled=False))
    if picture:
        return picture
    return element("p", escaped(missing), class_="text-dim") + pre(dag_text(updates.dag))


def _carried(picture: str, is_stripped: bool) -> str:
    """The picture; where SVG may be stripped, a script element that holds it."""
    if is_stripped and picture.startswith("<svg"):
        return element("script", picture, type="image/svg+xml")
    return picture


def _functions(updates: ViewUpdates, now: Snapshot) -> str:
    """A table with one row per function and one column per state, for pages without pictures."""
    tally: dict[str, Counter[str]] = {}
    occurs = set()
    for function, byte in zip(updates.description.functions, now.seen.states, strict=True):
        state = _WORDS[byte]
        tally.setdefault(function, Counter())[state] += 1
        occurs.add(state)
    present = [state for state in STATES if state in occurs]

    rows = []
    for function, counts_of in list(tally.items())[:MAX_ROWS]:
        cells = [counts_of.total(), *(counts_of[state] for state in present)]
        rows.append((escaped(function), *(f"{n:,}" for n in cells)))
    html = table(("function", "tasks", *present), rows, right=range(1, len(present) + 2))
    if len(tally) > MAX_ROWS:
        html += element("p", f"and {len(tally) - MAX_ROWS:,} more functions")
    return html


# ---- the placeholder ----

_CALL = "window.dagnbLive?.get({run})?.fill()"
"""asks the live view's script to fill the placeholder, if that script runs already; otherwise the
script finds the placeholder when it starts"""


def attach_command(run: str) -> str:
    """The line that shows a run again in another kernel."""
    return f"%dag attach {run}"


def placeholder_bundle(
    run: str, *, name: str = "", started_at: float = 0.0, can_attach: bool = True
) -> dict[str, str]:
    """The placeholder of a run's view, by MIME type.

    name: of the run, where it is known. started_at: epoch seconds; 0 where unknown.
    can_attach: whether the run goes on without the kernel that started it.
    """
    since = f"started {moment_text(started_at)}" if started_at else "started"
    title, about = f"run {run}", f" · {since}"
    if name:
        title, about = plain(name), f" · {since} · run {run}"
    head = element("p", element("b", escaped(title)), escaped(about))
    note = element("p", *_note(run, can_attach=can_attach), class_="text-dim")
    placeholder = element(
        "div",
        head,
        note,
        class_="dagnb-placeholder",
        data_dagnb_run=run,
    )
    # A script must not hold "<": a run's id with "</script>" in it would end the script.
    script = element("script", _CALL.format(run=json.dumps(run).replace("<", "\\u003c")))
    return {
        "text/html": fragment(element("style", look()), placeholder, script),
        "text/plain": f"{title}, {since}",
    }


def _note(run: str, *, can_attach: bool) -> list[str]:
    """Instructions for a reader who sees the placeholder instead of the view."""
    shown = "The live view appears here while the kernel that started this run is alive."
    if not can_attach:
        return [escaped(f"{shown} The run ended if that kernel was restarted or shut down.")]
    command = element("code", escaped(attach_command(run)))
    load = element("code", "%load_ext dagnb")
    return [
        escaped(f"{shown} If it was restarted or shut down, the run went on: in a new cell, "),
        command,
        escaped(" shows the run again (after "),
        load,
        escaped(" in a new kernel)."),
    ]
