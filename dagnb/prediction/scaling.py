"""How time falls with CPUs and memory: log t = ... - gamma * log(share), gamma learnt for each function.

Resources often change from run to run, when much else changes, too; so each run has a level of its own here (a random
intercept), and what differs within a run teaches most.
Source: Laird and Ware 1982, Random-effects models for longitudinal data, doi:10.2307/2529876
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dagnb.prediction.batch import Batch, Point

GAMMA, GAMMA_SD = 0.5, 0.3
"""prior of an exponent: 0 is sequential, 1 perfectly parallel"""
SLOPE, SLOPE_SD = 0.5, 0.5
NOISE = 0.09
"""first guess of both variances, in a run and between runs, as good as two samples"""

Vector = list[float]
Matrix = list[Vector]


@dataclass(frozen=True, slots=True)
class ResourceExponent:
    """One resource: exponent with its doubt, and the log share it is measured from; None: no sample says."""

    gamma: float
    sd: float
    origin: float | None = None

    def distance(self, share: float | None) -> float:
        """Log ratio to the origin; 0 where either is left to the launcher."""
        return 0.0 if share is None or self.origin is None else math.log(share) - self.origin

    def doubt(self, share: float | None) -> float:
        """Standard deviation, on the log scale, of what this share does; as a factor of e where it is unknown."""
        if share is None:
            return 0.0
        return self.sd * (1.0 if self.origin is None else abs(self.distance(share)))


@dataclass(frozen=True, slots=True)
class Scaling:
    """Both resources. The exponent of memory starts at 0 where CPUs are known: then memory buys no CPU time."""

    cpus: ResourceExponent = ResourceExponent(GAMMA, GAMMA_SD)
    memory: ResourceExponent = ResourceExponent(GAMMA, GAMMA_SD)

    def gain(self, cpus: float | None, memory_mb: float | None) -> float:
        """What to subtract from log t at the origin to have it at these shares."""
        return self.cpus.gamma * self.cpus.distance(
            cpus
        ) + self.memory.gamma * self.memory.distance(memory_mb)

    def doubt(self, cpus: float | None, memory_mb: float | None) -> float:
        """Standard deviation of the gain."""
        return math.hypot(self.cpus.doubt(cpus), self.memory.doubt(memory_mb))


FIXED = Scaling(ResourceExponent(0.0, 0.0), ResourceExponent(0.0, 0.0))
"""sizes depend on no share"""


def scaling(batches: Sequence[Batch]) -> Scaling:
    """The exponents by generalised least squares; the prior where shares do not vary. O(points)."""
    points = [point for batch in batches for point in batch.points]
    cpus, memory = _origin([p.cpus for p in points]), _origin([p.memory_mb for p in points])
    start = Scaling(
        ResourceExponent(GAMMA, GAMMA_SD, cpus),
        ResourceExponent(GAMMA if cpus is None else 0.0, GAMMA_SD, memory),
    )
    if not any(_varies([getattr(p, name) for p in points]) for name in ("cpus", "memory_mb")):
        return start
    inside = between = NOISE
    for _ in range(3):
        found, covariance = _fit(batches, start, inside, between)
        inside, between = _variances(batches, start, found)
    return Scaling(
        ResourceExponent(-found[2], math.sqrt(covariance[2][2]), cpus),
        ResourceExponent(-found[3], math.sqrt(covariance[3][3]), memory),
    )


def _origin(shares: Sequence[float | None]) -> float | None:
    known = sorted(math.log(share) for share in shares if share is not None)
    return known[len(known) // 2] if known else None


def _varies(shares: Sequence[float | None]) -> bool:
    known = {share for share in shares if share is not None}
    return len(known) > 1


def _row(point: Point, start: Scaling) -> Vector:
    x = math.log(point.n_bytes + 1)
    return [1.0, x, start.cpus.distance(point.cpus), start.memory.distance(point.memory_mb)]


def _fit(
    batches: Sequence[Batch], start: Scaling, inside: float, between: float
) -> tuple[Vector, Matrix]:
    """Posterior mean of (level, slope, -gamma of CPUs, of memory) and its covariance."""
    means = (0.0, SLOPE, -start.cpus.gamma, -start.memory.gamma)
    weights = (1e-6, SLOPE_SD**-2, GAMMA_SD**-2, GAMMA_SD**-2)
    precision = [[weights[i] if i == j else 0.0 for j in range(4)] for i in range(4)]
    target = [weight * mean for weight, mean in zip(weights, means, strict=True)]
    for batch in batches:
        rows = [_row(point, start) for point in batch.points]
        ys = [point.y for point in batch.points]
        shrink = between / (inside + len(rows) * between)
        sums, total = [sum(column) for column in zip(*rows, strict=True)], sum(ys)
        for i in range(4):
            target[i] += (
                sum(r[i] * y for r, y in zip(rows, ys, strict=True)) - shrink * sums[i] * total
            ) / inside
            for j in range(4):
                precision[i][j] += (
                    sum(r[i] * r[j] for r in rows) - shrink * sums[i] * sums[j]
                ) / inside
    covariance = _inverse(precision)
    return [sum(c * t for c, t in zip(row, target, strict=True)) for row in covariance], covariance


def _variances(batches: Sequence[Batch], start: Scaling, found: Vector) -> tuple[float, float]:
    """Of residuals in a run and of the runs' means; each as if two samples of NOISE had been seen."""
    inside, degrees, means = 2 * NOISE * 0.1, 2.0, []
    for batch in batches:
        missed = [
            p.y - sum(a * b for a, b in zip(_row(p, start), found, strict=True))
            for p in batch.points
        ]
        mean = sum(missed) / len(missed)
        inside += sum((m - mean) ** 2 for m in missed)
        degrees += len(missed) - 1
        means.append(mean)
    between = (2 * NOISE + sum(m * m for m in means)) / (2 + len(means))
    return inside / degrees, between


def _inverse(matrix: Matrix) -> Matrix:
    """Gauss-Jordan; the matrix is symmetric and positive definite, so no pivoting is needed."""
    n = len(matrix)
    rows = [[*row, *(1.0 if i == j else 0.0 for j in range(n))] for i, row in enumerate(matrix)]
    for i in range(n):
        pivot = rows[i][i]
        rows[i] = [value / pivot for value in rows[i]]
        for j in range(n):
            if j != i:
                factor = rows[j][i]
                rows[j] = [a - factor * b for a, b in zip(rows[j], rows[i], strict=True)]
    return [row[n:] for row in rows]
