"""Colours, the same in every picture: of states, of functions and workers, and of the sheet itself.

Colours of text and states come in pairs, for light and dark surroundings, each with a contrast of
4.5 to 1 or better. Colours of functions are single: 4.5 to 1 under white text, more than 3 to 1
against either sheet. States differ by icon too, for readers who cannot tell their colours apart.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True, kw_only=True)
class StateStyle:
    """Colours and icon of a task's state.

    icon: SVG path data in a square of 10 by 10; a hollow one is stroked, others are filled.
    """

    light: str
    dark: str
    icon: str
    is_hollow: bool = False


_DISC = "M5 .6a4.4 4.4 0 1 0 0 8.8a4.4 4.4 0 1 0 0-8.8z"
_ARROW = "M8.8 5A3.8 3.8 0 1 1 7.4 2.1M8.9.6V3.2H6.3"
_CHEVRONS = "M1 1.6 4.6 5 1 8.4M5.2 1.6 8.8 5 5.2 8.4"

STATES = MappingProxyType(
    {
        "done": StateStyle(
            light="#1e7e46", dark="#6fcf97", icon="M1 5.4 3.9 8.4 9.2 1.9", is_hollow=True
        ),
        "running": StateStyle(light="#1a66d0", dark="#8ab4f8", icon="M2 .8 9 5 2 9.2z"),
        "retrying": StateStyle(light="#a05600", dark="#fbbc5c", icon=_ARROW, is_hollow=True),
        "ready": StateStyle(light="#00707f", dark="#4dd0e1", icon=_DISC),
        "waiting": StateStyle(light="#5f6368", dark="#9aa0a6", icon=_DISC, is_hollow=True),
        "failed": StateStyle(
            light="#c5221f", dark="#f28b82", icon="M1.3 1.3 8.7 8.7M8.7 1.3 1.3 8.7", is_hollow=True
        ),
        "skipped": StateStyle(light="#6b7075", dark="#8b9197", icon=_CHEVRONS, is_hollow=True),
        "cancelled": StateStyle(light="#7b3fa0", dark="#c58af9", icon="M1.4 1.4H8.6V8.6H1.4z"),
    }
)
"""state -> look, in the order of legends and tables"""

SHEET = MappingProxyType(
    {
        "ink": ("#212121", "#e6e6e6"),
        "dim": ("#5f6368", "#a3a8ad"),
        "bg": ("#ffffff", "#111111"),
        "soft": ("#f5f5f5", "#1b1b1b"),
        "line": ("#d5d8dc", "#3a3d41"),
        "grid": ("#eceef0", "#242628"),
        "edge": ("#9aa0a6", "#6b7075"),
        "cold": ("#d7e3f4", "#1d3350"),
        "warm": ("#c9e3d3", "#1d4030"),
        "import": ("#f3dfbf", "#4a3613"),
        "lost": ("#f8dcda", "#4d1f1d"),
    }
)
"""role -> its colour on a light and on a dark sheet"""

FUNCTIONS = (
    "#2f6fd0",
    "#b5601b",
    "#2b8050",
    "#8656c8",
    "#bd4a8b",
    "#127f86",
    "#72761c",
    "#96663f",
    "#0f7cab",
    "#c04a5a",
    "#5c68d0",
    "#5a7590",
)
"""colours a function or a worker may have"""

PLAIN = "#757575"
"""colour of marks that belong to no single function or worker"""


def colours(names: Iterable[str]) -> dict[str, str]:
    """Choose a colour for each name. Returns name -> colour.

    A name has the same colour in every picture, unless another name of this picture took it first.
    """
    chosen: dict[str, str] = {}
    for name in sorted(set(names)):
        # Not `hash`: Python salts that of strings, so colours would change from process to process.
        first = zlib.crc32(name.encode("utf-8", "replace"))
        order = [FUNCTIONS[(first + i) % len(FUNCTIONS)] for i in range(len(FUNCTIONS))]
        taken = set(chosen.values())
        # With more names than colours some share one.
        chosen[name] = next((colour for colour in order if colour not in taken), order[0])
    return chosen


def style() -> str:
    """The style sheet of everything inside class `dagnb`.

    It follows the notebook's theme where there is one, else the system; print is light. Each role
    has the classes `fill-ROLE`, `stroke-ROLE` and `text-ROLE`.
    """
    light = dark = classes = ""
    roles = SHEET | {name: (state.light, state.dark) for name, state in STATES.items()}
    for role, (on_light, on_dark) in roles.items():
        light += f"--dagnb-{role}:{on_light};"
        dark += f"--dagnb-{role}:{on_dark};"
        for use, attribute in (("fill", "fill"), ("stroke", "stroke"), ("text", "color")):
            # The plain colour first is for programs that know no CSS variables.
            value = f"{attribute}:{on_light};{attribute}:var(--dagnb-{role})"
            classes += f".dagnb .{use}-{role}{{{value}}}"

    # Later rules win: the system's choice, then the notebook's theme, then print.
    return (
        f".dagnb{{{light}}}@media (prefers-color-scheme:dark){{.dagnb{{{dark}}}}}"
        f"[data-jp-theme-light=true] .dagnb,.vscode-light .dagnb{{{light}}}"
        f"[data-jp-theme-light=false] .dagnb,.vscode-dark .dagnb{{{dark}}}"
        f"@media print{{.dagnb.dagnb{{{light}}}}}{classes}"
    )
