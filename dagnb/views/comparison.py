"""Planners side by side: a table, and the timelines of their plans on one time axis."""

from __future__ import annotations

from collections.abc import Sequence

from dagnb.forecast.compare import Comparison, PlannerResult
from dagnb.views.axis import Scale, axis, mark
from dagnb.views.canvas import LEGEND_ROW, MARGIN, Piece, legend, stacked, text_width, words
from dagnb.views.lanes import Bar, Lanes, lanes
from dagnb.views.layout import step_functions
from dagnb.views.markup import element, escaped
from dagnb.views.page import fragment, scrolled, table
from dagnb.views.palette import colours
from dagnb.views.timeline import bars, entries, length
from dagnb.views.wording import bytes_text, counted, held_text, listed, seconds_text

WIDTH = 900.0
_HEADS = (
    "planner",
    "P50",
    "P90",
    "cost",
    "cold starts",
    "through the store",
    "above lower bound",
    "planned in",
)
_NOTE = (
    "Half of the runs end by P50, 9 of 10 by P90. Cost: gigabytes held times seconds. "
    "In the timelines every task takes its median duration."
)
_MAX_BARS = 250
_MOST = 16
"""plans that are drawn at most"""

_LANE, _LANES_HIGH = 11.0, 150.0
"""pixels of a lane, and of all lanes of a plan, at most"""

_DASH = "-"

_UNKNOWN = 4
"""functions that never ran which are named"""


def comparison_html(comparison: Comparison) -> str:
    """The table and the picture, to be shown in a notebook or kept in a file."""
    best = comparison.best if not comparison.unknown else None
    rows = [_row(line, is_best=line is best) for line in comparison.lines]
    body = [element("h3", escaped(comparison.name))]
    if comparison.unknown:
        names = listed(comparison.unknown, _UNKNOWN)
        body.append(element("p", escaped(f"No forecast yet: {names} never ran")))
    body.append(table(_HEADS, rows, right=range(1, len(_HEADS))))
    for line in comparison.lines:
        if line.problem:
            reason = escaped(f"{line.planner}: {line.problem}")
            body.append(element("p", reason, class_="text-dim"))
    if picture := comparison_svg(comparison):
        body += [scrolled(picture), element("p", escaped(_NOTE), class_="text-dim")]
    return fragment(*body)


def comparison_svg(comparison: Comparison) -> str:
    """The simulated timelines of the plans, best first, on one time axis; '' without plans."""
    planned: list[PlannerResult] = []
    span_s = 0.0
    for line in comparison.lines:
        if line.plan_forecast is not None and line.is_known and len(planned) < _MOST:
            planned.append(line)
            span_s = max(span_s, length(line.plan_forecast.trace, None))
    if not planned:
        return ""

    pieces: list[Piece] = []
    bars_of_all: list[Bar] = []
    for line in planned:
        piece, drawn = _timeline(line, span_s, is_first=not pieces)
        pieces.append(piece)
        bars_of_all += drawn.bars
    pieces.append(_legend(bars_of_all))
    plans, shortest = counted(len(planned), "plan"), planned[0].planner
    label = f"{comparison.name}: {plans}, the shortest by {shortest}"
    return stacked(*pieces, label=label)


def _row(line: PlannerResult, *, is_best: bool) -> tuple[str, ...]:
    name = escaped(line.planner)
    planned = seconds_text(line.planning_s)
    # A planner that found no plan has dashes here, and its reason below the table.
    if line.forecast is None or line.outcome is None or not line.is_known:
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
    """Draw one small timeline, its planner above it.

    is_first: only the first timeline labels the time axis, which all of them share.
    """
    assert line.plan is not None
    assert line.plan_forecast is not None
    trace = line.plan_forecast.trace
    functions = step_functions(line.plan)
    room = WIDTH - 2 * MARGIN
    drawn = lanes(trace, functions, pixel_s=span_s / room, max_bars=_MAX_BARS)
    # Lanes become thinner, so that hundreds of workers need no more height than a dozen.
    pitch = min(_LANE, _LANES_HIGH / max(1, len(drawn.names)))
    top = 48.0 if is_first else 32.0  # room for the labels of the axis
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
    name_width = min(200.0, text_width(line.planner))
    body = [
        words(MARGIN, 20, line.planner, look="strong fill-ink", room=200),
        words(MARGIN + name_width + 14, 20, _facts(line), look="small fill-dim"),
        axis(scale, is_labelled=is_first),
        bars(
            drawn.bars,
            trace,
            scale,
            colours(functions),
            {},
            is_bare=False,
        ),
        mark(scale, trace.makespan_s, "end", "ink", row=0),
    ]
    return Piece("".join(body), WIDTH, scale.bottom + 18), drawn


def _facts(line: PlannerResult) -> str:
    assert line.plan_forecast is not None
    parts = [counted(len(line.plan_forecast.trace.workers), "worker")]
    if line.forecast is not None:
        parts.insert(0, f"P50 {seconds_text(line.forecast.p50_s)}")
    if line.outcome is not None:
        parts.append(counted(line.outcome.n_cold, "cold start"))
    return " · ".join(parts)


def _legend(bars: Sequence[Bar]) -> Piece:
    """One legend for all timelines."""
    tint = colours(bar.function for bar in bars if bar.is_run)
    shown = entries(Lanes(names=(), bars=tuple(bars), n_hidden=0), tint, "")
    body, end = legend(shown, x=MARGIN, y=14, right=WIDTH - MARGIN)
    return Piece(body, WIDTH, end + LEGEND_ROW / 2)
