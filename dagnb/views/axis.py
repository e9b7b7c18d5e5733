"""The time axis of a timeline: ticks at round moments, and the scale from seconds to pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dagnb.views.canvas import text_width, words
from dagnb.views.markup import element, number
from dagnb.views.wording import seconds_text

_STEPS_S = (15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 43200, 86400)
"""round distances of ticks, where powers of ten would give odd minutes or hours"""

_DAY_S = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Converts seconds and lane numbers to pixels.

    left, right: x of second 0 and of span_s. top: y of lane 0. work, traffic: heights of a lane's
    two rows. gap: height below them.
    """

    span_s: float
    left: float
    right: float
    top: float
    n_lanes: int
    work: float
    traffic: float
    gap: float

    @property
    def per_s(self) -> float:
        """Pixels a second."""
        # A trace of length 0 has everything at second 0, so any scale is right.
        return (self.right - self.left) / self.span_s if self.span_s > 0 else 1.0

    @property
    def bottom(self) -> float:
        """The y below the last lane."""
        return self.y(max(self.n_lanes, 1)) - self.gap

    def x(self, second: float) -> float:
        """The x of a moment."""
        return self.left + second * self.per_s

    def y(self, lane: int) -> float:
        """The y at which a lane begins."""
        return self.top + lane * (self.work + self.traffic + self.gap)


def ticks(span_s: float, n: int = 8) -> tuple[float, ...]:
    """About n round moments from 0 to span_s.

    They are 1, 2 or 5 of a power of ten apart, or a round number of minutes, hours or days.

    >>> ticks(3.2)
    (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
    """
    if not span_s > 0:
        return (0.0,)
    rough = span_s / n
    if rough <= 10:
        power = 10.0 ** math.floor(math.log10(rough))
        steps = [power * k for k in (1, 2, 5, 10)]
    else:
        steps = list(map(float, _STEPS_S))

    whole_days = math.ceil(rough / _DAY_S) * _DAY_S
    # A step may be a fifth shorter than wanted: a few more ticks read better than half as many.
    step = next((s for s in steps if s >= rough * 0.8), whole_days)
    n_steps = int(span_s / step + 1e-9)  # the summand: 0.3 / 0.1 is 2.9999999999999996
    return tuple(round(i * step, 9) for i in range(n_steps + 1))


def axis(scale: Scale, *, is_labelled: bool = True) -> str:
    """Draw a grid line for each tick, with its moment above.

    is_labelled: False below another picture whose axis says the same moments.
    """
    moments = ticks(scale.span_s)
    step = moments[1] if len(moments) > 1 else scale.span_s
    drawn = []
    for moment in moments:
        x = scale.x(moment)
        line = f"M{number(x)} {number(scale.top - 6)}V{number(scale.bottom + 4)}"
        drawn.append(element("path", d=line, class_="tick stroke-line", stroke_width=1))
        if not is_labelled:
            continue

        text = _moment(moment, step)
        # The last label ends at its line where half of it would stick out of the picture.
        sticks_out = x + text_width(text, 10.5) / 2 > scale.right + 12
        side = "end" if sticks_out else "mid"
        drawn.append(words(x, scale.top - 11, text, look=f"small fill-dim {side}"))
    return "".join(drawn)


def _moment(moment: float, step: float) -> str:
    """A moment in the unit of the step, so that all labels are short and alike."""
    if step < 1e-3:
        return f"{moment * 1e6:g} µs"
    if step < 0.1:
        return f"{moment * 1e3:g} ms"
    if step < 15:
        return f"{moment:g} s"
    return seconds_text(moment)


def mark(scale: Scale, moment: float, name: str, role: str, *, row: int) -> str:
    """Draw a dashed line at a moment, with its name and time below the lanes.

    role: role of the palette that gives the colour. row: line of text below the lanes, from 0;
    marks of different rows cannot overlap.
    """
    x = scale.x(moment)
    low = scale.bottom + 6 + 13 * row
    line = element(
        "path",
        d=f"M{number(x)} {number(scale.top - 6)}V{number(low)}",
        class_=f"mark stroke-{role}",
        stroke_width=1.2,
        stroke_dasharray="4 3",
    )
    text = f"{name} {seconds_text(moment)}"
    # The text is left of its line, because most marks are near the right end of the picture; right
    # of the line when there is no room on the left.
    if x - text_width(text, 10.5) > 8:
        return line + words(x - 4, low + 6, text, look="small fill-dim end")
    return line + words(x + 4, low + 6, text, look="small fill-dim")
