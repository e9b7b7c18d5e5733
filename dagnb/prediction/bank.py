"""What is known of one quantity of one function: remembered runs, and how well each expert foretold them.

The expert with the least loss predicts; the spread is that of what was missed before. Both are measured at plan time:
a whole run is predicted from what was known before it, as plans are, and then learnt. Residuals within a run would be
too small, because runs differ as a whole.
Source: Dawid 1984, prequential statistics, doi:10.2307/2981683; Vovk et al. 2005, Algorithmic Learning in a Random
World (conformal prediction).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import NormalDist

from dagnb.prediction.batch import Batch, Point, appended, thinned
from dagnb.prediction.estimate import PROBABILITIES, SCORES, Estimate, Shape, widened
from dagnb.prediction.experts import BAYES, EXPERTS, Expert, experts
from dagnb.prediction.prior import VAGUE, Prior
from dagnb.prediction.scaling import FIXED, Scaling, scaling
from dagnb.prediction.target import Target

FORGET = 0.98
"""what a loss keeps of its weight for each effective sample that follows"""
WORST = 3.0
"""a miss by e**3 is as bad as any larger one: one outlier shall not choose"""
PATIENCE = 5.0
"""effective samples that the order of EXPERTS is worth before there are losses"""
RUN_SIGMA = 0.5
"""how much runs of one function are held to differ, before several were seen; worth PSEUDO effective samples"""
PSEUDO = 9.0
BEYOND_SIGMA = 0.25
"""doubt of the exponent outside the sizes seen"""
_NORMAL = tuple(NormalDist().inv_cdf((i + 0.5) / 21) for i in range(21))


@dataclass(frozen=True, slots=True)
class Fit:
    """What a bank predicts with, made of its memory."""

    scale: Scaling
    experts: tuple[Expert, ...]
    chosen: int
    shape: Shape
    sizes: tuple[float, float]
    n_samples: float

    def at(self, n_bytes: int, cpus: float | None, memory_mb: float | None) -> float:
        """Log of the median."""
        return self.experts[self.chosen].at(n_bytes) - self.scale.gain(cpus, memory_mb)

    def doubt(self, n_bytes: int, cpus: float | None, memory_mb: float | None) -> float:
        """Standard deviation of what is beyond the sizes and shares seen."""
        x = math.log(n_bytes + 1)
        beyond = max(0.0, self.sizes[0] - x, x - self.sizes[1])
        return math.hypot(BEYOND_SIGMA * beyond, self.scale.doubt(cpus, memory_mb))


@dataclass(frozen=True)
class Bank:
    """losses: of each of EXPERTS, sums of discounted absolute misses; weight: of the same discounted samples."""

    target: Target
    prior: Prior = VAGUE
    batches: tuple[Batch, ...] = ()
    losses: tuple[float, ...] = (0.0,) * len(EXPERTS)
    weight: float = 0.0

    @cached_property
    def fit(self) -> Fit:
        """What it predicts with; of at least one run. O(points log points), once."""
        scale = FIXED if self.target is Target.OUTPUT else scaling(self.batches)
        found, best = experts(self.batches, scale, self.prior)
        xs = [math.log(point.n_bytes + 1) for batch in self.batches for point in batch.points]
        return Fit(
            scale=scale,
            experts=found,
            chosen=_chosen(self),
            shape=_shape(self.batches, math.hypot(best.sigma, RUN_SIGMA)),
            sizes=(min(xs), max(xs)),
            n_samples=sum(batch.weight for batch in self.batches),
        )

    def learnt(self, points: Sequence[Point], ended_at: float) -> Bank:
        """With one more run, predicted before it is seen. O(points)."""
        batch = thinned(points, ended_at)
        if not self.batches:
            return replace(self, batches=(batch,))
        known = self.fit
        losses = [0.0] * len(EXPERTS)
        missed = []
        for point in batch.points:
            gain = known.scale.gain(point.cpus, point.memory_mb)
            misses = [point.y + gain - expert.at(point.n_bytes) for expert in known.experts]
            losses = [sofar + min(abs(miss), WORST) for sofar, miss in zip(losses, misses, strict=True)]
            missed.append(point._replace(missed=misses[known.chosen]))
        keep = FORGET**batch.weight
        each = batch.weight / len(missed)
        return replace(
            self,
            batches=appended(self.batches, replace(batch, points=tuple(missed))),
            losses=tuple(keep * old + each * new for old, new in zip(self.losses, losses, strict=True)),
            weight=keep * self.weight + batch.weight,
        )

    def estimate(self, n_bytes: int, cpus: float | None, memory_mb: float | None) -> Estimate:
        """What the chosen expert says, with the spread of what it and its predecessors missed."""
        known = self.fit
        median = math.exp(min(known.at(n_bytes, cpus, memory_mb), 600.0)) - self.target.plus
        return Estimate(
            max(0.0, median),
            widened(known.shape, known.doubt(n_bytes, cpus, memory_mb)),
            n_samples=known.n_samples,
            source=f"{sum(batch.n for batch in self.batches)} samples, {EXPERTS[known.chosen]}",
            is_known=True,
            plus=self.target.plus,
        )


def _chosen(bank: Bank) -> int:
    """The expert of the least mean loss, with a little patience for the order they are listed in."""
    order = [0.02 * i for i in range(len(EXPERTS))]
    if bank.prior != VAGUE:
        order = [0.5] * BAYES + [0.0]
    scores = [(loss + PATIENCE * first) / (bank.weight + PATIENCE) for loss, first in zip(bank.losses, order, strict=True)]
    return scores.index(min(scores))


def _shape(batches: Sequence[Batch], sigma: float) -> Shape:
    """Quantiles of the misses, each run by its effective samples, with one imagined normal run of this sigma."""
    pairs = [
        (point.missed, batch.weight / len(batch.points))
        for batch in batches
        for point in batch.points
        if point.missed is not None
    ]
    pairs += [(sigma * score, PSEUDO / len(_NORMAL)) for score in _NORMAL]
    pairs.sort()
    total = sum(weight for _, weight in pairs)
    found, seen, i = [], 0.0, 0
    for p, score in zip(PROBABILITIES, SCORES, strict=True):
        while i < len(pairs) - 1 and seen + pairs[i][1] / 2 < p * total:
            seen += pairs[i][1]
            i += 1
        value = pairs[i][0]
        found.append(max(0.0, value) if score > 0 else min(0.0, value) if score < 0 else 0.0)
    return tuple(found)
