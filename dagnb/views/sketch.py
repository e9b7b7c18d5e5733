"""Boxes and arrows as SVG: the part that the picture of a graph and the picture of a plan share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dagnb.graph.brief import brief
from dagnb.views.canvas import (
    MARGIN,
    SMALL,
    LegendEntry,
    Piece,
    legend,
    stacked,
    text_width,
    tooltip,
    words,
)
from dagnb.views.layout import Box, Picture, Placed, Point, place, ranges
from dagnb.views.markup import element, number
from dagnb.views.palette import STATES

_ARROW = 6.0
_WING = 0.45
"""length of an arrow head in pixels; half of its width, relative to that"""

_WIDEST = 220.0
"""pixels of a box at most; longer names lose their middle"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Appearance of one box.

    tip: lines of the tooltip. lines: under its name. mark: SVG in a square of 10 by 10 before its
    name. frame: classes of the border; weight: its width in pixels; dash: its pattern. stripe: a
    colour along the left side. is_double: with a second frame inside. bar: (role, share of 1) of
    each part of a progress bar.
    """

    tip: Sequence[str]
    lines: Sequence[str] = ()
    mark: str = ""
    frame: str = "stroke-line"
    weight: float = 1.0
    dash: str | None = None
    stripe: str | None = None
    is_double: bool = False
    bar: Sequence[tuple[str, float]] = ()

    __repr__ = brief


@dataclass(frozen=True, slots=True, kw_only=True)
class Stroke:
    """Appearance of one arrow."""

    role: str = "edge"
    weight: float = 1.2
    dash: str | None = None


def icon(state: str) -> str:
    """The icon of a state in a square of 10 by 10."""
    look = STATES[state]
    if not look.is_hollow:
        return element("path", d=look.icon, class_=f"icon fill-{state}")
    colour = f"icon stroke-{state}"
    return element(
        "path",
        d=look.icon,
        class_=colour,
        fill="none",
        stroke_width=1.8,
        stroke_linecap="round",
    )


def sketch(
    picture: Picture,
    looks: Sequence[Look],
    strokes: Sequence[Stroke],
    *,
    label: str,
    title: str = "",
    entries: Iterable[LegendEntry] = (),
    notes: Sequence[str] = (),
    is_styled: bool = True,
) -> str:
    """The SVG of a picture; see `sketched` for the arguments.

    is_styled: False inside a page that has our style sheet already.
    """
    drawn = sketched(
        picture,
        looks,
        strokes,
        title=title,
        entries=entries,
        notes=notes,
    )
    return stacked(drawn, label=label, is_styled=is_styled)


def sketched(
    picture: Picture,
    looks: Sequence[Look],
    strokes: Sequence[Stroke],
    *,
    title: str = "",
    facts: Sequence[str] = (),
    entries: Iterable[LegendEntry] = (),
    notes: Sequence[str] = (),
    least: float = 420.0,
) -> Piece:
    """Draw title, facts below it, boxes and arrows, legend, notes, from top to bottom.

    looks: of each box. strokes: of each edge. least: width in pixels that the picture has at least.
    """
    width, height = _box_size(picture, looks)
    placed = place(picture, box_width=width, box_height=height)
    top = MARGIN + 16 * len(facts)
    if title:
        top += 26
    right = max(placed.width + 2 * MARGIN, least, text_width(title) + 2 * MARGIN + 20)

    # Arrows are drawn first, so that boxes cover a curve that crosses them.
    graph = []
    for edge, curve, stroke in zip(picture.edges, placed.curves, strokes, strict=True):
        graph.append(_arrow(curve, stroke, f"{edge.tail}-{edge.head}"))
    for box, look, (x, y) in zip(picture.boxes, looks, placed.centres, strict=True):
        graph.append(_box(box, look, (x - width / 2, y - height / 2), (width, height)))
    offset = f"translate({number(_centred(right, placed))},{number(top)})"

    body = []
    if title:
        body.append(words(MARGIN, MARGIN + 12, title, look="strong fill-ink"))
    for i, fact in enumerate(facts):
        y = MARGIN + 29 + 16 * i
        body.append(words(MARGIN, y, fact, look="small fill-dim", room=right - 2 * MARGIN))
    body.append(element("g", *graph, transform=offset))
    below, bottom = legend(entries, x=MARGIN, y=top + placed.height + 18, right=right - MARGIN)
    body.append(below)
    for i, note in enumerate(notes):
        body.append(words(MARGIN, bottom + 10 + 16 * i, note, look="small fill-dim"))
    return Piece("".join(body), right, bottom + 16 * len(notes) + MARGIN - 4)


def _centred(right: float, placed: Placed) -> float:
    return max(MARGIN, (right - placed.width) / 2)


def _box_size(picture: Picture, looks: Sequence[Look]) -> tuple[float, float]:
    """One size for all boxes: as wide as the longest words, as high as the most lines."""
    # Graphviz needs the size before it places boxes; equal ones keep levels aligned.
    widest, n_lines, bar = 64.0, 0, 0.0
    for box, look in zip(picture.boxes, looks, strict=True):
        indent = _indent(look)
        widest = max(widest, indent + text_width(box.label))
        for line in look.lines:
            widest = max(widest, indent + text_width(line, SMALL))
        n_lines = max(n_lines, len(look.lines))
        if look.bar:
            bar = 5.0
    return min(widest + 12, _WIDEST), 30.0 + 14 * n_lines + bar


def _indent(look: Look) -> float:
    return 27.0 if look.mark else 14.0


def _box(box: Box, look: Look, corner: Point, size: tuple[float, float]) -> str:
    """Draw one box; its group carries the box's id and its tasks, for clicks.

    They are data attributes: an `id` would clash with that of the next picture on the page.
    """
    width, height = size
    indent = _indent(look)
    room = width - indent - 6
    parts = [tooltip(*look.tip), _frame(look, width, height)]
    if look.is_double:
        parts.append(_inner_frame(look, width, height))
    if look.stripe:
        line = f"M5 6V{number(height - 6)}"
        parts.append(
            element(
                "path",
                d=line,
                stroke=look.stripe,
                stroke_width=4,
                stroke_linecap="round",
            )
        )
    if look.mark:
        parts.append(element("g", look.mark, transform="translate(10,10)"))
    parts.append(words(indent, 19.5, box.label, look="strong fill-ink", room=room))
    for i, line in enumerate(look.lines):
        parts.append(words(indent, 34 + 14 * i, line, look="small fill-dim", room=room))
    parts.append(_bar(look.bar, indent, width - indent - 10, height - 10))
    return element(
        "g",
        *parts,
        class_="box",
        data_box=box.id,
        data_task=str(box.tasks[0]),
        data_tasks=ranges(box.tasks),
        transform=f"translate({number(corner[0])},{number(corner[1])})",
    )


def _frame(look: Look, width: float, height: float) -> str:
    return element(
        "rect",
        width=width,
        height=height,
        rx=6,
        class_=f"frame fill-bg {look.frame}",
        stroke_width=look.weight,
        stroke_dasharray=look.dash,
    )


def _inner_frame(look: Look, width: float, height: float) -> str:
    return element(
        "rect",
        x=3,
        y=3,
        width=width - 6,
        height=height - 6,
        rx=4,
        class_=look.frame,
        fill="none",
    )


def _bar(shares: Sequence[tuple[str, float]], x: float, width: float, y: float) -> str:
    """Draw a progress bar of coloured parts over a track; shares add up to 1 at most."""
    if not shares:
        return ""
    # The live view finds the track and the parts by their classes, and replaces the parts.
    parts = [
        element(
            "rect",
            x=x,
            y=y,
            width=width,
            height=4,
            class_="track fill-line",
        )
    ]
    for role, share in shares:
        look = f"part fill-{role}"
        parts.append(
            element(
                "rect",
                x=x,
                y=y,
                width=width * share,
                height=4,
                class_=look,
            )
        )
        x += width * share
    return "".join(parts)


def _arrow(curve: Sequence[Point], stroke: Stroke, edge: str) -> str:
    """Draw a spline that ends in an arrow head. edge: positions of its two boxes, "3-7".

    SVG's own arrow heads (markers) need ids, which several pictures on a page would share.
    """
    if len(curve) < 4:  # Graphviz left the edge out
        return ""
    tip = curve[-1]
    # Control points may coincide with the tip; the last other point gives the direction.
    before = next((point for point in reversed(curve[:-1]) if point != tip), curve[0])
    x, y = tip
    length = ((x - before[0]) ** 2 + (y - before[1]) ** 2) ** 0.5 or 1.0
    dx, dy = (x - before[0]) / length * _ARROW, (y - before[1]) / length * _ARROW
    base = (x - dx, y - dy)

    points = " ".join(f"{number(px)},{number(py)}" for px, py in (*curve[1:-1], base))
    line = element(
        "path",
        d=f"M{number(curve[0][0])},{number(curve[0][1])}C{points}",
        class_=f"arrow stroke-{stroke.role}",
        fill="none",
        stroke_width=stroke.weight,
        stroke_dasharray=stroke.dash,
        data_edge=edge,
    )
    left = (base[0] - dy * _WING, base[1] + dx * _WING)
    right = (base[0] + dy * _WING, base[1] - dx * _WING)
    head = "M" + "L".join(f"{number(px)},{number(py)}" for px, py in (tip, left, right)) + "z"
    return line + element("path", d=head, class_=f"head fill-{stroke.role}", data_edge=edge)
