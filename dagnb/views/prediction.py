"""What a function is predicted from: its samples, how long each ran by what it read, and the curve through them."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from dagnb.forecast.function_forecast import FunctionForecast
from dagnb.views.axis import ticks
from dagnb.views.canvas import MARGIN, LegendEntry, Piece, legend, stacked, tooltip
from dagnb.views.canvas import words as line_of_words
from dagnb.views.markup import element, number
from dagnb.views.wording import bytes_text, counted, seconds_text

WIDTH = 620.0
_TOP, _HIGH = 76.0, 250.0
_LEFT = 76.0
_WIDE = 20.0
"""values that differ by more than this factor have a logarithmic axis"""
_MOST = 500
"""so many samples are drawn, evenly chosen in the order they came"""

Curve = Sequence[tuple[int, float, float, float]]
"""(bytes, p10, p50, p90 seconds), ascending"""


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
        """For these values. floor: on a logarithmic axis nothing is smaller."""
        low, high = min(values), max(values)
        if high > _WIDE * max(low, floor):
            return cls(max(low, floor), high, begin, end, True)
        return cls(0.0, high * 1.05 or 1.0, begin, end, False)

    def at(self, value: float) -> float:
        """Its pixel."""
        if not self.is_log:
            share = (value - self.low) / (self.high - self.low)
        else:
            share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        return self.begin + share * (self.end - self.begin)

    def ticks(self) -> list[float]:
        """Round values: even ones, or powers of ten, with 2 and 5 between where these are few."""
        if not self.is_log:
            return list(ticks(self.high, 5))
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        each = max(1, (last - first) // 7)
        factors = (1, 2, 5) if last - first <= 2 else (1,)
        found = [k * 10.0**power for power in range(first, last + 1, each) for k in factors]
        return [value for value in found if self.low * 0.999 <= value <= self.high * 1.001]


def function_svg(outlook: FunctionForecast) -> str:
    """The samples of a function and what is predicted from them."""
    first = outlook.lines[0]
    said = f"{outlook.basis} · {first.relation}"
    return prediction_svg(
        outlook.name, [(p.n_bytes, p.run_s) for p in outlook.points], outlook.curve, said
    )


def prediction_svg(name: str, points: Sequence[tuple[int, float]], curve: Curve, words: str) -> str:
    """Samples as dots, the predicted median as a line, what 8 of 10 lie within as a band. words: what it rests on."""
    sizes = [float(n) for n, _ in points] + [float(n) for n, *_ in curve] or [1.0]
    times = [s for _, s in points] + [s for _, *band in curve for s in band] or [1.0]
    x = _Axis.of(sizes, _LEFT, WIDTH - MARGIN, 1.0)
    y = _Axis.of(times, _TOP + _HIGH, _TOP, 1e-6)
    body = [
        line_of_words(MARGIN, MARGIN + 12, name, look="strong fill-ink", room=WIDTH - 2 * MARGIN),
        line_of_words(
            MARGIN,
            MARGIN + 29,
            said(points, curve, words),
            look="small fill-dim",
            room=WIDTH - 2 * MARGIN,
        ),
        _grid(x, y),
        _band(x, y, curve),
        _dots(x, y, points),
    ]
    bottom = _TOP + _HIGH + 36
    below, end = legend(_entries(points, curve), x=MARGIN, y=bottom, right=WIDTH - MARGIN)
    label = f"{name}: {said(points, curve, words)}"
    return stacked(Piece("".join([*body, below]), WIDTH, end + 6), label=label)


def said(points: Sequence[tuple[int, float]], curve: Curve, words: str) -> str:
    """What the curve rests on, how many samples there are, and how many of them lie within the band."""
    parts = [words] if words else []
    if "sample" not in words:
        parts.append(counted(len(points), "sample"))
    if points and curve:
        parts.append(f"{100 * coverage(points, curve):.0f} % of them within the band")
    return " · ".join(parts)


def coverage(points: Sequence[tuple[int, float]], curve: Curve) -> float:
    """The share of the samples between p10 and p90, which are taken as straight between two sizes of the curve."""
    within = sum(low <= seconds <= high for n, seconds in points for low, high in (_at(curve, n),))
    return within / len(points)


def _at(curve: Curve, n_bytes: int) -> tuple[float, float]:
    """p10 and p90 for this size; beyond the curve those of its end."""
    place = bisect_right([n for n, *_ in curve], n_bytes)
    if place in (0, len(curve)):
        _, low, _, high = curve[min(place, len(curve) - 1)]
        return low, high
    (n, low, _, high), (m, low_after, _, high_after) = curve[place - 1], curve[place]
    share = (n_bytes - n) / (m - n)
    return low + share * (low_after - low), high + share * (high_after - high)


def _grid(x: _Axis, y: _Axis) -> str:
    """Lines at round values, their words, and what the axes are."""
    drawn = []
    for value in x.ticks():
        at = number(x.at(value))
        drawn.append(
            element("path", d=f"M{at} {number(y.end)}V{number(y.begin)}", class_="stroke-line")
        )
        drawn.append(
            line_of_words(
                x.at(value), y.begin + 15, bytes_text(round(value)), look="small fill-dim mid"
            )
        )
    for value in y.ticks():
        at = number(y.at(value))
        drawn.append(
            element("path", d=f"M{number(x.begin)} {at}H{number(x.end)}", class_="stroke-line")
        )
        drawn.append(
            line_of_words(
                x.begin - 6, y.at(value) + 4, seconds_text(value), look="small fill-dim end"
            )
        )
    drawn.append(line_of_words(x.end, y.begin + 30, "bytes read", look="small fill-dim end"))
    return "".join([*drawn, line_of_words(MARGIN, y.end - 8, "ran", look="small fill-dim")])


def _band(x: _Axis, y: _Axis, curve: Curve) -> str:
    if not curve:
        return ""
    low, middle, high = (
        [f"{number(x.at(line[0]))} {number(y.at(line[column]))}" for line in curve]
        for column in (1, 2, 3)
    )
    band = element("path", d=f"M{'L'.join([*low, *reversed(high)])}z", class_="band fill-cold")
    return band + element(
        "path",
        d=f"M{'L'.join(middle)}",
        class_="median stroke-running",
        fill="none",
        stroke_width=2,
    )


def _dots(x: _Axis, y: _Axis, points: Sequence[tuple[int, float]]) -> str:
    each = max(1, -(-len(points) // _MOST))
    drawn = []
    for n_bytes, seconds in points[::each]:
        told = tooltip(f"{bytes_text(n_bytes)}: {seconds_text(seconds)}")
        at = f"M{number(x.at(n_bytes) - 2.5)} {number(y.at(seconds))}a2.5 2.5 0 1 0 5 0a2.5 2.5 0 1 0 -5 0z"
        drawn.append(element("path", told, d=at))
    return element("g", *drawn, class_="dots fill-ink", fill_opacity=0.55) if drawn else ""


def _entries(points: Sequence[tuple[int, float]], curve: Curve) -> list[LegendEntry]:
    found = []
    if points:
        dot = element(
            "path",
            d="M2.5 5a2.5 2.5 0 1 0 5 0a2.5 2.5 0 1 0 -5 0z",
            class_="fill-ink",
            fill_opacity=0.55,
        )
        found.append(LegendEntry(mark=dot, words="sample"))
    if curve:
        line = element("path", d="M0 5H11", class_="stroke-running", fill="none", stroke_width=2)
        found.append(LegendEntry(mark=line, words="predicted median"))
        found.append(
            LegendEntry(
                mark=element("path", d="M0 0h10v10h-10z", class_="fill-cold"),
                words="8 of 10 lie within",
            )
        )
    return found
