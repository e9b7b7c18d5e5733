"""Planners side by side: a table, and the timelines of their plans on one time axis."""

from __future__ import annotations

from collections.abc import Sequence

from dagnb.forecast.compare import Comparison, PlannerResult
from dagnb.views.axis import Scale, axis, mark
from dagnb.views.canvas import LEGEND_ROW, MARGIN, Piece, legend, stacked, text_width, words
from dagnb.views.lanes import Bar, Lanes, lanes
from dagnb.views.markup import element, escaped
from dagnb.views.page import fragment, scrolled, table
from dagnb.views.palette import colours
from dagnb.views.timeline import bars, entries, length
from dagnb.views.wording import bytes_text, counted, held_text, seconds_text

WIDTH = 900.0
_HEADS = (
    "planner",
    "P50",
    "P90",
    "cost",
    "cold starts",
    "through the store",
    "above the bound",
    "planned in",
)
_MAX_BARS = 250
_MOST = 16
"""so many plans are drawn"""

_LANE, _LANES_HIGH = 11.0, 150.0
_DASH = "-"


def comparison_html(comparison: Comparison) -> str:
    """The table and the picture, to be shown in a notebook or kept in a file."""
    title = element("h3", escaped(comparison.name))
    rows = [_row(line, is_best=line is comparison.best) for line in comparison.lines]
    failed = [
        element("p", escaped(f"{x.planner}: {x.problem}"), class_="text-dim")
        for x in comparison.lines
        if x.problem
    ]
    picture = comparison_svg(comparison)
    note = (
        "Half of the runs end by P50, 9 of 10 by P90. Cost: gigabytes held times seconds. "
        "Timelines at median prices."
    )
    drawn = [scrolled(picture), element("p", escaped(note), class_="text-dim")] if picture else []
    return fragment(title, table(_HEADS, rows, right=range(1, len(_HEADS))), *failed, *drawn)


def comparison_svg(comparison: Comparison) -> str:
    """The simulated timelines of the plans, best first, on one time axis; nothing if no plan was made."""
    found = [
        line
        for line in comparison.lines
        if line.plan is not None and line.plan_forecast is not None
    ][:_MOST]
    if not found:
        return ""
    span_s = max(
        length(line.plan_forecast.trace, None) for line in found if line.plan_forecast is not None
    )
    pieces: list[Piece] = []
    drawn: list[Lanes] = []
    for line in found:
        piece, lane = _timeline(line, span_s, is_first=not pieces)
        pieces.append(piece)
        drawn.append(lane)
    pieces.append(_legend(drawn))
    label = f"{comparison.name}: {counted(len(found), 'plan')}, the shortest by {found[0].planner}"
    return stacked(*pieces, label=label)


def _row(line: PlannerResult, *, is_best: bool) -> tuple[str, ...]:
    name = escaped(line.planner)
    planned = seconds_text(line.planning_s)
    if line.forecast is None or line.outcome is None:
        return (name, *[_DASH] * (len(_HEADS) - 2), planned)
    return (
        element("b", f"{name}, shortest") if is_best else name,
        seconds_text(line.forecast.p50_s),
        seconds_text(line.forecast.p90_s),
        held_text(line.outcome.gb_s),
        f"{line.outcome.n_cold:,}",
        bytes_text(line.moved_bytes),
        f"{100 * line.gap:.0f} %",
        planned,
    )


def _timeline(line: PlannerResult, span_s: float, *, is_first: bool) -> tuple[Piece, Lanes]:
    """One small timeline, its planner above it; the moments are written above the first alone."""
    assert line.plan is not None
    assert line.plan_forecast is not None
    trace = line.plan_forecast.trace
    functions = [line.plan.dag.calls[step.task].function for step in line.plan.steps]
    room = WIDTH - 2 * MARGIN
    drawn = lanes(trace, functions, pixel_s=span_s / room, max_bars=_MAX_BARS)
    pitch = min(_LANE, _LANES_HIGH / max(1, len(drawn.names)))
    top = 48.0 if is_first else 32.0
    scale = Scale(
        span_s=span_s,
        left=MARGIN,
        right=WIDTH - MARGIN,
        top=top,
        n_lanes=len(drawn.names),
        work=0.7 * pitch,
        traffic=0.15 * pitch,
        gap=0.15 * pitch,
    )
    body = [
        words(MARGIN, 20, line.planner, look="strong fill-ink", room=200),
        words(
            MARGIN + min(200.0, text_width(line.planner)) + 14,
            20,
            _said(line),
            look="small fill-dim",
        ),
        axis(scale, is_labelled=is_first),
        bars(drawn.bars, trace, scale, colours(functions), {}, is_bare=False),
        mark(scale, trace.makespan_s, "end", "ink", row=0),
    ]
    return Piece("".join(body), WIDTH, scale.bottom + 18), drawn


def _said(line: PlannerResult) -> str:
    assert line.plan_forecast is not None
    n_workers = counted(len(line.plan_forecast.trace.workers), "worker")
    median = f"P50 {seconds_text(line.forecast.p50_s)} · " if line.forecast is not None else ""
    starts = f" · {counted(line.outcome.n_cold, 'cold start')}" if line.outcome is not None else ""
    return f"{median}{n_workers}{starts}"


def _legend(drawn: Sequence[Lanes]) -> Piece:
    """Of all timelines together."""
    together: list[Bar] = [bar for lane in drawn for bar in lane.bars]
    names = sorted({bar.kind[4:] for bar in together if bar.kind.startswith("run ")})
    found = entries(Lanes(names=(), bars=tuple(together), n_hidden=0), colours(names), "")
    body, end = legend(found, x=MARGIN, y=14, right=WIDTH - MARGIN)
    return Piece(body, WIDTH, end + LEGEND_ROW / 2)
