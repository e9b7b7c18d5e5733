"""The two regressions of a function model, on the log scale: by bytes read, and by resources.

    y = level + slope * x + noise            x = log(bytes read + bend)
    y = ... - gamma * log(share)             share of CPUs, or of memory

Both are Bayesian with priors in closed form, so that few samples give sensible lines, and a plan of
thousands of tasks does not wait for fits.

A line, and its prior
---------------------
    Prior (hints of @task) + Moments (weighted points)  ->  LinearModel (posterior, evidence)

Normal-inverse-gamma prior. With slope_weight = inf the slope is fixed and only the level is learnt.
Source: Bishop 2006, Pattern Recognition and Machine Learning, section 3.5 (evidence) and exercise
3.12.

The effect of CPUs and memory
-----------------------------
    gamma = 0   sequential code: more CPUs do not help
    gamma = 1   perfectly parallel code: twice the CPUs, half the time

Resources often change from run to run, when much else changes, too; so each run has a level of its
own here (a random intercept), and differences within a run teach most.
Source: Laird and Ware 1982, Random-effects models for longitudinal data, doi:10.2307/2529876
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import mul

from dagnb.graph.options import TaskOptions
from dagnb.prediction.observation import Batch, Point, Target

# ---- a line ----

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


# ---- CPUs and memory ----

# Prior of an exponent: half-way between sequential and parallel, either within two deviations.
GAMMA, GAMMA_SD = 0.5, 0.3
# Prior of the growth with input size; learnt beside gamma, else large inputs pass for few CPUs.
SLOPE, SLOPE_SD = 0.5, 0.5
# First guess of both variances, within a run and between runs; worth two samples.
NOISE = 0.09

Vector = list[float]
Matrix = list[Vector]


@dataclass(frozen=True, slots=True)
class ResourceExponent:
    """The exponent of one resource, with its uncertainty.

    origin: log of the share that gains are relative to; None if no sample names a share.
    """

    gamma: float
    sd: float
    origin: float | None = None

    def distance(self, share: float | None) -> float:
        """Returns the log ratio to the origin; 0 where either is left to the launcher."""
        if share is None or self.origin is None:
            return 0.0
        return math.log(share) - self.origin

    def uncertainty(self, share: float | None) -> float:
        """Returns the standard deviation of this share's effect, on the log scale."""
        if share is None:
            return 0.0
        # Without an origin the share is compared with an unknown one: a factor of e is assumed.
        return self.sd * (1.0 if self.origin is None else abs(self.distance(share)))


@dataclass(frozen=True, slots=True)
class Scaling:
    """The exponents of both resources."""

    cpus: ResourceExponent = ResourceExponent(GAMMA, GAMMA_SD)
    memory: ResourceExponent = ResourceExponent(GAMMA, GAMMA_SD)

    def gain(self, cpus: float | None, memory_mb: float | None) -> float:
        """Returns log(time at the origin / time with these shares)."""
        by_cpus = self.cpus.gamma * self.cpus.distance(cpus)
        return by_cpus + self.memory.gamma * self.memory.distance(memory_mb)

    def at_origin(self, point: Point) -> float:
        """Returns the log value that this task would have had with the shares of the origin."""
        return point.y + self.gain(point.cpus, point.memory_mb)

    def uncertainty(self, cpus: float | None, memory_mb: float | None) -> float:
        """Returns the standard deviation of the gain."""
        return math.hypot(self.cpus.uncertainty(cpus), self.memory.uncertainty(memory_mb))


# The scaling of output sizes: they depend on no share.
FIXED = Scaling(ResourceExponent(0.0, 0.0), ResourceExponent(0.0, 0.0))


