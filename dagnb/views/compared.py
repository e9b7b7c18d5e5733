"""Planned and real run in one picture: outlines behind bars, delays of tasks, and their causes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dagnb.forecast.makespans import DelayCause, Makespans
from dagnb.trace.critical import explained, windows
from dagnb.trace.trace import Trace
from dagnb.views.canvas import MARGIN, SMALL, Piece, stacked, tooltip, words, wrapped
from dagnb.views.explained import explained_bar
from dagnb.views.markup import element, number
from dagnb.views.timeline import gutter, length, timeline
from dagnb.views.wording import counted, difference_text, seconds_text, window_text

WIDTH = 900.0
_ROOM = WIDTH - 2 * MARGIN
_MAX_BARS = 1_500

_HIGH = 34.0
"""pixels of the longest stem in the chart of delays, up or down"""

_MIDDLE = 28.0 + _HIGH
"""y of the line of tasks that are on time"""


def makespans_svg(makespans: Makespans) -> str:
    """A finished run beside its plan; beside its replay where there is no predicted plan.

    Returns '' for makespans that were read back: they hold no trace.
    """
    real, planned, word = makespans.real, makespans.planned, "planned"
    if planned is None:
        planned, word = makespans.replayed, "replay"
    if real is None or planned is None:
        return ""
    return compared_svg(
        planned,
        real,
        makespans.upstream,
        makespans.sinks,
        functions=makespans.functions,
        lines=makespans_lines(makespans),
        title=_title(makespans),
        word=word,
    )


def compared_svg(
    planned: Trace,
    real: Trace,
    upstream: Sequence[Sequence[int]] = (),
    sinks: Sequence[int] = (),
    *,
    functions: Sequence[str] | None = None,
    lines: Sequence[str] = (),
    title: str = "",
    word: str = "planned",
) -> str:
    """The timeline of the real run over outlines of the planned one, above a chart of delays.

    upstream, sinks: of the steps; with them both makespans are explained. lines: below the title.
    word: name of the planned run.
    """
    if not title:
        title = f"{word} {seconds_text(planned.makespan_s)}, real {seconds_text(real.makespan_s)}"
    pieces = [_head(title, lines)]
    if upstream:
        span_s = max(planned.makespan_s, real.makespan_s) or 1.0
        for name, trace in ((word, planned), ("real", real)):
            # Bars of both on one scale: the shorter run has the shorter bar.
            width = 2 * MARGIN + _ROOM * trace.makespan_s / span_s
            segments = explained(upstream, sinks, trace)
            heading = f"{name}, {seconds_text(trace.makespan_s)}: where the time goes"
            pieces.append(explained_bar(segments, width=width, room=WIDTH, title=heading))

    late = delays(planned, real)
    notes = {task: _late_text(seconds, word) for task, (_, seconds) in late.items()}
    bars = timeline(
        real,
        functions,
        width=WIDTH,
        planned=planned,
        word=word,
        notes=notes,
        max_bars=_MAX_BARS,
    )
    pieces += [bars, _delay_chart(late, planned, real, word)]
    return stacked(*pieces, label=f"{title}, {counted(len(real.workers), 'worker')}")


def _title(makespans: Makespans) -> str:
    title = f"replay {seconds_text(makespans.replay_s)}, real {seconds_text(makespans.real_s)}"
    if makespans.plan_s is None:
        return title
    return f"plan {seconds_text(makespans.plan_s)}, {title}"


def makespans_lines(makespans: Makespans) -> list[str]:
    """The difference between plan and run: durations, scheduling, the largest causes."""
    lines = [_difference_line(makespans)]
    forecast = makespans.forecast
    if forecast is not None:
        side = "Inside" if makespans.in_band else "Outside"
        lines.append(f"{side} the forecast of {window_text(forecast.p10_s, forecast.p90_s)}")
    if makespans.causes:
        lines.append(f"Largest causes: {', '.join(map(_cause, makespans.causes))}")
    return lines


def _difference_line(makespans: Makespans) -> str:
    """The delay of the run as a sum: (replay - plan) + (real - replay).

    The first part is due to wrong predictions of durations, the second to the simulator.
    """
    scheduling = f"scheduling {difference_text(makespans.model_s)}"
    if makespans.prediction_s is None:
        return f"Run against its replay: {scheduling}"
    late_s = makespans.prediction_s + makespans.model_s
    if round(late_s, 4) == 0:
        return f"As predicted ({scheduling})"
    side = "late" if late_s > 0 else "early"
    tasks = f"task durations {difference_text(makespans.prediction_s)}"
    return f"{seconds_text(abs(late_s))} {side}: {tasks}, {scheduling}"


def delays(planned: Trace, real: Trace) -> dict[int, tuple[float, float]]:
    """The delay of each step.

    Returns step -> (its real end, seconds after submission; seconds later than planned, negative if
    sooner).
    """
    planned_windows = windows(planned)
    late = {}
    for step, window in windows(real).items():
        if step in planned_windows:
            late[step] = (window.end_s, window.end_s - planned_windows[step].end_s)
    return late


def _head(title: str, lines: Sequence[str]) -> Piece:
    drawn = [words(MARGIN, MARGIN + 12, title, look="strong fill-ink")]
    n_rows = 0
    for line in lines:
        for row in wrapped(line, _ROOM, SMALL):
            y = MARGIN + 29 + 16 * n_rows
            shown = words(MARGIN, y, row, look="small fill-dim", room=_ROOM)
            drawn.append(element("g", tooltip(line), shown))
            n_rows += 1
    return Piece("".join(drawn), WIDTH, MARGIN + 24 + 16 * n_rows)


def _delay_chart(
    late: Mapping[int, tuple[float, float]], planned: Trace, real: Trace, word: str
) -> Piece:
    """Draw a stem for each task at its end: up if it was later than planned, down if sooner."""
    if not late:
        return Piece("", WIDTH, 0.0)
    left, span_s = MARGIN + gutter(real), length(real, planned)
    # Only the longest stem of each pixel: a reader cannot tell more apart, and there may be
    # thousands.
    longest: dict[int, int] = {}
    for task, (end_s, seconds) in late.items():
        x = round(left + (WIDTH - MARGIN - left) * end_s / span_s)
        if x not in longest or abs(seconds) > abs(late[longest[x]][1]):
            longest[x] = task

    most = max(abs(seconds) for _, seconds in late.values()) or 1.0
    against = "the plan" if word == "planned" else f"the {word}"
    title = f"Delay of each task against {against}, at most {seconds_text(most)}"
    drawn = [words(MARGIN, 14, title, look="strong fill-ink")]
    for x, task in sorted(longest.items()):
        seconds = late[task][1]
        tip = f"{real.names[task]} {_late_text(seconds, word)}"
        drawn.append(_stem(x, seconds / most, tip))
    line = f"M{number(left)} {number(_MIDDLE)}H{number(WIDTH - MARGIN)}"
    drawn.append(element("path", d=line, class_="stroke-edge"))
    return Piece("".join(drawn), WIDTH, _MIDDLE + _HIGH + MARGIN)


def _stem(x: float, share: float, tip: str) -> str:
    """Draw one stem. share: of the full height, negative downwards. A task on time keeps a mark."""
    high = share * _HIGH if abs(share * _HIGH) >= 1 else 1.0
    return element(
        "path",
        tooltip(tip),
        d=f"M{number(x)} {number(_MIDDLE)}v{number(-high)}",
        class_="stroke-failed" if share > 0 else "stroke-done",
        stroke_width=2,
    )


def _late_text(seconds: float, word: str) -> str:
    """The delay of a task, in words."""
    if round(seconds, 4) == 0:
        return f"as {word}"
    side = "later" if seconds > 0 else "sooner"
    return f"{seconds_text(abs(seconds))} {side} than {word}"


def _cause(cause: DelayCause) -> str:
    return f"{difference_text(cause.seconds)} {cause.phase} of {cause.task or 'workers'}"
