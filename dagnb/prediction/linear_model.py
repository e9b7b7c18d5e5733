"""A Bayesian straight line on the log scale, y = level + slope * x + noise, and its prior.

    Prior (hints of @task) + Moments (weighted points)  ->  LinearModel (posterior, evidence)

Normal-inverse-gamma prior, so everything is in closed form: a plan of thousands of tasks waits for
these fits. With slope_weight = inf the slope is fixed and only the level is learnt.
Source: Bishop 2006, Pattern Recognition and Machine Learning, section 3.5 (evidence) and exercise
3.12.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from operator import mul

from dagnb.graph.options import TaskOptions
from dagnb.prediction.observation import Target

# Samples that the prior level counts for: next to none, the first measurement decides.
LEVEL_WEIGHT = 1e-3
# Prior of the noise variance, inverse gamma: worth two samples, its mode 0.05 (22 % noise).
ALPHA, BETA = 1.0, 0.1
# Uncertainty of a number that a user wrote down, on the log scale: a factor of two either way.
GUESS_SIGMA = 0.7
# Samples that a hint of @task is worth.
HINT_SAMPLES = 5.0
# Standard deviation of a slope that a user named.
HINT_SLOPE_SD = 0.1


@dataclass(frozen=True, slots=True)
class Prior:
    """The knowledge of a function before it is measured.

    relation: how the value grows with the input size ('constant', 'linear', ...); '' without hint.
    slope, slope_sd: exponent of that growth, with its uncertainty.
    level: log of the value at a usual size, None if unknown. count: samples this level is worth.
    """

    relation: str = ""
    slope: float = 0.5
    slope_sd: float = 0.5
    level: float | None = None
    count: float = 0.0


VAGUE = Prior()
_SLOPES = {"constant": 0.0, "linear": 1.0, "affine": 1.0}


def hinted(options: TaskOptions, target: Target) -> Prior:
    """Returns the prior that expresses the decorator's hints, VAGUE without any."""
    # Hints are about run time and output size; they say nothing of pickling.
    if target not in {Target.RUN, Target.OUTPUT}:
        return VAGUE

    value = options.time_s if target is Target.RUN else options.output_bytes
    level, count = None, 0.0
    if value is not None:
        level, count = target.log(value), HINT_SAMPLES

    if options.io is None:
        return VAGUE if level is None else Prior(level=level, count=count)
    relation, _, exponent = options.io.partition(":")
    slope = float(exponent) if exponent else _SLOPES[relation]
    return Prior(relation, slope, HINT_SLOPE_SD, level, count)


@dataclass(frozen=True, slots=True)
class Moments:
    """Weighted sums of points (x, y), about their means: all that a line needs of them."""

    weight: float
    x: float
    y: float
    xx: float
    xy: float
    yy: float


def moments(xs: list[float], ys: list[float], weights: list[float]) -> Moments:
    """Returns the moments of at least one point with a positive weight. O(n)."""
    total = sum(weights)
    x = sum(map(mul, weights, xs)) / total
    y = sum(map(mul, weights, ys)) / total
    # About the means: raw sums of squares would cancel for large x. map is fastest here.
    dx = [value - x for value in xs]
    dy = [value - y for value in ys]
    weighted = list(map(mul, weights, dx))
    return Moments(
        weight=total,
        x=x,
        y=y,
        xx=sum(map(mul, weighted, dx)),
        xy=sum(map(mul, weighted, dy)),
        yy=sum(map(mul, weights, map(mul, dy, dy))),
    )


@dataclass(frozen=True, slots=True)
class LinearModel:
    """A fitted line through (x, y) with this slope.

    slope_sd: uncertainty of the slope. sigma: predictive standard deviation at x.
    log_evidence: log probability of the points under the prior; compares lines of other kinds.
    """

    x: float
    y: float
    slope: float
    slope_sd: float
    sigma: float
    log_evidence: float

    def at(self, x: float) -> float:
        """Returns the predicted y."""
        return self.y + self.slope * (x - self.x)


def line(
    seen: Moments,
    slope: float,
    slope_weight: float,
    level: float | None = None,
    count: float = 0.0,
) -> LinearModel:
    """Returns the posterior. O(1).

    slope, slope_weight: prior mean of the slope and its precision, in units of the noise.
    level, count: act as `count` earlier observations of y = level at the mean x, each as inexact as
    GUESS_SIGMA says; against exact samples they are worth less.
    """
    squares, penalty, slope_sd = seen.yy, 0.0, 0.0
    if math.isinf(slope_weight):
        squares += slope * slope * seen.xx - 2 * slope * seen.xy
    else:
        precision = seen.xx + slope_weight
        learnt = (seen.xy + slope_weight * slope) / precision
        squares += slope_weight * slope * slope - precision * learnt * learnt
        penalty = 0.5 * math.log(slope_weight / precision)
        slope, slope_sd = learnt, 1 / math.sqrt(precision)
    # Rounding can leave a perfect line with a sum of squares just below 0.
    squares = max(0.0, squares)

    # A written number is inexact: where the samples scatter less than it does, it counts for less.
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
