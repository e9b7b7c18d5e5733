"""A predicted quantity: a distribution on the log scale, and the evidence for it.

    value = (median + plus) * exp(offset) - plus,   offset drawn from `shape`

    shape   quantiles of log(value / median) at 13 fixed probabilities;
            between them linear in the standard normal score

Quantiles instead of a normal law, because measured residuals are skewed and have long tails, and
quantiles are what planners ask for.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, replace
from statistics import NormalDist

from dagnb.planning.costs import UNKNOWN, Basis

PROBABILITIES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
# Bound once: a plan of thousands of tasks asks for tens of thousands of quantiles.
_inv_cdf = NormalDist().inv_cdf
# Standard normal quantiles at PROBABILITIES.
SCORES = tuple(_inv_cdf(p) for p in PROBABILITIES)

# Beyond this exponent math.exp overflows soon; a factor of e**600 is as good as infinite.
LARGEST_EXPONENT = 600.0

# Quantiles of log(value / median) at PROBABILITIES: ascending, 0 in the middle.
Shape = tuple[float, ...]


def normal(sigma: float) -> Shape:
    """Returns the shape of a lognormal law with this standard deviation of the logarithm."""
    return tuple(sigma * score for score in SCORES)


def widened(shape: Shape, sigma: float) -> Shape:
    """Returns the shape with independent uncertainty added, as variances add up."""
    if sigma <= 0:
        return shape
    # Each quantile is widened by itself, with the sign of its score, so the median and a skew stay.
    quantiles = []
    for offset, score in zip(shape, SCORES, strict=True):
        quantiles.append(math.copysign(math.hypot(offset, sigma * score), score))
    return tuple(quantiles)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A distribution of a quantity >= 0, in the unit of what was predicted: seconds or bytes.

    n_samples: effective samples; those of one run count less than those of several.
    basis: the evidence; where basis.is_known is False, the numbers are a wide default.
    plus: added before taking the logarithm (1 for sizes, which may be 0).
    is_same_call: True if it rests on equal calls of earlier runs.
    unseen_sigma: the part of the spread that comes of sizes or code never seen before.
    """

    median: float
    shape: Shape
    n_samples: float = 0.0
    basis: Basis = UNKNOWN
    plus: float = 0.0
    is_same_call: bool = False
    unseen_sigma: float = 0.0

    @property
    def source(self) -> str:
        """The evidence in words."""
        return self.basis.text

    @property
    def is_known(self) -> bool:
        """True if this function was measured or hinted at."""
        return self.basis.is_known

    def quantile(self, p: float) -> float:
        """Returns the value not exceeded with probability p, 0 < p < 1. Ascending in p. O(1)."""
        return self.at_score(_inv_cdf(p))

    def at_score(self, score: float) -> float:
        """Returns the quantile whose probability is that of a standard normal below this score.

        Linear in the score between the known quantiles and beyond the outermost. Scenarios use it:
        scores that share a part among the tasks of a run give correlated times, see `Sigma`.
        """
        last = min(max(bisect_right(SCORES, score), 1), len(SCORES) - 1)
        low, high = self.shape[last - 1], self.shape[last]
        step = SCORES[last] - SCORES[last - 1]
        offset = low + (high - low) * (score - SCORES[last - 1]) / step
        grown = (self.median + self.plus) * math.exp(min(offset, LARGEST_EXPONENT))
        return max(0.0, grown - self.plus)

    @property
    def p50(self) -> float:
        """The median: as often too low as too high."""
        return self.median

    @property
    def p90(self) -> float:
        """The cautious value: exceeded once in ten."""
        return self.quantile(0.9)

    @property
    def spread(self) -> float:
        """Standard deviation of the logarithm, from the p10 and p90; 0.1 is about 10 %."""
        return (self.shape[-3] - self.shape[2]) / (SCORES[-3] - SCORES[2])

    def less_certain(self, sigma: float, suffix: str) -> Estimate:
        """Returns the same median with more spread, for something never seen; suffix: says why."""
        return replace(
            self,
            shape=widened(self.shape, sigma),
            basis=replace(self.basis, text=self.basis.text + suffix),
            unseen_sigma=math.hypot(self.unseen_sigma, sigma),
        )
