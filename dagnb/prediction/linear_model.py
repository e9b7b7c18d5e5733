"""Bayesian straight line on the log scale: y = level + slope * x + noise, in closed form.

Normal-inverse-gamma prior. With slope_weight = inf the slope is fixed and only the level is learnt.
Source: Bishop 2006, Pattern Recognition and Machine Learning, section 3.5 (evidence) and exercise 3.12.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from operator import mul

LEVEL_WEIGHT = 1e-3
ALPHA, BETA = 1.0, 0.1
"""prior of the noise variance: inverse gamma"""
GUESS_SIGMA = 0.7
"""doubt of a number that somebody wrote down, on the log scale: a factor of two either way"""


@dataclass(frozen=True, slots=True)
class Moments:
    """Weighted sums of points (x, y), about their means."""

    weight: float
    x: float
    y: float
    xx: float
    xy: float
    yy: float


def moments(xs: list[float], ys: list[float], weights: list[float]) -> Moments:
    """Of at least one point with a positive weight. O(n)."""
    total = sum(weights)
    x, y = sum(map(mul, weights, xs)) / total, sum(map(mul, weights, ys)) / total
    dx, dy = [a - x for a in xs], [b - y for b in ys]
    wx = list(map(mul, weights, dx))
    yy = sum(map(mul, weights, map(mul, dy, dy)))
    return Moments(total, x, y, sum(map(mul, wx, dx)), sum(map(mul, wx, dy)), yy)


@dataclass(frozen=True, slots=True)
class LinearModel:
    """What was learnt. sigma: predictive standard deviation at x; slope_sd: doubt of the slope."""

    x: float
    y: float
    slope: float
    slope_sd: float
    sigma: float
    log_evidence: float

    def at(self, x: float) -> float:
        """The predicted y."""
        return self.y + self.slope * (x - self.x)


def line(
    seen: Moments, slope: float, slope_weight: float, level: float | None = None, count: float = 0.0
) -> LinearModel:
    """The posterior. O(1).

    level with count: so many earlier observations of y at the mean x, each as inexact as GUESS_SIGMA says; against
    exact samples they are worth less.
    """
    squares, penalty, slope_sd = seen.yy, 0.0, 0.0
    if math.isinf(slope_weight):
        squares += slope * slope * seen.xx - 2 * slope * seen.xy
    else:
        tilt = seen.xx + slope_weight
        found = (seen.xy + slope_weight * slope) / tilt
        squares += slope_weight * slope * slope - tilt * found * found
        penalty = 0.5 * math.log(slope_weight / tilt)
        slope, slope_sd = found, 1 / math.sqrt(tilt)
    squares = max(0.0, squares)
    noise = (2 * BETA + squares) / (2 * ALPHA + seen.weight)
    prior_weight = LEVEL_WEIGHT + count * min(1.0, noise / GUESS_SIGMA**2)
    weight = prior_weight + seen.weight
    gap = 0.0 if level is None else seen.y - level
    y = seen.y - prior_weight / weight * gap
    squares += prior_weight * seen.weight / weight * gap * gap
    penalty += 0.5 * math.log(prior_weight / weight)
    alpha, beta = ALPHA + seen.weight / 2, BETA + squares / 2
    variance = beta / alpha
    evidence = (
        penalty
        + math.lgamma(alpha)
        - alpha * math.log(beta)
        + ALPHA * math.log(BETA)
        - math.lgamma(ALPHA)
    )
    return LinearModel(
        x=seen.x,
        y=y,
        slope=slope,
        slope_sd=slope_sd * math.sqrt(variance),
        sigma=math.sqrt(variance * (1 + 1 / weight)),
        log_evidence=evidence - seen.weight / 2 * math.log(2 * math.pi),
    )
