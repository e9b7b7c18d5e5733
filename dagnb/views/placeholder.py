"""The place of a live view in the output of a cell: HTML, into which the browser puts the view when messages come.

A widget's own output would not do: when its kernel is gone or does not answer, a front end shows 'model not found' or
'Loading widget' in its place, whatever else the output holds. HTML stays readable, in a saved notebook too.
"""

from __future__ import annotations

import json

from dagnb.views.markup import element, escaped, plain
from dagnb.views.page import fragment
from dagnb.views.view import look
from dagnb.views.wording import moment_text

_CALL = "window.dagnbLive?.get({run})?.fill()"
"""asks the script of the live view, if it came first; otherwise that script finds the place"""


def attach_command(run: str) -> str:
    """The line that shows a run again in another kernel."""
    return f"%dag attach {run}"


def place_bundle(
    run: str, *, name: str = "", started_at: float = 0.0, can_attach: bool = True
) -> dict[str, str]:
    """MIME type -> the place of this run's view. name, started_at: as far as they are known.

    can_attach: whether the run goes on without the kernel that started it.
    """
    title = plain(name) if name else f"run {run}"
    since = f"started {moment_text(started_at)}" if started_at else "started"
    about = [since, *([f"run {run}"] if name else [])]
    head = element("p", element("b", escaped(title)), escaped(f" · {' · '.join(about)}"))
    note = element("p", *_note(run, can_attach=can_attach), class_="text-dim")
    place = element("div", head, note, class_="dagnb-place", data_dagnb_run=run)
    script = element("script", _CALL.format(run=json.dumps(run).replace("<", "\\u003c")))
    return {
        "text/html": fragment(element("style", look()), place, script),
        "text/plain": f"{title}, {since}",
    }


def _note(run: str, *, can_attach: bool) -> list[str]:
    """What to do when no view appears here."""
    shown = "The live view appears here while the kernel that started this run is there"
    if not can_attach:
        return [
            escaped(f"{shown}. The run ended with that kernel if it was restarted or shut down.")
        ]
    command = element("code", escaped(attach_command(run)))
    load = element("code", "%load_ext dagnb")
    return [
        escaped(
            f"{shown}. If it was restarted or shut down, the run went on without it: in a new cell, "
        ),
        command,
        escaped(" shows the run again (after "),
        load,
        escaped(" in a new kernel)."),
    ]