def scaling(batches: Sequence[Batch]) -> Scaling:
    """Returns the exponents, by generalised least squares. O(points)."""
    points = [point for batch in batches for point in batch.points]
    cpus = [point.cpus for point in points if point.cpus is not None]
    memory = [point.memory_mb for point in points if point.memory_mb is not None]
    cpus_origin, memory_origin = _origin(cpus), _origin(memory)
    # Some launchers grant CPU time in proportion to memory; where CPUs are named, memory adds none.
    start = Scaling(
        ResourceExponent(GAMMA, GAMMA_SD, cpus_origin),
        ResourceExponent(GAMMA if cpus_origin is None else 0.0, GAMMA_SD, memory_origin),
    )
    if len(set(cpus)) <= 1 and len(set(memory)) <= 1:
        return start  # shares do not vary: the prior

    # Coefficients depend on the variances and they on the residuals: three rounds settle both.
    within = between = NOISE
    for _ in range(3):
        means, covariance = _fit(batches, start, within, between)
        within, between = _variances(batches, start, means)
    return Scaling(
        ResourceExponent(-means[2], math.sqrt(covariance[2][2]), cpus_origin),
        ResourceExponent(-means[3], math.sqrt(covariance[3][3]), memory_origin),
    )


def _origin(shares: Sequence[float]) -> float | None:
    """Returns the log of the median share, None without any."""
    if not shares:
        return None
    return math.log(sorted(shares)[len(shares) // 2])


def _row(point: Point, start: Scaling) -> Vector:
    x = math.log(point.n_bytes + 1)
    return [1.0, x, start.cpus.distance(point.cpus), start.memory.distance(point.memory_mb)]


def _fit(
    batches: Sequence[Batch],
    start: Scaling,
    within: float,
    between: float,
) -> tuple[Vector, Matrix]:
    """Returns the posterior mean of (level, slope, -gamma of CPUs, of memory), its covariance."""
    means = (0.0, SLOPE, -start.cpus.gamma, -start.memory.gamma)
    weights = (1e-6, SLOPE_SD**-2, GAMMA_SD**-2, GAMMA_SD**-2)
    precision = [[0.0] * 4 for _ in range(4)]
    for i in range(4):
        precision[i][i] = weights[i]
    target = list(map(mul, weights, means))

    for batch in batches:
        rows = [_row(point, start) for point in batch.points]
        columns = list(zip(*rows, strict=True))
        ys = [point.y for point in batch.points]
        # Inverse of within * I + between * 11', by Sherman and Morrison: a run's own level is
        # projected out.
        shrink = between / (within + len(rows) * between)
        sums = list(map(sum, columns))
        total = sum(ys)
        for i in range(4):
            target[i] += (_dot(columns[i], ys) - shrink * sums[i] * total) / within
            for j in range(4):
                covered = shrink * sums[i] * sums[j]
                precision[i][j] += (_dot(columns[i], columns[j]) - covered) / within

    covariance = _inverse(precision)
    return [_dot(row, target) for row in covariance], covariance


def _variances(batches: Sequence[Batch], start: Scaling, means: Vector) -> tuple[float, float]:
    """Returns the variances of residuals within a run, and of the runs' mean residuals."""
    # Each variance starts as if two samples had been seen, so that one run cannot make it 0.
    within, degrees, run_means = 2 * NOISE * 0.1, 2.0, []
    for batch in batches:
        residuals = [point.y - _dot(_row(point, start), means) for point in batch.points]
        mean = sum(residuals) / len(residuals)
        within += sum((residual - mean) ** 2 for residual in residuals)
        degrees += len(residuals) - 1
        run_means.append(mean)
    between = (2 * NOISE + _dot(run_means, run_means)) / (2 + len(run_means))
    return within / degrees, between


def _dot(left: Sequence[float], right: Sequence[float]) -> float:
    total: float = sum(map(mul, left, right))
    return total


def _inverse(matrix: Matrix) -> Matrix:
    """Returns the inverse of a symmetric, positive definite matrix, by Gauss-Jordan."""
    n = len(matrix)
    rows = [[*row, *[0.0] * n] for row in matrix]
    for i in range(n):
        rows[i][n + i] = 1.0
    # Positive definite: the pivots on the diagonal are never 0, so rows need not be swapped.
    for i in range(n):
        pivot = rows[i][i]
        rows[i] = [value / pivot for value in rows[i]]
        for j in range(n):
            if j == i:
                continue
            factor = rows[j][i]
            rows[j] = [a - factor * b for a, b in zip(rows[j], rows[i], strict=True)]
    return [row[n:] for row in rows]
