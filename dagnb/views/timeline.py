"""Who did what when: a lane a worker, work above, traffic with the store on a thin row below."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from dagnb.trace.span import STARTING, Phase
from dagnb.trace.trace import Trace
from dagnb.views.axis import Scale, axis, mark
from dagnb.views.canvas import (
    LEGEND_ROW,
    MARGIN,
    LegendEntry,
    Piece,
    chip,
    legend,
    stacked,
    text_width,
    tooltip,
    words,
)
from dagnb.views.lanes import MAX_BARS, Bar, Lanes, lanes
from dagnb.views.markup import element, number
from dagnb.views.palette import PLAIN, colours
from dagnb.views.wording import bytes_text, counted, seconds_text

TRAFFIC_COLOURS = {
    "program": "#72761c",
    "fetch": "#c2554d",
    "store": "#8e5bb5",
    "commit": "#127f86",
}
"""phase on the thin row -> colour"""

_SAID = {"cold": "cold start", "warm": "warm start", "load": "load, dump"} | {
    kind: kind for kind in TRAFFIC_COLOURS
}
_SQUARE = "M0 0h10v10h-10z"
_NUMBER = re.compile(r"(-\d+)?'*$")
_LISTED = 12
_WIDE = 4.0
"""pixels of a bar that a line beside it does not hide"""


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
    """The trace as SVG, `width` pixels wide. O(spans log spans), and small however many spans there are.

    functions: of each step, else taken from the names of the steps. planned: outlined where its workers are the same.
    is_over: whether the makespan is final. is_bare: for a page that has our style sheet and says itself what a bar of
    one task (`data-task`) is; other bars carry their words in `data-say`.
    """
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
    """As timeline_svg, a part of a picture. span_s: the time axis is at least so long.

    word: what `planned` is called. notes: step -> what its bar says besides.
    """
    functions = functions_of(trace) if functions is None else functions
    span_s = max(span_s, length(trace, planned))
    left = MARGIN + gutter(trace)
    drawn = lanes(trace, functions, pixel_s=span_s / (width - MARGIN - left), max_bars=max_bars)
    scale = _scale(span_s, left, width - MARGIN, len(drawn.names))
    tint = colours(functions)
    body = [
        axis(scale),
        _names(drawn, scale),
        _outlines(planned, drawn, scale) if planned else "",
        bars(drawn.bars, trace, scale, tint, notes or {}, is_bare=is_bare),
        mark(scale, trace.makespan_s, *(("end", "ink") if is_over else ("now", "running")), row=0),
        mark(scale, planned.makespan_s, word, "edge", row=1) if planned else "",
    ]
    below, end = _below(drawn, tint, scale, word if planned is not None else "")
    return Piece("".join([*body, below]), width, end + MARGIN - 6)


def functions_of(trace: Trace) -> list[str]:
    """The function of each step: its name without number and marks of a copy."""
    return [_NUMBER.sub("", name) for name in trace.names]


def length(trace: Trace, planned: Trace | None) -> float:
    """Seconds that the picture shows: of the workers' acts; one for a trace without any length."""
    last = max((span.end_s - trace.submitted_s for span in trace.spans if span.worker), default=0.0)
    return max(trace.makespan_s, last, planned.makespan_s if planned else 0.0) or 1.0


def gutter(trace: Trace) -> float:
    """Room for the names of the workers."""
    return min(130.0, max((text_width(worker) for worker in trace.workers), default=30.0) + 12)


def _scale(span_s: float, left: float, right: float, n_lanes: int) -> Scale:
    work, traffic, gap = (16.0, 4.0, 10.0) if n_lanes <= 30 else (8.0, 2.0, 3.0)
    top = MARGIN + 18
    return Scale(
        span_s=span_s,
        left=left,
        right=right,
        top=top,
        n_lanes=n_lanes,
        work=work,
        traffic=traffic,
        gap=gap,
    )


