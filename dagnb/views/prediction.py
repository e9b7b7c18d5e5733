"""The prediction of a function in one picture: its samples, and the curve through them.

A sample is one earlier call: the bytes that it read, and the seconds that it ran.

    ran |          .    _____       a dot a sample, the predicted median as a line,
        |    .  _.-'```             and a band in which 8 of 10 calls should lie
        | _.-' .
        +-------------------- bytes read
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from dagnb.forecast.function_forecast import FunctionForecast
from dagnb.views.axis import ticks
from dagnb.views.canvas import MARGIN, LegendEntry, Piece, legend, stacked, tooltip, words
from dagnb.views.markup import element, number
from dagnb.views.wording import bytes_text, counted, seconds_text

WIDTH = 620.0
_TOP, _HIGH = 76.0, 250.0
_LEFT = 76.0

_WIDE = 20.0
"""values that differ by more than this factor have a logarithmic axis"""

_MOST = 500
"""samples that are drawn, evenly chosen in the order they came"""

_DOT = "a2.5 2.5 0 1 0 5 0a2.5 2.5 0 1 0 -5 0z"

Curve = Sequence[tuple[int, float, float, float]]
"""(bytes, p10, p50, p90 seconds), ascending"""

Samples = Sequence[tuple[int, float]]
"""(bytes read, seconds) of each call"""


@dataclass(frozen=True, slots=True)
class _Axis:
    """Values to pixels, from the pixel of `low` to that of `high`."""

    low: float
    high: float
    begin: float
    end: float
    is_log: bool

    @classmethod
    def of(cls, values: Sequence[float], begin: float, end: float, floor: float) -> _Axis:
        """An axis for these values. floor: least value of a logarithmic one, which has no zero."""
        low, high = min(values), max(values)
        if high > _WIDE * max(low, floor):
            return cls(max(low, floor), high, begin, end, True)
        # Some room above the largest value; without any value above 0, any axis will do.
        return cls(0.0, high * 1.05 or 1.0, begin, end, False)

    def at(self, value: float) -> float:
        """The pixel of a value."""
        if self.is_log:
            share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.begin + share * (self.end - self.begin)

    def ticks(self) -> list[float]:
        """Round values: even ones, or powers of ten, with 2 and 5 between where these are few."""
        if not self.is_log:
            return list(ticks(self.high, 5))
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        each = max(1, (last - first) // 7)
        factors = [1]
        if last - first <= 2:
            factors = [1, 2, 5]
        values = []
        for power in range(first, last + 1, each):
            for factor in factors:
                value = factor * 10.0**power
                # The margins are for roundings of 10.0**power.
                if self.low * 0.999 <= value <= self.high * 1.001:
                    values.append(value)
        return values


def function_svg(outlook: FunctionForecast) -> str:
    """The samples of a function and what is predicted from them."""
    samples = [(point.n_bytes, point.run_s) for point in outlook.points]
    return prediction_svg(outlook.name, samples, outlook.curve, outlook.basis)


def prediction_svg(name: str, samples: Samples, curve: Curve, basis: str = "") -> str:
    """Draw samples as dots, the predicted median as a line, 8 of 10 calls as a band.

    basis: the evidence of the prediction, in words.
    """
    sizes, times = [], []
    for n_bytes, *seconds in (*samples, *curve):
        sizes.append(float(n_bytes))
        times += seconds
    x = _Axis.of(sizes or [1.0], _LEFT, WIDTH - MARGIN, 1.0)
    y = _Axis.of(times or [1.0], _TOP + _HIGH, _TOP, 1e-6)

    evidence = evidence_text(samples, curve, basis)
    room = WIDTH - 2 * MARGIN
    body = [
        words(MARGIN, MARGIN + 12, name, look="strong fill-ink", room=room),
        words(MARGIN, MARGIN + 29, evidence, look="small fill-dim", room=room),
        _grid(x, y),
        _band(x, y, curve),
        _dots(x, y, samples),
    ]
    bottom = _TOP + _HIGH + 36
    below, end = legend(_entries(samples, curve), x=MARGIN, y=bottom, right=WIDTH - MARGIN)
    return stacked(Piece("".join([*body, below]), WIDTH, end + 6), label=f"{name}: {evidence}")


def evidence_text(samples: Samples, curve: Curve, basis: str = "") -> str:
    """The basis of a prediction, and the share of the samples inside its band."""
    calls = counted(len(samples), "past call")
    if not samples or not curve:
        return basis or calls
    share = f"{100 * coverage(samples, curve):.0f} % of {calls} in the predicted range"
    return " · ".join(filter(None, (basis, share)))


def coverage(samples: Samples, curve: Curve) -> float:
    """The share of the samples between p10 and p90; both are linear between two sizes."""
    n_inside = 0
    for n_bytes, seconds in samples:
        low, high = _range(curve, n_bytes)
        n_inside += low <= seconds <= high
    return n_inside / len(samples)


def _range(curve: Curve, n_bytes: int) -> tuple[float, float]:
    """p10 and p90 for this size; beyond the ends of the curve, those of the nearest end."""
    after = bisect_right([n for n, *_ in curve], n_bytes)
    if after in (0, len(curve)):
        _, low, _, high = curve[min(after, len(curve) - 1)]
        return low, high
    (n, low, _, high), (m, low_after, _, high_after) = curve[after - 1], curve[after]
    share = (n_bytes - n) / (m - n)
    return low + share * (low_after - low), high + share * (high_after - high)


def _grid(x: _Axis, y: _Axis) -> str:
    """Draw lines at round values with their words, and the names of the axes."""
    drawn = []
    for value in x.ticks():
        pixel = x.at(value)
        line = f"M{number(pixel)} {number(y.end)}V{number(y.begin)}"
        drawn.append(element("path", d=line, class_="stroke-line"))
        text = bytes_text(round(value))
        drawn.append(words(pixel, y.begin + 15, text, look="small fill-dim mid"))
    for value in y.ticks():
        pixel = y.at(value)
        line = f"M{number(x.begin)} {number(pixel)}H{number(x.end)}"
        drawn.append(element("path", d=line, class_="stroke-line"))
        text = seconds_text(value)
        drawn.append(words(x.begin - 6, pixel + 4, text, look="small fill-dim end"))
    drawn.append(words(x.end, y.begin + 30, "bytes read", look="small fill-dim end"))
    drawn.append(words(MARGIN, y.end - 8, "duration", look="small fill-dim"))
    return "".join(drawn)


def _band(x: _Axis, y: _Axis, curve: Curve) -> str:
    if not curve:
        return ""
    low, middle, high = [], [], []
    for n_bytes, p10, p50, p90 in curve:
        pixel = number(x.at(n_bytes))
        low.append(f"{pixel} {number(y.at(p10))}")
        middle.append(f"{pixel} {number(y.at(p50))}")
        high.append(f"{pixel} {number(y.at(p90))}")
    # Forth along the lower edge, back along the upper one.
    band = element("path", d=f"M{'L'.join([*low, *reversed(high)])}z", class_="band fill-cold")
    line, look = f"M{'L'.join(middle)}", "median stroke-running"
    return band + element(
        "path",
        d=line,
        class_=look,
        fill="none",
        stroke_width=2,
    )


def _dots(x: _Axis, y: _Axis, samples: Samples) -> str:
    if not samples:
        return ""
    each = max(1, math.ceil(len(samples) / _MOST))
    drawn = []
    for n_bytes, seconds in samples[::each]:
        tip = tooltip(f"{bytes_text(n_bytes)}: {seconds_text(seconds)}")
        begin = f"M{number(x.at(n_bytes) - 2.5)} {number(y.at(seconds))}"
        drawn.append(element("path", tip, d=f"{begin}{_DOT}"))
    return element("g", *drawn, class_="dots fill-ink", fill_opacity=0.55)


def _entries(samples: Samples, curve: Curve) -> list[LegendEntry]:
    entries = []
    if samples:
        dot = element("path", d=f"M2.5 5{_DOT}", class_="fill-ink", fill_opacity=0.55)
        entries.append(LegendEntry(mark=dot, words="past call"))
    if curve:
        line = element(
            "path",
            d="M0 5H11",
            class_="stroke-running",
            fill="none",
            stroke_width=2,
        )
        band = element("path", d="M0 0h10v10h-10z", class_="fill-cold")
        entries.append(LegendEntry(mark=line, words="predicted median"))
        entries.append(LegendEntry(mark=band, words="8 of 10 calls"))
    return entries
