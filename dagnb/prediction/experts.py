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

from dagnb.graph.brief import brief
from dagnb.prediction.batch import Batch
from dagnb.prediction.linear_model import LinearModel, line, moments
from dagnb.prediction.prior import Prior
from dagnb.prediction.scaling import Scaling

BEND_BYTES = (1e3, 3e4, 1e6, 3e7, 1e9)
"""where an affine relation goes from constant to linear"""
NEAREST = 15
HALF_LIFE = 40.0
"""effective samples after which a sample counts half"""
HALF_LIFE_S = 14 * 86_400.0
SLOPE_NOISE = 0.09
"""variance of the noise in which the prior of a slope is measured"""

_LINES = (
    ("constant", 0.0, 1.0),
    ("linear", 1.0, 1.0),
    ("power", None, 1.0),
    *(("affine", 1.0, bend) for bend in BEND_BYTES),
)
"""relation, slope (None: learnt), bend"""

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
        """Log of the value. O(1)."""
        return self.level + self.slope * math.log(n_bytes + self.bend)


@dataclass(frozen=True, slots=True)
class Nearest:
    """The median of the samples of the nearest sizes. xs ascend; ys: at each size, newest first, NEAREST at most."""

    xs: tuple[float, ...]
    ys: tuple[tuple[float, ...], ...]
    slope: float

    __repr__ = brief

    def at(self, n_bytes: int) -> float:
        """Log of the value. O(log sizes + NEAREST)."""
        x, xs, ys, slope = math.log(n_bytes + 1), self.xs, self.ys, self.slope
        high, n, room = bisect_left(xs, x), len(xs), NEAREST
        low = high - 1
        found: list[float] = []
        while room > 0 and (low >= 0 or high < n):
            if low < 0 or (high < n and xs[high] - x <= x - xs[low]):
                i, high = high, high + 1
            else:
                i, low = low, low - 1
            shift = slope * (x - xs[i])
            found.extend([y + shift for y in ys[i][:room]] if shift else ys[i][:room])
            room = NEAREST - len(found)
        return median(found)


@dataclass(frozen=True, slots=True)
class Average:
    """Straight lines, weighted by how well each explains what was seen."""

    parts: tuple[tuple[float, Growth], ...]

    __repr__ = brief

    def at(self, n_bytes: int) -> float:
        """Log of the value, the geometric mean of what the parts say. O(parts)."""
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


def experts(
    batches: Sequence[Batch], scale: Scaling, prior: Prior
) -> tuple[tuple[Expert, ...], LinearModel]:
    """All of EXPERTS in their order, of shares at the scale's origin; and the likeliest line. O(points log points)."""
    flat: list[tuple[int, float, float, int]] = []
    for i, (batch, weight) in enumerate(zip(batches, weights(batches), strict=True)):
        age = len(batches) - 1 - i
        flat += [
            (p.n_bytes, p.y + scale.gain(p.cpus, p.memory_mb), weight, age) for p in batch.points
        ]
    last = [(n_bytes, y) for n_bytes, y, _, age in flat if age == 0]
    xs, ys = _by_size(flat)
    average, best = _bayes(flat, prior)
    found: tuple[Expert, ...] = (
        Nearest(xs, ys, 0.0),
        Nearest(xs, ys, 1.0),
        Growth(middle([(y, weight) for _, y, weight, _ in flat])),
        Growth(median([y for _, y in last])),
        *(
            Growth(median([y - math.log(n_bytes + bend) for n_bytes, y in last]), 1.0, bend)
            for bend in (1.0, *BEND_BYTES)
        ),
        average,
    )
    return found, best


def _by_size(
    flat: Sequence[tuple[int, float, float, int]],
) -> tuple[tuple[float, ...], tuple[tuple[float, ...], ...]]:
    """Sizes, ascending, and at most NEAREST values at each: newest first, and any few of one run a fair choice of it.

    A run lists its values ascending, so the first few would be the smallest: steps of the golden ratio mix them.
    """
    ranked = sorted(
        (n_bytes, age, rank * 0.6180339887498949 % 1, y)
        for rank, (n_bytes, y, _, age) in enumerate(flat)
    )
    sizes: dict[int, list[float]] = {}
    for n_bytes, _, _, y in ranked:
        sizes.setdefault(n_bytes, []).append(y)
    return tuple(math.log(size + 1) for size in sizes), tuple(
        tuple(ys[:NEAREST]) for ys in sizes.values()
    )


def middle(pairs: Sequence[tuple[float, float]]) -> float:
    """The weighted median of (value, weight)."""
    half, seen = sum(weight for _, weight in pairs) / 2, 0.0
    for value, weight in sorted(pairs):
        seen += weight
        if seen >= half:
            return value
    return max(pairs)[0]


def _bayes(
    flat: Sequence[tuple[int, float, float, int]], prior: Prior
) -> tuple[Average, LinearModel]:
    ys, ws = [y for _, y, _, _ in flat], [weight for _, _, weight, _ in flat]
    found: list[tuple[float, Growth, LinearModel]] = []
    by_bend = {
        bend: moments([math.log(n_bytes + bend) for n_bytes, _, _, _ in flat], ys, ws)
        for _, _, bend in _LINES
    }
    for relation, fixed, bend in _LINES:
        seen = by_bend[bend]
        slope = prior.slope if fixed is None else fixed
        precision = SLOPE_NOISE / prior.slope_sd**2 if fixed is None else math.inf
        one = line(seen, slope, precision, prior.level, prior.count)
        log_weight = one.log_evidence + _belief(relation, prior)
        found.append((log_weight, Growth(one.y - one.slope * one.x, one.slope, bend), one))
    top = max(log_weight for log_weight, _, _ in found)
    odds = [math.exp(log_weight - top) for log_weight, _, _ in found]
    total = sum(odds)
    parts = tuple(
        (o / total, growth)
        for o, (_, growth, _) in zip(odds, found, strict=True)
        if o > 1e-4 * total
    )
    return Average(parts), max(found, key=lambda f: f[0])[2]


def _belief(relation: str, prior: Prior) -> float:
    """Log prior odds: the five affine ones share one vote; a hint is worth its samples."""
    share = -math.log(len(BEND_BYTES)) if relation == "affine" else 0.0
    return share + (3.0 if prior.relation == relation else 0.0)
