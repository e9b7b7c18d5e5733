"""Ways to predict one quantity from the bytes a task reads: each is right for some functions, and measured on all.

Most look at the newest run only: data sets and machines change between runs, and on real records what happened last
beats what happens on average. Bayes and the usual value look at everything remembered.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from dagnb.prediction.batch import KEPT, Batch, Point
from dagnb.prediction.line import Line, line, moments
from dagnb.prediction.prior import Prior
from dagnb.prediction.scaling import Scaling

BEND_BYTES = (1e3, 3e4, 1e6, 3e7, 1e9)
"""where an affine relation goes from constant to linear"""
NEAREST = 15
HALF_LIFE = 40.0
"""effective samples after which a sample counts half"""
HALF_LIFE_S = 14 * 86_400.0

EXPERTS = (
    "nearest sizes",
    "nearest ratios",
    "usual value",
    "last value",
    "last ratio",
    *(f"affine from {bend:.0e} bytes" for bend in BEND_BYTES),
    "Bayes",
)
BAYES = len(EXPERTS) - 1


class Expert(Protocol):
    """One way to predict."""

    def at(self, n_bytes: int) -> float:
        """The logarithm of the value, for a task that reads so many bytes."""


@dataclass(frozen=True, slots=True)
class Growth:
    """level + slope * log(bytes + bend)."""

    level: float
    slope: float = 0.0
    bend: float = 1.0

    def at(self, n_bytes: int) -> float:
        return self.level + self.slope * math.log(n_bytes + self.bend)


@dataclass(frozen=True, slots=True)
class Nearest:
    """The median of the samples of the nearest sizes, newest first among equals; sizes ascending."""

    xs: tuple[float, ...]
    ys: tuple[float, ...]
    ages: tuple[int, ...]
    slope: float

    def at(self, n_bytes: int) -> float:
        x = math.log(n_bytes + 1)
        begin = bisect_left(self.xs, x - 1e-9)
        low, high = begin - 1, begin
        found: list[tuple[float, int, float]] = []
        n = len(self.xs)
        while low >= 0 or high < n:
            below = x - self.xs[low] if low >= 0 else math.inf
            above = abs(self.xs[high] - x) if high < n else math.inf
            gap, i = (below, low) if below < above else (above, high)
            if len(found) >= NEAREST and gap > found[-1][0] + 1e-9:
                break
            found.append((gap, self.ages[i], self.ys[i] + self.slope * (x - self.xs[i])))
            low, high = (low - 1, high) if below < above else (low, high + 1)
        return median([y for _, _, y in sorted(found)[:NEAREST]])


@dataclass(frozen=True, slots=True)
class Average:
    """Straight lines, weighted by how well each explains what was seen."""

    parts: tuple[tuple[float, Growth], ...]

    def at(self, n_bytes: int) -> float:
        return sum(weight * part.at(n_bytes) for weight, part in self.parts)


def median(values: Sequence[float]) -> float:
    """The middle one, or the mean of the two in the middle."""
    ordered = sorted(values)
    n = len(ordered)
    return (ordered[n // 2] + ordered[(n - 1) // 2]) / 2


def weights(batches: Sequence[Batch]) -> list[float]:
    """Of one point of each batch: what is older counts less, by samples since and by time since."""
    found, since = [], 0.0
    for batch in reversed(batches):
        age = max(0.0, batches[-1].ended_at - batch.ended_at) / HALF_LIFE_S
        found.append(batch.weight / len(batch.points) * 0.5 ** (since / HALF_LIFE + age))
        since += batch.weight
    return found[::-1]


def experts(batches: Sequence[Batch], scale: Scaling, prior: Prior) -> tuple[tuple[Expert, ...], Line]:
    """All of EXPERTS in their order, of shares at the scale's origin; and the likeliest line. O(points log points)."""
    flat: list[tuple[int, float, float, int]] = []
    for i, (batch, weight) in enumerate(zip(batches, weights(batches), strict=True)):
        age = len(batches) - 1 - i
        flat += [(p.n_bytes, p.y + scale.gain(p.cpus, p.memory_mb), weight, age) for p in batch.points]
    last = [(n_bytes, y) for n_bytes, y, _, age in flat if age == 0]
    ordered = sorted((math.log(n_bytes + 1), age, y) for n_bytes, y, _, age in flat)
    xs, ages, ys = zip(*ordered, strict=True)
    average, best = _bayes(flat, prior)
    found: tuple[Expert, ...] = (
        Nearest(xs, ys, ages, 0.0),
        Nearest(xs, ys, ages, 1.0),
        Growth(_middle([(y, weight) for _, y, weight, _ in flat])),
        Growth(median([y for _, y in last])),
        *(
            Growth(median([y - math.log(n_bytes + bend) for n_bytes, y in last]), 1.0, bend)
            for bend in (1.0, *BEND_BYTES)
        ),
        average,
    )
    return found, best


def _middle(pairs: Sequence[tuple[float, float]]) -> float:
    """The weighted median of (value, weight)."""
    half, seen = sum(weight for _, weight in pairs) / 2, 0.0
    for value, weight in sorted(pairs):
        seen += weight
        if seen >= half:
            return value
    return max(pairs)[0]


def _bayes(flat: Sequence[tuple[int, float, float, int]], prior: Prior) -> tuple[Average, Line]:
    ys, ws = [y for _, y, _, _ in flat], [weight for _, _, weight, _ in flat]
    found: list[tuple[float, Growth, Line]] = []
    for relation, slope, bend in (("constant", 0.0, 1.0), ("linear", 1.0, 1.0), ("power", prior.slope, 1.0)) + tuple(
        ("affine", 1.0, bend) for bend in BEND_BYTES
    ):
        seen = moments([math.log(n_bytes + bend) for n_bytes, _, _, _ in flat], ys, ws)
        precision = NOISE / prior.slope_sd**2 if relation == "power" else math.inf
        one = line(seen, slope, precision, prior.level, prior.count)
        log_weight = one.log_evidence + _belief(relation, prior)
        found.append((log_weight, Growth(one.y - one.slope * one.x, one.slope, bend), one))
    top = max(log_weight for log_weight, _, _ in found)
    odds = [math.exp(log_weight - top) for log_weight, _, _ in found]
    total = sum(odds)
    parts = tuple((o / total, growth) for o, (_, growth, _) in zip(odds, found, strict=True) if o > 1e-4 * total)
    return Average(parts), max(found, key=lambda f: f[0])[2]


def _belief(relation: str, prior: Prior) -> float:
    """Log prior odds: the five affine ones share one vote; a hint is worth its samples."""
    share = -math.log(len(BEND_BYTES)) if relation == "affine" else 0.0
    return share + (3.0 if prior.relation == relation else 0.0)


NOISE = 0.09
"""variance the prior of a slope is measured in"""

__all__ = ["BAYES", "EXPERTS", "KEPT", "Expert", "Point", "experts", "median", "weights"]