def _below(drawn: Lanes, tint: Mapping[str, str], scale: Scale, outlined: str) -> tuple[str, float]:
    """Legend and remarks below the lanes, and the y below them. outlined: what outlines, if any, are called."""
    y = scale.bottom + (44 if outlined else 31)
    below, end = legend(entries(drawn, tint, outlined), x=MARGIN, y=y, right=scale.right)
    if not drawn.n_hidden:
        return below, end
    remark = f"{counted(drawn.n_hidden, 'more worker')} not drawn"
    return below + words(MARGIN, end + 8, remark, look="small fill-dim"), end + LEGEND_ROW


def _names(drawn: Lanes, scale: Scale) -> str:
    """The worker left of its lane; of workers that share a lane, the first and how many more."""
    found = []
    small, rise = ("small", 0) if scale.work < 12 else ("", 4)
    for lane, workers in enumerate(drawn.names):
        text = workers[0] if len(workers) == 1 else f"{workers[0]} +{len(workers) - 1}"
        y = scale.y(lane) + scale.work - rise
        label = words(
            MARGIN, y, text, look=f"strong fill-ink {small}".strip(), room=scale.left - MARGIN - 6
        )
        more = f" and {len(workers) - _LISTED} more" if len(workers) > _LISTED else ""
        found.append(element("g", tooltip(", ".join(workers[:_LISTED]) + more), label))
    return "".join(found)


def bars(
    bars: Sequence[Bar],
    trace: Trace,
    scale: Scale,
    tint: Mapping[str, str],
    notes: Mapping[int, str],
    *,
    is_bare: bool,
) -> str:
    """All bars, grouped by their looks: an attribute is written once for thousands of bars."""
    groups: dict[str, list[str]] = defaultdict(list)
    for bar in bars:
        groups[bar.kind].append(_drawn(bar, trace, scale, notes, is_bare=is_bare))
    order = sorted(groups, key=lambda kind: (kind.startswith("run "), kind))
    drawn = [element("g", *groups[kind], data_kind=kind, **_paint(kind, tint)) for kind in order]
    return "".join(drawn) + _seams(bars, scale)


def _seams(bars: Sequence[Bar], scale: Scale) -> str:
    """A thin line between two wide bars of one colour that follow at once."""
    last: dict[tuple[int, str], Bar] = {}
    cuts = []
    for bar in sorted(
        (bar for bar in bars if bar.kind.startswith("run ")), key=lambda bar: bar.begin_s
    ):
        before = last.get((bar.lane, bar.kind))
        last[bar.lane, bar.kind] = bar
        if before is None or min(b.end_s - b.begin_s for b in (before, bar)) * scale.per_s < _WIDE:
            continue
        if (bar.begin_s - before.end_s) * scale.per_s < 1:
            cuts.append(
                f"M{number(scale.x(bar.begin_s))} {number(scale.y(bar.lane))}v{number(scale.work)}"
            )
    return element("path", d="".join(cuts), class_="stroke-bg") if cuts else ""


def _paint(kind: str, tint: Mapping[str, str]) -> dict[str, str]:
    if kind == "cold":
        return {"class_": "fill-cold stroke-running", "stroke_width": "0.7"}
    if kind == "warm":
        return {"class_": "fill-warm stroke-done", "stroke_width": "0.7"}
    if kind.startswith("run "):
        return {"fill": tint.get(kind[4:], PLAIN)}
    return {"fill": TRAFFIC_COLOURS.get(kind, PLAIN)}


def _drawn(bar: Bar, trace: Trace, scale: Scale, notes: Mapping[int, str], *, is_bare: bool) -> str:
    x, wide = scale.x(bar.begin_s), max((bar.end_s - bar.begin_s) * scale.per_s, 0.6)
    y, high = scale.y(bar.lane), scale.work
    if bar.is_traffic:
        y, high = y + scale.work + 1, scale.traffic
    path = _rectangle(x, y, wide, high) + (hatch(x, y, wide, high) if bar.kind == "cold" else "")
    task = _clicked(bar)
    if is_bare:
        says = task is None or bar.first.attempt > 1
        return element("path", d=path, data_task=task, data_say=_tip(bar, trace) if says else None)
    note = (
        [notes[task]] if task is not None and task in notes and bar.first.phase is Phase.RUN else []
    )
    return element("path", tooltip(_tip(bar, trace), *note), d=path, data_task=task)


