"""Parts of every picture: root element, style, background, words that fit their room, legend."""

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

SMALL = 10.5
"""font size, in pixels, of words with the class `small`"""

_FONT = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif"
TYPE = (
    f".dagnb text{{font:12px {_FONT}}}"
    ".dagnb .strong{font-weight:600}"
    f".dagnb .small{{font-size:{SMALL}px}}"
    ".dagnb .mid{text-anchor:middle}.dagnb .end{text-anchor:end}"
)
"""style of the words in pictures, for pages that have no other style sheet"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LegendEntry:
    """One entry of a legend: a mark drawn in a square of 10 by 10, and its words."""

    mark: str
    words: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a picture, drawn from its own corner at 0, 0; sizes in pixels."""

    body: str
    width: float
    height: float


def stacked(*pieces: Piece, label: str, is_styled: bool = True) -> str:
    """Draw pieces below one another as one SVG file."""
    parts = []
    y = 0.0
    for piece in pieces:
        if y:
            parts.append(element("g", piece.body, transform=f"translate(0,{number(y)})"))
        else:
            parts.append(piece.body)
        y += piece.height
    width = max(piece.width for piece in pieces)
    return sheet(width, y, label, *parts, is_styled=is_styled)


def sheet(width: float, height: float, label: str, *body: str, is_styled: bool = True) -> str:
    """A whole SVG file. A narrow page shrinks it, but never below a size that can be read.

    is_styled: False inside a page that has our style sheet already.
    """
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
        # At 70 % of its size the smallest words have 7 pixels; a narrower page scrolls instead.
        style=f"max-width:max(100%,{round(width * 0.7)}px);height:auto",
    )


def words(
    x: float, y: float, text: str, *, look: str = "fill-ink", room: float | None = None
) -> str:
    """Draw a line of text with its base line at y, shortened to `room` pixels.

    look: classes of the style sheet; `small` draws smaller words.
    """
    size = SMALL if "small" in look.split() else 12.0
    if room is not None:
        text = fitted(text, room, size)
    return element("text", escaped(text), x=x, y=y, class_=look)


def text_width(text: str, size: float = 12.0) -> float:
    """Pixels that a text takes at most.

    An estimate by classes of characters: the reader's browser chooses the font, so widths cannot be
    measured here.
    """
    units = 0.0
    for character in text:
        if character in "iljtf.,:;|'!()[] ":
            units += 0.4
        elif unicodedata.east_asian_width(character) in "WF":
            units += 1.0
        elif character in "mwMW@%":
            units += 0.95
        else:
            units += 0.65
    return units * size


def fitted(text: str, room: float, size: float = 12.0) -> str:
    """The text, its middle left out until it fits into `room` pixels."""
    limit = len(text)
    shown = text
    # Three characters stay in any case: an empty label would look like a mistake.
    while limit > 3 and text_width(shown, size) > room:
        limit -= 1
        shown = shortened(text, limit)
    return shown


def wrapped(text: str, room: float, size: float = 12.0, *, after: str = ", ") -> list[str]:
    """Break an enumeration after commas into lines of at most `room` pixels.

    A part that is longer than that has a line of its own. after: the text that ends a part; a
    sentence is broken after blanks.

    >>> wrapped("one cause, another cause", 90), wrapped("one cause, another", 80, after=" ")
    (['one cause,', 'another cause'], ['one cause,', 'another'])
    """
    lines: list[str] = []
    for part in text.replace(after, after.rstrip() + "\n").splitlines():
        longer = f"{lines[-1]} {part}" if lines else part
        if lines and text_width(longer, size) <= room:
            lines[-1] = longer
        else:
            lines.append(part)
    return lines


def tooltip(*lines: str) -> str:
    """Text that a browser shows while the pointer rests on the element around it."""
    return element("title", escaped("\n".join(lines)))


def chip(colour: str) -> str:
    """A square of a colour, for a legend."""
    return element("rect", width=10, height=10, rx=2, fill=colour)


def legend(
    entries: Iterable[LegendEntry], *, x: float, y: float, right: float
) -> tuple[str, float]:
    """Draw entries side by side in as many rows as they need, the first at y.

    Returns:
        the markup.
        the y below the last row; y itself when there are no entries.
    """
    drawn = []
    left = x
    for entry in entries:
        wide = 16 + text_width(entry.words, SMALL) + 16  # mark, words, gap
        if left > x and left + wide > right:
            left = x
            y += LEGEND_ROW
        text = words(16, 9, entry.words, look="small fill-dim")
        drawn.append(element("g", entry.mark, text, transform=f"translate({left:.1f},{y:.1f})"))
        left += wide
    if not drawn:
        return "", y
    return "".join(drawn), y + LEGEND_ROW
