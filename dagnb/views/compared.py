"""Planned and real on one picture: outlines behind bars, how much later each task ended, what made the difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dagnb.forecast.makespans import DelayCause, Makespans
from dagnb.trace.critical import explained, windows
from dagnb.trace.trace import Trace
from dagnb.views.canvas import MARGIN, Piece, stacked, tooltip, words, wrapped
from dagnb.views.explained import explained_bar
from dagnb.views.markup import element, number
from dagnb.views.timeline import gutter, length, timeline
from dagnb.views.wording import counted, seconds_text

WIDTH = 900.0
_ROOM = WIDTH - 2 * MARGIN
_MAX_BARS = 1_500
_HIGH = 34.0
_MIDDLE = 28.0 + _HIGH


def makespans_svg(makespans: Makespans) -> str:
    """A finished run beside what was planned; beside its replay where nothing is known of the plan.

    Nothing for makespans that were only read back: they hold no trace.
    """
    real, planned = makespans.real, makespans.planned or makespans.replayed
    if real is None or planned is None:
        return ""
    return compared_svg(
        planned,
        real,
        makespans.upstream,
        makespans.sinks,
        functions=makespans.functions,
        said=makespans_lines(makespans),
        title=_title(makespans),
        word="planned" if makespans.planned is not None else "replay",
    )


def compared_svg(
    planned: Trace,
    real: Trace,
    upstream: Sequence[Sequence[int]] = (),
    sinks: Sequence[int] = (),
    *,
    functions: Sequence[str] | None = None,
    said: Sequence[str] = (),
    title: str = "",
    word: str = "planned",
) -> str:
    """The timeline of the real run over outlines of the planned one, and how much later each task ended below it.

    upstream, sinks: of the steps; with them both makespans are explained. said: lines below the title. word: what the
    planned one is called.
    """
    span_s = max(planned.makespan_s, real.makespan_s) or 1.0
    title = (
        title or f"{word} {seconds_text(planned.makespan_s)}, real {seconds_text(real.makespan_s)}"
    )
    late = slips(planned, real)
    pieces = [_head(title, said)]
    for name, trace in ((word, planned), ("real", real)) if upstream else ():
        width = 2 * MARGIN + (WIDTH - 2 * MARGIN) * trace.makespan_s / span_s
        said_of = f"{name}: where {seconds_text(trace.makespan_s)} go"
        pieces.append(
            explained_bar(explained(upstream, sinks, trace), width=width, room=WIDTH, title=said_of)
        )
    notes = {task: _late_text(seconds, word) for task, (_, seconds) in late.items()}
    bars = timeline(
        real, functions, width=WIDTH, planned=planned, word=word, notes=notes, max_bars=_MAX_BARS
    )
    pieces += [bars, _slip_chart(late, planned, real, word)]
    return stacked(*pieces, label=f"{title}, {counted(len(real.workers), 'worker')}")


def _title(makespans: Makespans) -> str:
    plan = f"plan {seconds_text(makespans.plan_s)}, " if makespans.plan_s is not None else ""
    return f"{plan}replay {seconds_text(makespans.replay_s)}, real {seconds_text(makespans.real_s)}"


def makespans_lines(makespans: Makespans) -> list[str]:
    """What the difference is made of: prediction, model, and the largest causes."""
    lines = [f"model {_signed(makespans.model_s)} (real - replay)"]
    if makespans.prediction_s is not None:
        lines = [f"predictions {_signed(makespans.prediction_s)} (replay - plan) · {lines[0]}"]
    if makespans.forecast is not None:
        band = (
            f"{seconds_text(makespans.forecast.p10_s)} to {seconds_text(makespans.forecast.p90_s)}"
        )
        lines.append(
            f"{'inside' if makespans.in_band else 'outside'} the band that was foretold for 8 of 10 runs, {band}"
        )
    if makespans.causes:
        lines.append(f"largest causes: {', '.join(map(_cause, makespans.causes))}")
    return lines


def slips(planned: Trace, real: Trace) -> dict[int, tuple[float, float]]:
    """step -> when it really ended, seconds after submission, and how much later than planned; below 0 sooner."""
    then = windows(planned)
    return {
        step: (window.end_s, window.end_s - then[step].end_s)
        for step, window in windows(real).items()
        if step in then
    }


def _head(title: str, said: Sequence[str]) -> Piece:
    drawn = [words(MARGIN, MARGIN + 12, title, look="strong fill-ink")]
    rows = [(row, line) for line in said for row in wrapped(line, _ROOM, 10.5)]
    for i, (row, line) in enumerate(rows):
        shown = words(MARGIN, MARGIN + 29 + 16 * i, row, look="small fill-dim", room=_ROOM)
        drawn.append(element("g", tooltip(line), shown))
    return Piece("".join(drawn), WIDTH, MARGIN + 24 + 16 * len(rows))


def _slip_chart(
    late: Mapping[int, tuple[float, float]], planned: Trace, real: Trace, word: str
) -> Piece:
    """A stem a task at its end: up how much later than planned, down how much sooner; a pixel shows its largest."""
    if not late:
        return Piece("", WIDTH, 0.0)
    most = max(abs(seconds) for _, seconds in late.values()) or 1.0
    left, span_s = MARGIN + gutter(real), length(real, planned)
    tallest: dict[int, int] = {}
    for task, (at, seconds) in late.items():
        x = round(left + (WIDTH - MARGIN - left) * at / span_s)
        if x not in tallest or abs(seconds) > abs(late[tallest[x]][1]):
            tallest[x] = task
    title = (
        f"how much later than {word} each task ended: a stem a task, {seconds_text(most)} at most"
    )
    line = f"M{number(left)} {number(_MIDDLE)}H{number(WIDTH - MARGIN)}"
    drawn = [words(MARGIN, 14, title, look="strong fill-ink")]
    for x, task in sorted(tallest.items()):
        drawn.append(
            _stem(x, late[task][1] / most, f"{real.names[task]} {_late_text(late[task][1], word)}")
        )
    drawn.append(element("path", d=line, class_="stroke-edge"))
    return Piece("".join(drawn), WIDTH, _MIDDLE + _HIGH + MARGIN)


def _stem(x: float, share: float, said: str) -> str:
    """share: of the full height, below 0 downwards. What is on time keeps a mark."""
    high = share * _HIGH if abs(share * _HIGH) >= 1 else 1.0
    look = "stroke-failed" if share > 0 else "stroke-done"
    return element(
        "path",
        tooltip(said),
        d=f"M{number(x)} {number(_MIDDLE)}v{number(-high)}",
        class_=look,
        stroke_width=2,
    )


def _late_text(seconds: float, word: str) -> str:
    """How much later than planned, in words."""
    if round(seconds, 4) == 0:
        return f"as {word}"
    return f"{seconds_text(abs(seconds))} {'later' if seconds > 0 else 'sooner'} than {word}"


def _signed(seconds: float) -> str:
    """A difference.

    >>> _signed(0.25), _signed(-1.5)
    ('+250 ms', '-1.5 s')
    """
    return f"{'+' if seconds >= 0 else ''}{seconds_text(seconds)}"


def _cause(cause: DelayCause) -> str:
    return f"{_signed(cause.seconds)} {cause.phase} of {cause.task or 'workers'}"