def _clicked(bar: Bar) -> int | None:
    return bar.first.task if bar.n == 1 and bar.first.task >= 0 else None


def _rectangle(x: float, y: float, wide: float, high: float) -> str:
    return f"M{number(x)} {number(y)}h{number(wide)}v{number(high)}h-{number(wide)}z"


def hatch(x: float, y: float, wide: float, high: float) -> str:
    """Slanted lines inside a bar, clipped by arithmetic: a pattern needs an id, which several pictures would share."""
    lines = []
    for far in range(6, min(1_200, int(wide + high)), 6):
        a, b = max(0.0, far - high), min(wide, float(far))
        lines.append(
            f"M{number(x + a)} {number(y + far - a)}L{number(x + b)} {number(y + far - b)}"
        )
    return "".join(lines)


def _tip(bar: Bar, trace: Trace) -> str:
    if bar.n > 1:
        return f"{bar.n:,} x {bar.kind.removeprefix('run ')}: {seconds_text(bar.busy_s)} together"
    span = bar.first
    what = trace.names[span.task] if 0 <= span.task < len(trace.names) else span.worker
    kind = _SAID[bar.kind] if span.phase in STARTING else span.phase
    if span.phase in STARTING and span.phase is not Phase.INVOKE:
        kind = f"{kind}, {span.phase}"
    parts = [f"{what} {kind}: {seconds_text(bar.busy_s)}", f"from {seconds_text(bar.begin_s)}"]
    if span.n_bytes:
        parts.append(bytes_text(span.n_bytes))
    if span.attempt > 1:
        parts.append(f"attempt {span.attempt}")
    if span.detail and span.phase not in STARTING:
        parts.append(span.detail)
    return ", ".join(parts)


def _outlines(planned: Trace, drawn: Lanes, scale: Scale) -> str:
    """What was planned, as dotted outlines behind the bars of equally named workers."""
    lane_of = {worker: lane for lane, workers in enumerate(drawn.names) for worker in workers}
    parts = []
    for bar in lanes(planned, functions_of(planned), pixel_s=2 / scale.per_s).bars:
        if bar.kind.startswith("run ") and bar.first.worker in lane_of:
            y, wide = (
                scale.y(lane_of[bar.first.worker]) - 2,
                (bar.end_s - bar.begin_s) * scale.per_s,
            )
            parts.append(_rectangle(scale.x(bar.begin_s), y, wide, scale.work + 4))
    if not parts:
        return ""
    return element(
        "path", d="".join(parts), class_="planned stroke-dim", fill="none", stroke_dasharray="2 2"
    )


def entries(drawn: Lanes, tint: Mapping[str, str], outlined: str) -> list[LegendEntry]:
    """The legend. Kinds that occur: functions first, then what is not the user's; traffic as thin as its row."""
    kinds = {("load" if bar.kind == "dump" else bar.kind) for bar in drawn.bars}
    runs = sorted(kind[4:] for kind in kinds if kind.startswith("run "))
    found = [LegendEntry(mark=chip(tint.get(name, PLAIN)), words=name) for name in runs[:_LISTED]]
    if len(runs) > _LISTED:
        found.append(LegendEntry(mark=chip(PLAIN), words=f"{len(runs) - _LISTED:,} more functions"))
    for kind in (kind for kind in _SAID if kind in kinds):
        shape = "M0 4h10v4h-10z" if kind in TRAFFIC_COLOURS else _SQUARE
        shape += hatch(0, 0, 10, 10) if kind == "cold" else ""
        found.append(
            LegendEntry(
                mark=element("g", element("path", d=shape), **_paint(kind, tint)), words=_SAID[kind]
            )
        )
    if outlined:
        outline = element(
            "path", d=_SQUARE, class_="stroke-dim", fill="none", stroke_dasharray="2 2"
        )
        found.append(LegendEntry(mark=outline, words=outlined))
    return found
