"""The effect of CPUs and memory on run time, learnt for each function.

    log t = ... - gamma * log(share)

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

from dagnb.prediction.observation import Batch, Point

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
