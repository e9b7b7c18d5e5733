"""The makespan explained: a bar with a part for each reason, from the critical path."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from dagnb.trace.critical import Reason, Segment, shares
from dagnb.views.canvas import MARGIN, LegendEntry, Piece, legend, tooltip, words
from dagnb.views.markup import element
from dagnb.views.palette import PLAIN
from dagnb.views.timeline import TRAFFIC_COLOURS, hatch, rectangle
from dagnb.views.wording import seconds_text

_HIGH = 16.0
_PAINT = {
    Reason.RUN: {"fill": "#2f6fd0"},
    Reason.INPUT: {"fill": TRAFFIC_COLOURS["fetch"]},
    Reason.UPLOAD: {"fill": TRAFFIC_COLOURS["store"]},
    Reason.HANDOVER: {"fill": TRAFFIC_COLOURS["commit"]},
    Reason.WORKER: {"fill": PLAIN},
    Reason.START: {"class_": "fill-cold stroke-running", "stroke_width": "0.7"},
    Reason.FAILED: {"class_": "fill-lost stroke-failed", "stroke_width": "0.7"},
    Reason.BACK_OFF: {"class_": "fill-bg stroke-retrying", "stroke_width": "0.7"},
    Reason.OTHER: {"class_": "fill-bg stroke-dim", "stroke_width": "0.7"},
}
# Like cold starts and failed attempts in the timeline.
_HATCHED = (Reason.START, Reason.FAILED)
NAMES = {
    Reason.RUN: "computing",
    Reason.INPUT: "reading inputs",
    Reason.WORKER: "waiting for a busy worker",
    Reason.START: "starting workers",
    Reason.UPLOAD: "storing results",
    Reason.HANDOVER: "handing over",
    Reason.FAILED: "failed attempts",
    Reason.BACK_OFF: "waiting to try again",
    Reason.OTHER: "other",
}
"""reason -> its words"""
_MEANINGS = {
    Reason.RUN: "your functions ran",
    Reason.INPUT: "values were fetched and unpickled",
    Reason.WORKER: "tasks were ready, but their workers busy with others: more workers may help",
    Reason.START: "workers started, and imported the modules that functions need",
    Reason.UPLOAD: "results were pickled and stored",
    Reason.HANDOVER: "tasks were marked done and the next handed over",
    Reason.FAILED: "attempts ran that raised, or whose worker died",
    Reason.BACK_OFF: "tasks waited after a failed attempt, before the next one",
    Reason.OTHER: "the cause is unknown",
}


def explained_bar(
    segments: Iterable[Segment],
    *,
    width: float,
    room: float = 0.0,
    title: str = "makespan explained",
) -> Piece:
    """Draw the bar with its title above and its legend below. Without segments, it is empty.

    width: pixels of the bar and the margins beside it. room: pixels that title and legend may take;
    0 means the same width.
    """
    segments = tuple(segments)
    parts = shares(segments)
    if not parts:
        return Piece("", width, 0.0)
    whole_s = sum(segment.duration_s for segment in segments)
    room = max(width, room)
    x, y = MARGIN, 22.0
    drawn = [words(MARGIN, 14, title, look="strong fill-ink")]
    entries = []
    for reason, share in parts.items():
        wide = (width - 2 * MARGIN) * share
        text = share_text(reason, share)
        tip = tooltip(f"{text}: {seconds_text(share * whole_s)}", _MEANINGS[reason])
        # Half a pixel at least: every entry of the legend has a part in the bar.
        shape = _shape(reason, x, y, max(wide, 0.5), _HIGH)
        drawn.append(
            element(
                "path",
                tip,
                d=shape,
                data_reason=reason.value,
                **_PAINT[reason],
            )
        )
        swatch = element("path", d=_shape(reason, 0, 0, 10, 10), **_PAINT[reason])
        entries.append(LegendEntry(mark=swatch, words=text))
        x += wide
    below, end = legend(entries, x=MARGIN, y=y + _HIGH + 10, right=room - MARGIN)
    return Piece("".join([*drawn, below]), room, end + 6)


def _shape(reason: Reason, x: float, y: float, wide: float, high: float) -> str:
    shape = rectangle(x, y, wide, high)
    if reason in _HATCHED:
        shape += hatch(x, y, wide, high)
    return shape


def explained_text(segments: Sequence[Segment]) -> str:
    """The parts in words, the largest first: "61 % computing, 18 % reading inputs"."""
    return ", ".join(itertools.starmap(share_text, shares(segments).items()))


def share_text(reason: Reason, share: float) -> str:
    """One part in words.

    >>> share_text(Reason.RUN, 0.614), share_text(Reason.OTHER, 0.001)
    ('61 % computing', '<1 % other')
    """
    percent = f"{100 * share:.0f}" if share >= 0.01 else "<1"
    return f"{percent} % {NAMES[reason]}"
