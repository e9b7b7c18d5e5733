"""Ways to predict one quantity of one function from the bytes that a task reads.

    nearest sizes    median of the samples of similar size
    nearest ratios   the same of value / bytes
    usual value      weighted median of all samples
    last value       median of the newest run
    last ratio       median of value / bytes of the newest run
    affine           constant below a bend, linear above it; of the newest run
    Bayes            straight lines, weighted by their evidence
    equal calls      (`Calls`) the same call on the same inputs

Each is right for some functions, and all are scored. Most look at the newest run only: data sets
and machines change between runs, and on real records the last run predicts better than the average.
Sizes often say little: part(0.2) and part(0.5) read equally many bytes. Equal calls predict only
calls that were seen, so they are compared with the other experts on those calls alone.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple, Protocol

from dagnb.graph.brief import brief
from dagnb.prediction.observation import Batch, Point
from dagnb.prediction.regression import LinearModel, Prior, Scaling, line, moments

# Bytes at which an affine relation goes from constant to linear.
BEND_BYTES = (1e3, 3e4, 1e6, 3e7, 1e9)
# Samples that `Nearest` takes the median of.
NEAREST = 15
# Effective samples after which a sample counts half.
HALF_LIFE = 40.0
HALF_LIFE_S = 14 * 86_400.0
# Variance of the noise that the prior of a slope is measured in: 30 %.
SLOPE_NOISE = 0.09
# An error of e**3 is as bad as any larger one: one outlier must not choose the expert.
WORST = 3.0

# Runs remembered of a call.
CALL_RUNS = 4
# Calls remembered of a function: keys of a loop over files would fill the memory otherwise.
KEYS = 2_000
# The weight of a call's value, relative to the next newer one.
RECENT = 0.7
# The discounted loss that equal calls may have more than the others and still be preferred.
HEAD_START = 0.5

# (relation, slope, bend) of the lines that Bayes averages; a slope of None is learnt.
_LINES = (
    ("constant", 0.0, 1.0),
    ("linear", 1.0, 1.0),
    ("power", None, 1.0),
    *(("affine", 1.0, bend) for bend in BEND_BYTES),
)

AFFINE = tuple(f"affine from {bend:.0e} bytes" for bend in BEND_BYTES)

# Names and order of all experts; earlier ones are preferred until losses say otherwise.
EXPERTS = (
    "nearest sizes",
    "nearest ratios",
    "usual value",
    "last value",
    "last ratio",
    *AFFINE,
    "Bayes",
)
BAYES = len(EXPERTS) - 1

# Multiples of the golden ratio, modulo 1, spread any few ranks evenly.
_GOLDEN = 0.6180339887498949


class Expert(Protocol):
    """One way to predict."""

    def at(self, n_bytes: int) -> float:
        """Returns the logarithm of the value, for a task that reads so many bytes."""


@dataclass(frozen=True, slots=True)
class Growth:
    """A line: level + slope * log(bytes + bend)."""

    level: float
    slope: float = 0.0
    bend: float = 1.0

    def at(self, n_bytes: int) -> float:
        """Returns the log of the value. O(1)."""
        return self.level + self.slope * math.log(n_bytes + self.bend)


@dataclass(frozen=True, slots=True)
class Nearest:
    """The median of the samples of the nearest sizes.

    xs: logs of the sizes, ascending. ys: log values at each size, newest first, at most NEAREST.
    slope: 0 takes values as they are, 1 takes them in proportion to the size.
    """

    xs: tuple[float, ...]
    ys: tuple[tuple[float, ...], ...]
    slope: float

    __repr__ = brief

    def at(self, n_bytes: int) -> float:
        """Returns the log of the value. O(log sizes + NEAREST)."""
        x, xs, slope = math.log(n_bytes + 1), self.xs, self.slope
        high, n, room = bisect_left(xs, x), len(xs), NEAREST
        low = high - 1
        values: list[float] = []
        # Outwards from x to both sides, always to the nearer size.
        while room > 0 and (low >= 0 or high < n):
            if low < 0 or (high < n and xs[high] - x <= x - xs[low]):
                i, high = high, high + 1
            else:
                i, low = low, low - 1
            ys = self.ys[i][:room]
            shift = slope * (x - xs[i])
            values.extend([y + shift for y in ys] if shift else ys)
            room = NEAREST - len(values)
        return median(values)


@dataclass(frozen=True, slots=True)
class Average:
    """Lines, weighted by how well each explains the samples; weights add up to about 1."""

    parts: tuple[tuple[float, Growth], ...]

    __repr__ = brief

    def at(self, n_bytes: int) -> float:
        """Returns the log of the value, a geometric mean of the lines. O(parts)."""
        return sum(weight * part.at(n_bytes) for weight, part in self.parts)


class _Sample(NamedTuple):
    """A point as experts see it: log value at the origin of the scale; age: runs since."""

    n_bytes: int
    y: float
    weight: float
    age: int


def median(values: Sequence[float]) -> float:
    """Returns the value in the middle, or the mean of the two in the middle."""
    ordered = sorted(values)
    n = len(ordered)
    return (ordered[n // 2] + ordered[(n - 1) // 2]) / 2


def weighted_median(pairs: Sequence[tuple[float, float]]) -> float:
    """Returns the weighted median of (value, weight)."""
    half, passed = sum(weight for _, weight in pairs) / 2, 0.0
    for value, weight in sorted(pairs):
        passed += weight
        if passed >= half:
            return value
    return max(pairs)[0]


def weights(batches: Sequence[Batch]) -> list[float]:
    """Returns the weight of one point of each batch: older ones count less."""
    newest_first, later_samples = [], 0.0
    for batch in reversed(batches):
        # Age counts in samples and in time: a machine may change overnight without a run.
        age = max(0.0, batches[-1].ended_at - batch.ended_at) / HALF_LIFE_S
        half_lives = later_samples / HALF_LIFE + age
        newest_first.append(batch.point_weight * 0.5**half_lives)
        later_samples += batch.weight
    return newest_first[::-1]


def experts(
    batches: Sequence[Batch],
    scale: Scaling,
    prior: Prior,
) -> tuple[tuple[Expert, ...], LinearModel]:
    """Returns all of EXPERTS in their order, and the likeliest line. O(points log points).

    They predict values at the origin of the scale: the caller adds the effect of resources.
    """
    seen: list[_Sample] = []
    for i, (batch, weight) in enumerate(zip(batches, weights(batches), strict=True)):
        age = len(batches) - 1 - i
        for point in batch.points:
            y = scale.at_origin(point)
            seen.append(_Sample(point.n_bytes, y, weight, age))
    last = [sample for sample in seen if sample.age == 0]

    ratios = []
    for bend in (1.0, *BEND_BYTES):
        level = median([sample.y - math.log(sample.n_bytes + bend) for sample in last])
        ratios.append(Growth(level, 1.0, bend))
    xs, ys = _by_size(seen)
    average, best = _bayes(seen, prior)
    return (
        Nearest(xs, ys, 0.0),
        Nearest(xs, ys, 1.0),
        Growth(weighted_median([(sample.y, sample.weight) for sample in seen])),
        Growth(median([sample.y for sample in last])),
        *ratios,
        average,
    ), best


def _by_size(seen: Sequence[_Sample]) -> tuple[tuple[float, ...], tuple[tuple[float, ...], ...]]:
    """Returns the logs of sizes, ascending, and at most NEAREST values at each, newest first."""
    # A run lists its values ascending, so its first few would be its smallest. Steps of the golden
    # ratio mix them, so that any few are a fair choice.
    ranked = []
    for rank, sample in enumerate(seen):
        ranked.append((sample.n_bytes, sample.age, rank * _GOLDEN % 1, sample.y))
    sizes: dict[int, list[float]] = {}
    for n_bytes, _, _, y in sorted(ranked):
        sizes.setdefault(n_bytes, []).append(y)
    xs = tuple(math.log(size + 1) for size in sizes)
    return xs, tuple(tuple(ys[:NEAREST]) for ys in sizes.values())


def _bayes(seen: Sequence[_Sample], prior: Prior) -> tuple[Average, LinearModel]:
    """Returns the average of all lines by their evidence, and the likeliest of them."""
    ys = [sample.y for sample in seen]
    sample_weights = [sample.weight for sample in seen]
    by_bend = {}
    for bend in dict.fromkeys(bend for _, _, bend in _LINES):
        xs = [math.log(sample.n_bytes + bend) for sample in seen]
        by_bend[bend] = moments(xs, ys, sample_weights)

    lines: list[tuple[float, Growth, LinearModel]] = []
    for relation, fixed, bend in _LINES:
        slope, slope_weight = prior.slope, SLOPE_NOISE / prior.slope_sd**2
        if fixed is not None:
            slope, slope_weight = fixed, math.inf
        fitted = line(by_bend[bend], slope, slope_weight, prior.level, prior.count)
        growth = Growth(fitted.y - fitted.slope * fitted.x, fitted.slope, bend)
        lines.append((fitted.log_evidence + _log_odds(relation, prior), growth, fitted))

    # Relative to the best, because the evidence itself would underflow: it is about e**-100.
    top = max(log_weight for log_weight, _, _ in lines)
    odds = [math.exp(log_weight - top) for log_weight, _, _ in lines]
    total = sum(odds)
    parts = []
    for share, (_, growth, _) in zip(odds, lines, strict=True):
        # Lines of no weight cost a logarithm at each prediction.
        if share > 1e-4 * total:
            parts.append((share / total, growth))
    return Average(tuple(parts)), max(lines, key=lambda entry: entry[0])[2]


def _log_odds(relation: str, prior: Prior) -> float:
    """Returns the log prior odds of a relation."""
    log_odds = 0.0
    # The five affine lines share one vote, else five of eight votes would be affine.
    if relation == "affine":
        log_odds -= math.log(len(BEND_BYTES))
    # A hint is worth a factor of 20, which a few samples can outweigh.
    if relation == prior.relation:
        log_odds += 3.0
    return log_odds


@dataclass(frozen=True, slots=True)
class Calls:
    """The expert of equal calls.

    seen: key of a call -> one typical task of each run, newest last; the latest call is last.
    loss: its discounted absolute errors. other_loss: those of the other experts on the same tasks.
    """

    seen: Mapping[str, tuple[Point, ...]] = field(default_factory=lambda: MappingProxyType({}))
    loss: float = 0.0
    other_loss: float = 0.0

    __repr__ = brief

    @property
    def is_trusted(self) -> bool:
        """True if it was no worse than the others so far, or there is no evidence yet."""
        return self.loss <= self.other_loss + HEAD_START

    def of(self, key: str) -> tuple[Point, ...]:
        """Returns the equal calls that were seen, oldest first."""
        return self.seen.get(key, ()) if key else ()

    def error(self, task: Point, scale: Scaling) -> float | None:
        """Returns the error of the prediction of this task; None for a call never seen."""
        before = self.of(task.key)
        if not before:
            return None
        return scale.at_origin(task) - usual(before, scale)

    def scored(self, tasks: Sequence[Point], share: float, keep: float) -> Calls:
        """Returns the expert after one more run was predicted.

        share: weight of each task. keep: discount of the losses before.
        """
        own = other = 0.0
        n_compared = 0
        for task in tasks:
            # Only tasks that both have predicted are compared: calls never seen are harder to
            # predict.
            if task.call_error is not None and task.size_error is not None:
                n_compared += 1
                own += min(WORST, abs(task.call_error))
                other += min(WORST, abs(task.size_error))
        if not n_compared:
            return self
        loss = keep * self.loss + share * own
        other_loss = keep * self.other_loss + share * other
        return replace(self, loss=loss, other_loss=other_loss)

    def learnt(self, tasks: Sequence[Point]) -> Calls:
        """Returns the expert with the calls of one more run. O(tasks + KEYS)."""
        run: dict[str, list[Point]] = {}
        for task in tasks:
            if task.key:
                run.setdefault(task.key, []).append(task)
        if not run:
            return self

        # Calls of this run go to the end, so that those made longest ago are dropped first.
        seen = {key: points for key, points in self.seen.items() if key not in run}
        for key in sorted(run):
            # A call made several times in a run counts once: its median.
            typical = sorted(run[key], key=_by_value)[len(run[key]) // 2]
            seen[key] = (*self.of(key), typical)[-CALL_RUNS:]
        for key in list(seen)[: max(0, len(seen) - KEYS)]:
            del seen[key]
        return replace(self, seen=MappingProxyType(seen))

    def without_memory(self) -> Calls:
        """Returns only its losses, for code that changed."""
        return replace(self, seen=MappingProxyType({}))


def usual(seen: Sequence[Point], scale: Scaling) -> float:
    """Returns the weighted median of equal calls, newer ones heavier. O(CALL_RUNS)."""
    # With 0.7 neither a cold first call nor one odd run decides; a change that lasts two runs does.
    pairs = []
    for i, point in enumerate(seen):
        runs_since = len(seen) - 1 - i
        pairs.append((scale.at_origin(point), RECENT**runs_since))
    return weighted_median(pairs)


def _by_value(task: Point) -> tuple[float, ...]:
    return task.y, task.n_bytes, task.cpus or 0.0, task.memory_mb or 0.0
