"""The picture of a DAG, without or with the state of every task; and boxes and arrows as SVG.

dag_svg, graph_svg, live_svg  -> Looks and Strokes -> sketch -> SVG
plan_svg (plan.py)            -> Looks and Strokes -> sketched, a piece of a larger picture
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dagnb.graph.brief import brief
from dagnb.graph.dag import Dag
from dagnb.views import layout
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
    wrapped,
)
from dagnb.views.layout import Box, Picture, Placed, Point, Progress, place, ranges
from dagnb.views.markup import element, number
from dagnb.views.palette import PLAIN, STATES, colours
from dagnb.views.wording import counted, listed, resources_text

_NAMED = 5
"""tasks of a folded box that its tooltip names"""

_FILLED = ("done", "failed", "cancelled", "skipped", "retrying", "running")
"""the parts of a progress bar, from the left"""

_WIDEST_STATE = "\u00a0" * max(map(len, STATES))
"""blanks, so that a box is wide enough for the longest state"""

_FOLDED = "Box = all tasks of one function."
_MIXED = "Box = all tasks of one function, or of several."


def dag_svg(dag: Dag) -> str:
    """The DAG as SVG, one colour per function. Raises ConfigError where there is no Graphviz."""
    picture = layout.of_dag(dag)
    tint = colours(call.function for call in dag.calls)
    looks = []
    for box in picture.boxes:
        lines = [counted(len(box.tasks), "task")] if len(box.tasks) > 1 else []
        stripe = tint.get(box.function or "", PLAIN)
        looks.append(Look(tip=_tip(dag, box), lines=lines, stripe=stripe, frame="stroke-edge"))
    return sketch(
        picture,
        looks,
        _strokes(picture),
        label=f"graph of {counted(len(dag), 'task')}",
        notes=_notes(picture),
    )


def graph_svg(dag: Dag, states: Mapping[int, str] | None, *, is_styled: bool = True) -> str:
    """The DAG as SVG with the state of each task. Without states it is what dag_svg draws.

    states: by position; a task without a state is waiting. For clicks, each box has `data-task`
    (its first position), `data-tasks` (all its positions, as 0-2,5) and `data-box` (its id in the
    Picture). is_styled: False inside a page that has our style sheet already.
    """
    if states is None:
        return dag_svg(dag)
    picture = layout.of_dag(dag)
    looks = [_stated(dag, box, layout.progress(box, states)) for box in picture.boxes]
    return sketch(
        picture,
        looks,
        _strokes(picture),
        label=_live_label(dag),
        entries=_legend(states.get(i, "waiting") for i in range(len(dag))),
        notes=_notes(picture),
        is_styled=is_styled,
    )


def live_svg(dag: Dag, picture: Picture) -> str:
    """The picture that a live view begins with: every task is waiting.

    Boxes are wide enough for every state, and there is no style sheet. The browser recolours boxes,
    which it finds by `data-box`, and changes their words, which it finds by class.
    """
    room = _WIDEST_STATE[len("waiting") :]
    looks = []
    for box in picture.boxes:
        n = len(box.tasks)
        line, bar = f"waiting{room}", []
        if n > 1:
            line = f"{n:,} / {n:,}"
            bar = [("waiting", 0.0)]  # of no length: the browser fills its track
        looks.append(
            Look(
                tip=_tip(dag, box),
                lines=(line,),
                mark=icon("waiting"),
                frame="stroke-waiting",
                weight=1.2,
                bar=bar,
            )
        )
    return sketch(
        picture,
        looks,
        _strokes(picture),
        label=_live_label(dag),
        is_styled=False,
    )


def _live_label(dag: Dag) -> str:
    return f"graph of {counted(len(dag), 'task')} and their states"


def _notes(picture: Picture) -> tuple[str, ...]:
    if not picture.is_folded:
        return ()
    is_mixed = any(box.function is None for box in picture.boxes)
    return (_MIXED,) if is_mixed else (_FOLDED,)


def _strokes(picture: Picture) -> list[Stroke]:
    return [Stroke(weight=1.2 if edge.n == 1 else 1.8) for edge in picture.edges]


def _stated(dag: Dag, box: Box, now: Progress) -> Look:
    """The look of a box: its most urgent state, and how many of its tasks are done."""
    n = len(box.tasks)
    # One task shows its state; several show how many are done, and a bar.
    line = now.state
    bar = []
    if n > 1:
        line = f"{now.counts.get('done', 0):,} / {n:,}"
        bar = [(state, now.counts[state] / n) for state in _FILLED if state in now.counts]
    counts = ", ".join(f"{count:,} {state}" for state, count in now.counts.items())
    return Look(
        tip=(*_tip(dag, box), counts),
        lines=(line,),
        mark=icon(now.state),
        frame=f"stroke-{now.state}",
        weight=2.0 if now.state in {"failed", "running", "retrying"} else 1.2,
        dash="4 3" if now.state in {"waiting", "skipped"} else None,
        bar=bar,
    )


def _legend(states: Iterable[str]) -> list[LegendEntry]:
    """Every state that occurs, with its count."""
    counts = Counter(states)
    entries = []
    for state in STATES:
        if n := counts[state]:
            entry = LegendEntry(mark=icon(state), words=f"{n:,} {state}")
            entries.append(entry)
    return entries


def _tip(dag: Dag, box: Box) -> list[str]:
    """The lines of a box's tooltip: names, and for a single task its edges and options."""
    lines = [listed([dag.calls[i].name for i in box.tasks], _NAMED)]
    if len(box.tasks) == 1:
        task = box.tasks[0]
        call = dag.calls[task]
        options = call.options
        lines.append(f"{len(call.upstream)} upstream, {len(dag.downstream[task])} downstream")
        if options.resources is not None or options.needs.label():
            lines.append(f"resources: {resources_text(options.needs)}")
        if options.retries:
            lines.append(counted(options.retries, "retry"))
    if not set(box.tasks).isdisjoint(dag.sinks):
        lines.append("its value is a result")
    return lines


# ---- boxes and arrows ----

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
    entries: Iterable[LegendEntry] = (),
    notes: Sequence[str] = (),
    is_styled: bool = True,
) -> str:
    """The SVG of a picture; see `sketched` for the arguments.

    is_styled: False inside a page that has our style sheet already.
    """
    drawn = sketched(picture, looks, strokes, entries=entries, notes=notes)
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
    lines = []
    for note in notes:
        lines += wrapped(note, right - 2 * MARGIN, SMALL, after=" ")
    for i, line in enumerate(lines):
        body.append(words(MARGIN, bottom + 10 + 16 * i, line, look="small fill-dim"))
    return Piece("".join(body), right, bottom + 16 * len(lines) + MARGIN - 4)


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
