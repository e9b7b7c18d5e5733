"""The makespan explained: one bar, a part for each reason, from the segments of the critical path."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dagnb.trace.critical import Reason, Segment, shares
from dagnb.views.canvas import MARGIN, LegendEntry, Piece, legend, tooltip, words
from dagnb.views.markup import element, number
from dagnb.views.palette import PLAIN
from dagnb.views.timeline import TRAFFIC_COLOURS, hatch
from dagnb.views.wording import seconds_text

_HIGH = 16.0
_PAINT = {
    Reason.RUN: {"fill": "#2f6fd0"},
    Reason.INPUT: {"fill": TRAFFIC_COLOURS["fetch"]},
    Reason.UPLOAD: {"fill": TRAFFIC_COLOURS["store"]},
    Reason.HANDOVER: {"fill": TRAFFIC_COLOURS["commit"]},
    Reason.WORKER: {"fill": PLAIN},
    Reason.START: {"class_": "fill-cold stroke-running", "stroke_width": "0.7"},
    Reason.OTHER: {"class_": "fill-bg stroke-dim", "stroke_width": "0.7"},
}
_MEANING = {
    Reason.RUN: "your functions ran",
    Reason.INPUT: "values were fetched and unpickled",
    Reason.WORKER: "tasks were ready, but their workers busy with others: more workers may help",
    Reason.START: "workers started",
    Reason.UPLOAD: "results were pickled and stored",
    Reason.HANDOVER: "tasks were marked done and the next handed over",
    Reason.OTHER: "pauses after failed attempts, or nobody knows",
}


def explained_bar(
    segments: Iterable[Segment],
    *,
    width: float,
    room: float = 0.0,
    title: str = "makespan explained",
) -> Piece:
    """The bar with its title above and its legend below; nothing where there is nothing to cut.

    width: pixels of the bar and the margins beside it; room: of title and legend, if they may take more.
    """
    found = tuple(segments)
    parts = shares(found)
    if not parts:
        return Piece("", width, 0.0)
    whole_s = sum(segment.duration_s for segment in found)
    x, y, room = MARGIN, 22.0, max(width, room)
    drawn = [words(MARGIN, 14, title, look="strong fill-ink")]
    for reason, share in parts.items():
        wide = max((width - 2 * MARGIN) * share, 0.5)
        shape = f"M{number(x)} {number(y)}h{number(wide)}v{number(_HIGH)}h-{number(wide)}z"
        shape += hatch(x, y, wide, _HIGH) if reason is Reason.START else ""
        told = tooltip(
            f"{share_text(reason, share)}: {seconds_text(share * whole_s)}", _MEANING[reason]
        )
        drawn.append(element("path", told, d=shape, data_reason=reason.value, **_PAINT[reason]))
        x += (width - 2 * MARGIN) * share
    entries = [
        LegendEntry(mark=_mark(reason), words=share_text(reason, share))
        for reason, share in parts.items()
    ]
    below, end = legend(entries, x=MARGIN, y=y + _HIGH + 10, right=room - MARGIN)
    return Piece("".join([*drawn, below]), room, end + 6)


def explained_text(segments: Sequence[Segment]) -> str:
    """The parts in words, the largest first: "61 % run, 18 % input, 9 % start-up"."""
    return ", ".join(share_text(reason, share) for reason, share in shares(segments).items())


def share_text(reason: Reason, share: float) -> str:
    """One part in words.

    >>> share_text(Reason.RUN, 0.614), share_text(Reason.OTHER, 0.001)
    ('61 % run', '<1 % other')
    """
    return f"{100 * share:.0f} % {reason}" if share >= 0.01 else f"<1 % {reason}"


def _mark(reason: Reason) -> str:
    shape = "M0 0h10v10h-10z" + (hatch(0, 0, 10, 10) if reason is Reason.START else "")
    return element("path", d=shape, **_PAINT[reason])
