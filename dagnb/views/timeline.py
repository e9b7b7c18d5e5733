"""The timeline of a trace: one lane per worker, with its work above and its traffic below."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from dagnb.trace.trace import Phase, Trace
from dagnb.views.axis import Scale, axis, mark
from dagnb.views.canvas import (
    LEGEND_ROW,
    MARGIN,
    SMALL,
    LegendEntry,
    Piece,
    chip,
    legend,
    stacked,
    text_width,
    tooltip,
    words,
)
from dagnb.views.lanes import LOST, MAX_BARS, Bar, Lanes, lanes
from dagnb.views.markup import element, number
from dagnb.views.palette import PLAIN, colours
from dagnb.views.wording import bytes_text, counted, listed, seconds_text
from dagnb.worker_label import worker_text

TRAFFIC_COLOURS = {
    "program": "#72761c",
    "fetch": "#c2554d",
    "store": "#8e5bb5",
    "commit": "#127f86",
}
"""phase on the thin row -> colour"""

_KINDS = {
    LOST: "failed attempt",
    "cold": "cold start",
    "warm": "warm start",
    "import": "import",
    "load": "load, dump",
    **{kind: kind for kind in TRAFFIC_COLOURS},
}
"""kind of a bar that is not a run -> its words, in the order of the legend"""

# So that they differ from other bars by more than their colours.
_HATCHED = ("cold", LOST)

_SQUARE = "M0 0h10v10h-10z"
_THIN = "M0 4h10v4h-10z"
_NUMBER = re.compile(r"(-\d+)?'*$")
_LISTED = 12
_WIDE = 4.0
"""pixels; a line that parts two bars would hide one that is narrower"""


def timeline_svg(
    trace: Trace,
    functions: Sequence[str] | None = None,
    *,
    width: int = 900,
    planned: Trace | None = None,
    is_over: bool = True,
    is_bare: bool = False,
    max_bars: int = MAX_BARS,
) -> str:
    """The trace as SVG, `width` pixels wide; see `timeline` for the arguments."""
    drawn = timeline(
        trace,
        functions,
        width=width,
        planned=planned,
        is_over=is_over,
        is_bare=is_bare,
        max_bars=max_bars,
    )
    label = f"timeline of {counted(len(trace.workers), 'worker')}, {seconds_text(trace.makespan_s)}"
    return stacked(drawn, label=label, is_styled=not is_bare)


def timeline(
    trace: Trace,
    functions: Sequence[str] | None = None,
    *,
    width: float = 900,
    span_s: float = 0.0,
    planned: Trace | None = None,
    word: str = "planned",
    notes: Mapping[int, str] | None = None,
    is_over: bool = True,
    is_bare: bool = False,
    max_bars: int = MAX_BARS,
) -> Piece:
    """Draw a trace. O(spans log spans), and small however many spans there are.

    functions: of each step, else taken from the names of the steps. span_s: least length of the
    time axis, seconds. planned: outlined behind bars of the same workers; word: its name. notes:
    step -> second line of its bar's tooltip. is_over: whether the makespan is final. is_bare: for a
    page that has our style sheet and a script that words the tooltips: a bar of one task has
    `data-task`, other bars carry their words in `data-say`.
    """
    functions = functions_of(trace) if functions is None else functions
    span_s = max(span_s, length(trace, planned))
    left = MARGIN + gutter(trace)
    right = width - MARGIN
    drawn = lanes(trace, functions, pixel_s=span_s / (right - left), max_bars=max_bars)
    scale = _scale(span_s, left, right, len(drawn.names))
    tint = colours(functions)

    # What is drawn later covers what was drawn before: outlines stay behind the bars.
    body = [axis(scale), _names(drawn, scale)]
    if planned is not None:
        body.append(_outlines(planned, drawn, scale))
    body.append(
        bars(
            drawn.bars,
            trace,
            scale,
            tint,
            notes or {},
            is_bare=is_bare,
        )
    )
    if is_over:
        body.append(mark(scale, trace.makespan_s, "end", "ink", row=0))
    else:
        body.append(mark(scale, trace.makespan_s, "now", "running", row=0))
    if planned is not None:
        body.append(mark(scale, planned.makespan_s, word, "edge", row=1))
    below, end = _below(drawn, tint, scale, "" if planned is None else word)
    return Piece("".join([*body, below]), width, end + MARGIN - 6)


def functions_of(trace: Trace) -> list[str]:
    """The function of each step: its name without number and marks of a copy."""
    return [_NUMBER.sub("", name) for name in trace.names]


def length(trace: Trace, planned: Trace | None) -> float:
    """Seconds that the picture shows; 1 for a trace without any length."""
    # Workers may act after the last sink is stored: a task whose value is not needed still runs.
    ends = [span.end_s - trace.submitted_s for span in trace.spans if span.worker]
    if planned is not None:
        ends.append(planned.makespan_s)
    return max([trace.makespan_s, *ends]) or 1.0


def gutter(trace: Trace) -> float:
    """Pixels for the names of the workers, left of the lanes."""
    widths = [text_width(worker_text(worker)) for worker in trace.workers]
    return min(130.0, max(widths, default=30.0) + 12)


def _scale(span_s: float, left: float, right: float, n_lanes: int) -> Scale:
    # Many lanes are half as high, so that the picture still fits a screen.
    work, traffic, gap = (16.0, 4.0, 10.0) if n_lanes <= 30 else (8.0, 2.0, 3.0)
    return Scale(
        span_s=span_s,
        left=left,
        right=right,
        top=MARGIN + 18,
        n_lanes=n_lanes,
        work=work,
        traffic=traffic,
        gap=gap,
    )


def _below(drawn: Lanes, tint: Mapping[str, str], scale: Scale, outlined: str) -> tuple[str, float]:
    """Legend and remarks below the lanes, and the y below them.

    outlined: name of the trace that is outlined; '' when none is.
    """
    y = scale.bottom + 31
    if outlined:
        y += 13  # the second row of marks
    below, end = legend(entries(drawn, tint, outlined), x=MARGIN, y=y, right=scale.right)
    if not drawn.n_hidden:
        return below, end
    remark = f"{counted(drawn.n_hidden, 'more worker')} not drawn"
    return below + words(MARGIN, end + 8, remark, look="small fill-dim"), end + LEGEND_ROW


def _names(drawn: Lanes, scale: Scale) -> str:
    """The worker left of its lane; of workers that share a lane, the first and how many more."""
    look, rise = "strong fill-ink", 4
    if scale.work < 12:
        look, rise = "strong fill-ink small", 0
    names = []
    for lane, workers in enumerate(drawn.names):
        shown = list(map(worker_text, workers))
        text = shown[0] if len(shown) == 1 else f"{shown[0]} +{len(shown) - 1}"
        y = scale.y(lane) + scale.work - rise
        label = words(MARGIN, y, text, look=look, room=scale.left - MARGIN - 6)
        names.append(element("g", tooltip(listed(shown, _LISTED)), label))
    return "".join(names)


def bars(
    bars: Sequence[Bar],
    trace: Trace,
    scale: Scale,
    tint: Mapping[str, str],
    notes: Mapping[int, str],
    *,
    is_bare: bool,
) -> str:
    """Draw all bars, grouped by look: an attribute is written once for thousands of bars.

    tint: function -> colour. notes, is_bare: see `timeline`.
    """
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for bar in bars:
        groups[bar.look].append(_bar(bar, trace, scale, notes, is_bare=is_bare))

    # Runs last: they are what a reader looks for, so nothing may cover them.
    drawn = []
    for kind, function in sorted(groups, key=lambda look: (look[0] == Phase.RUN, look)):
        paint = _paint(kind, function, tint)
        group = groups[kind, function]
        drawn.append(
            element(
                "g",
                *group,
                data_kind=kind,
                data_function=function or None,
                **paint,
            )
        )
    return "".join(drawn) + _seams(bars, scale) + _labels(bars, trace, scale)


def _labels(bars: Sequence[Bar], trace: Trace, scale: Scale) -> str:
    """Write the duration into each bar of one run that has room for it, and the task if it fits."""
    if scale.work < SMALL + 2:
        return ""
    labels: dict[str, list[str]] = defaultdict(list)
    for bar in bars:
        if bar.n > 1 or not (bar.is_run or bar.kind == LOST):
            continue
        room = (bar.end_s - bar.begin_s) * scale.per_s - 6
        took = seconds_text(bar.busy_s)
        if room < text_width(took, SMALL):
            continue
        text = f"{trace.names[bar.first.task]} {took}" if bar.first.task >= 0 else took
        if room < text_width(text, SMALL):
            text = took
        x, y = scale.x(bar.begin_s) + 3, scale.y(bar.lane) + scale.work - 4.5
        # White on the colours of functions, which are dark enough in both themes.
        look = "fill-ink" if bar.kind == LOST else ""
        labels[look].append(words(x, y, text, look=f"small {look}".rstrip()))
    drawn = []
    for look, group in labels.items():
        # The bar below keeps the pointer, for its tooltip.
        fill = None if look else "#fff"
        drawn.append(element("g", *group, fill=fill, pointer_events="none"))
    return "".join(drawn)


def _seams(bars: Sequence[Bar], scale: Scale) -> str:
    """Draw a thin line between two wide bars of one colour that follow one another at once."""
    latest: dict[tuple[int, str], Bar] = {}
    cuts = []
    for bar in sorted(bars, key=lambda bar: bar.begin_s):
        if not bar.is_run:
            continue
        before = latest.get((bar.lane, bar.function))
        latest[bar.lane, bar.function] = bar
        if before is None:
            continue
        shorter_s = min(before.end_s - before.begin_s, bar.end_s - bar.begin_s)
        pause_s = bar.begin_s - before.end_s
        if shorter_s * scale.per_s >= _WIDE and pause_s * scale.per_s < 1:
            x, y = scale.x(bar.begin_s), scale.y(bar.lane)
            cuts.append(f"M{number(x)} {number(y)}v{number(scale.work)}")
    return element("path", d="".join(cuts), class_="stroke-bg") if cuts else ""


def _paint(kind: str, function: str, tint: Mapping[str, str]) -> dict[str, str]:
    if kind == "cold":
        return {"class_": "fill-cold stroke-running", "stroke_width": "0.7"}
    if kind == "warm":
        return {"class_": "fill-warm stroke-done", "stroke_width": "0.7"}
    if kind == Phase.IMPORT:
        return {"class_": "fill-import stroke-retrying", "stroke_width": "0.7"}
    if kind == LOST:
        return {"class_": "fill-lost stroke-failed", "stroke_width": "0.7"}
    if kind == Phase.RUN:
        return {"fill": tint.get(function, PLAIN)}
    return {"fill": TRAFFIC_COLOURS.get(kind, PLAIN)}


def _bar(bar: Bar, trace: Trace, scale: Scale, notes: Mapping[int, str], *, is_bare: bool) -> str:
    x, y = scale.x(bar.begin_s), scale.y(bar.lane)
    wide = max((bar.end_s - bar.begin_s) * scale.per_s, 0.6)  # thinner bars vanish on some screens
    high = scale.work
    if bar.is_traffic:
        y += scale.work + 1
        high = scale.traffic
    path = rectangle(x, y, wide, high)
    if bar.kind in _HATCHED:
        path += hatch(x, y, wide, high)

    task = bar.first.task if bar.n == 1 and bar.first.task >= 0 else None
    if is_bare:
        # The page knows the latest attempt of each task; other bars must carry their own words.
        says_itself = task is None or bar.first.attempt > 1 or bar.kind == LOST
        words_of_bar = _tip(bar, trace) if says_itself else None
        return element("path", d=path, data_task=task, data_say=words_of_bar)
    tip = [_tip(bar, trace)]
    if task is not None and bar.is_run and task in notes:
        tip.append(notes[task])
    return element("path", tooltip(*tip), d=path, data_task=task)


def rectangle(x: float, y: float, wide: float, high: float) -> str:
    """Path data of a rectangle: shorter than an element, of which there would be thousands."""
    return f"M{number(x)} {number(y)}h{number(wide)}v{number(high)}h-{number(wide)}z"


def hatch(x: float, y: float, wide: float, high: float) -> str:
    """Path data of slanted lines inside a bar, clipped by arithmetic.

    An SVG pattern would need an id, and several pictures on a page would share it.
    """
    lines = ""
    for far in range(6, min(1_200, int(wide + high)), 6):
        a, b = max(0.0, far - high), min(wide, float(far))
        lines += f"M{number(x + a)} {number(y + far - a)}L{number(x + b)} {number(y + far - b)}"
    return lines


def _tip(bar: Bar, trace: Trace) -> str:
    span = bar.first
    if bar.n > 1:
        name = bar.function or _KINDS.get(bar.kind, bar.kind)
        return f"{bar.n:,} x {name}: {seconds_text(bar.busy_s)} in total"
    name = worker_text(span.worker)
    if 0 <= span.task < len(trace.names):
        name = trace.names[span.task]
    kind: str = span.phase
    if span.is_start:
        kind = _KINDS[bar.kind]
        if span.phase is not Phase.INVOKE:
            kind += f", {span.phase}"  # the part of the start: create, boot, import, register
    elif bar.kind == LOST:
        kind = _KINDS[LOST]

    parts = [f"{name} {kind}: {seconds_text(bar.busy_s)}", f"from {seconds_text(bar.begin_s)}"]
    if span.n_bytes:
        parts.append(bytes_text(span.n_bytes))
    if span.attempt > 1 or bar.kind == LOST:
        parts.append(f"attempt {span.attempt}")
    if span.detail and not span.is_start:
        parts.append(span.detail)
    return ", ".join(parts)


def _outlines(planned: Trace, drawn: Lanes, scale: Scale) -> str:
    """Draw the planned runs as dotted outlines behind the bars of workers with the same name."""
    lane_of: dict[str, int] = {}
    for i, workers in enumerate(drawn.names):
        lane_of.update(dict.fromkeys(workers, i))
    # Bars of less than two pixels have no room for an outline, so they are joined.
    outlined = lanes(planned, functions_of(planned), pixel_s=2 / scale.per_s)
    path = ""
    for bar in outlined.bars:
        lane = lane_of.get(bar.first.worker)
        if lane is not None and bar.is_run:
            wide = (bar.end_s - bar.begin_s) * scale.per_s
            path += rectangle(scale.x(bar.begin_s), scale.y(lane) - 2, wide, scale.work + 4)
    if not path:
        return ""
    look = "planned stroke-dim"
    return element(
        "path",
        d=path,
        class_=look,
        fill="none",
        stroke_dasharray="2 2",
    )


def entries(drawn: Lanes, tint: Mapping[str, str], outlined: str) -> list[LegendEntry]:
    """The legend of the looks that occur: functions first, then starts and traffic.

    Traffic is as thin as its row. outlined: see `_below`.
    """
    functions = sorted({bar.function for bar in drawn.bars if bar.is_run})
    legend_entries = [
        LegendEntry(mark=chip(tint.get(name, PLAIN)), words=name) for name in functions[:_LISTED]
    ]
    if len(functions) > _LISTED:
        more = f"{len(functions) - _LISTED:,} more functions"
        legend_entries.append(LegendEntry(mark=chip(PLAIN), words=more))

    # Load and dump have one colour, and one entry.
    kinds = {"load" if bar.kind == "dump" else bar.kind for bar in drawn.bars}
    for kind, name in _KINDS.items():
        if kind not in kinds:
            continue
        shape = _SQUARE
        if kind in TRAFFIC_COLOURS:
            shape = _THIN
        elif kind in _HATCHED:
            shape += hatch(0, 0, 10, 10)
        swatch = element("g", element("path", d=shape), **_paint(kind, "", tint))
        legend_entries.append(LegendEntry(mark=swatch, words=name))
    if outlined:
        outline = element(
            "path",
            d=_SQUARE,
            class_="stroke-dim",
            fill="none",
            stroke_dasharray="2 2",
        )
        legend_entries.append(LegendEntry(mark=outline, words=outlined))
    return legend_entries
