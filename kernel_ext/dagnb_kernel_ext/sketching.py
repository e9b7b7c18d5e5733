"""The picture that a live view starts from: every box with room for what will be said of it.

The browser only recolours it: boxes are found by `data-box`, their words by class.
"""

from __future__ import annotations

from collections.abc import Mapping

from dagnb.views.layout import Box, Picture
from dagnb.views.palette import STATES
from dagnb.views.sketch import Look, Stroke, icon, sketch
from dagnb.views.wording import counted

_NAMED = 5
_FIRST = "waiting"
_ROOM = "\u00a0" * (max(map(len, STATES)) - len(_FIRST))
"""blanks, so that a box is wide enough for the longest state"""


def live_svg(picture: Picture, names: tuple[str, ...]) -> str:
    """The picture, every task waiting. Raises ConfigError with the cure when there is no Graphviz."""
    looks = [_look(box, names) for box in picture.boxes]
    strokes = [Stroke(weight=1.2 if edge.n == 1 else 1.8) for edge in picture.edges]
    return sketch(picture, looks, strokes, label=f"graph of {counted(len(names), 'task')} and their states")


def icons() -> dict[str, Mapping[str, object]]:
    """state -> how its icon is drawn, for the browser."""
    return {name: {"path": state.icon, "hollow": state.is_hollow} for name, state in STATES.items()}


def _look(box: Box, names: tuple[str, ...]) -> Look:
    n = len(box.tasks)
    more = f" and {n - _NAMED:,} more" if n > _NAMED else ""
    return Look(
        tip=(", ".join(names[i] for i in box.tasks[:_NAMED]) + more,),
        lines=(_FIRST + _ROOM if n == 1 else f"{n:,} / {n:,}",),
        mark=icon(_FIRST),
        frame=f"stroke-{_FIRST}",
        weight=1.2,
        bar=((_FIRST, 0.0),) if n > 1 else (),
    )
