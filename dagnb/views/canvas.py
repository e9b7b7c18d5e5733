"""The sheet every picture is drawn on: root element, style, background, words that fit, legend."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from dagnb.views.markup import element, escaped, number, shortened
from dagnb.views.palette import style

MARGIN = 16.0
"""pixels around everything"""

LEGEND_ROW = 20.0
"""pixels from one row of the legend to the next"""

_FONT = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif"
TYPE = (
    f".dagnb text{{font:12px {_FONT}}}.dagnb .strong{{font-weight:600}}.dagnb .small{{font-size:10.5px}}"
    ".dagnb .mid{text-anchor:middle}.dagnb .end{text-anchor:end}"
)
"""how words and marks look, for whoever draws without a style sheet of its own"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LegendEntry:
    """One entry of a legend: a mark drawn in a square of 10 by 10, and its words."""

    mark: str
    words: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a picture, drawn from its own corner at 0, 0."""

    body: str
    width: float
    height: float


def stacked(*pieces: Piece, label: str, is_styled: bool = True) -> str:
    """Pieces below one another as one SVG file."""
    parts, y = [], 0.0
    for piece in pieces:
        parts.append(
            element("g", piece.body, transform=f"translate(0,{number(y)})") if y else piece.body
        )
        y += piece.height
    return sheet(max(piece.width for piece in pieces), y, label, *parts, is_styled=is_styled)


def sheet(width: float, height: float, label: str, *body: str, is_styled: bool = True) -> str:
    """A whole SVG file. It shrinks with a narrow page, but never below a size that can be read."""
    return element(
        "svg",
        element("style", style() + TYPE) if is_styled else "",
        element("rect", width=width, height=height, rx=6, class_="fill-bg"),
        *body,
        xmlns="http://www.w3.org/2000/svg",
        class_="dagnb",
        role="img",
        aria_label=label,
        width=width,
        height=height,
        viewBox=f"0 0 {width:g} {height:g}",
        style=f"max-width:max(100%,{round(width * 0.7)}px);height:auto",
    )


def words(
    x: float, y: float, text: str, *, look: str = "fill-ink", room: float | None = None
) -> str:
    """A line of text with its base line at y, shortened to `room` pixels. look: classes; `small` makes it so."""
    size = 10.5 if "small" in look.split() else 12.0
    shown = text if room is None else fitted(text, room, size)
    return element("text", escaped(shown), x=x, y=y, class_=look)


def text_width(text: str, size: float = 12.0) -> float:
    """Pixels a text takes at most, guessed: whoever reads it brings the font."""
    units = 0.0
    for character in text:
        if character in "iljtf.,:;|'!()[] ":
            units += 0.4
        elif unicodedata.east_asian_width(character) in "WF":
            units += 1.0
        else:
            units += 0.95 if character in "mwMW@%" else 0.65
    return units * size


def fitted(text: str, room: float, size: float = 12.0) -> str:
    """The text, its middle left out until it fits."""
    limit = len(text)
    shown = text
    while limit > 3 and text_width(shown, size) > room:
        limit -= 1
        shown = shortened(text, limit)
    return shown


def wrapped(text: str, room: float, size: float = 12.0) -> list[str]:
    """An enumeration in lines of `room` pixels at most, broken after commas; a longer part has a line of its own.

    >>> wrapped("one cause, another cause", 90)
    ['one cause,', 'another cause']
    """
    lines: list[str] = []
    for part in text.replace(", ", ",\n").splitlines():
        longer = f"{lines[-1]} {part}" if lines else part
        if lines and text_width(longer, size) <= room:
            lines[-1] = longer
        else:
            lines.append(part)
    return lines


def tooltip(*lines: str) -> str:
    """What a browser shows while the pointer rests on the element around it."""
    return element("title", escaped("\n".join(lines)))


def chip(colour: str) -> str:
    """A square of a colour, for a legend."""
    return element("rect", width=10, height=10, rx=2, fill=colour)


def legend(
    entries: Iterable[LegendEntry], *, x: float, y: float, right: float
) -> tuple[str, float]:
    """The entries side by side in as many rows as it takes, first row at y; and the y below the last row."""
    drawn, left = [], x
    for entry in entries:
        wide = 16 + text_width(entry.words, 10.5) + 16
        if left > x and left + wide > right:
            left, y = x, y + LEGEND_ROW
        text = words(16, 9, entry.words, look="small fill-dim")
        drawn.append(element("g", entry.mark, text, transform=f"translate({left:.1f},{y:.1f})"))
        left += wide
    return "".join(drawn), y + LEGEND_ROW if drawn else y
