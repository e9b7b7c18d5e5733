"""Placeholder of a live view in the output of a cell: HTML that the browser replaces by the view.

The output is not the widget itself: when its kernel is gone or does not answer, a front end shows
'model not found' or 'Loading widget' in the place of a widget, whatever else the output holds. HTML
stays readable, in a saved notebook too.
"""

from __future__ import annotations

import json

from dagnb.views.markup import element, escaped, plain
from dagnb.views.page import fragment
from dagnb.views.view import look
from dagnb.views.wording import moment_text

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
