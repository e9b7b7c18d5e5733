"""A predicted quantity: a distribution on the log scale that says where it comes from.

Quantiles at fixed probabilities instead of a normal law: measured residuals are skewed and have long tails, and what
planners ask for are quantiles.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, replace
from statistics import NormalDist

PROBABILITIES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
_inv_cdf = NormalDist().inv_cdf
SCORES = tuple(_inv_cdf(p) for p in PROBABILITIES)
"""standard normal quantiles at PROBABILITIES"""

Shape = tuple[float, ...]
"""quantiles of log(value / median) at PROBABILITIES: ascending, 0 in the middle"""


def normal(sigma: float) -> Shape:
    """The shape of a lognormal law with this standard deviation of the logarithm."""
    return tuple(sigma * score for score in SCORES)


def widened(shape: Shape, sigma: float) -> Shape:
    """The shape with independent doubt added: each quantile moves out as variances add."""
    if sigma <= 0:
        return shape
    return tuple(
        math.copysign(math.hypot(offset, sigma * score), score)
        for offset, score in zip(shape, SCORES, strict=True)
    )


@dataclass(frozen=True, slots=True)
class Estimate:
    """A distribution of a quantity >= 0, in the unit of what was predicted: seconds or bytes.

    n_samples: effective, as samples of one run count less than samples of several. source: in words.
    is_known False: nothing was measured or said of this function, the numbers are a wide default.
    is_same_call: it rests on equal calls of earlier runs. strange: standard deviation within the spread that comes of
    what was never seen, sizes or code.
    plus: was added before taking the logarithm (1 for sizes, which may be 0).
    """

    median: float
    shape: Shape
    n_samples: float = 0.0
    source: str = "unknown"
    is_known: bool = False
    plus: float = 0.0
    is_same_call: bool = False
    strange: float = 0.0

    def quantile(self, p: float) -> float:
        """The value that is not exceeded with probability p, 0 < p < 1. Ascending in p. O(1)."""
        return self.at_score(_inv_cdf(p))

    def at_score(self, score: float) -> float:
        """The quantile whose probability is that of a standard normal below this score: for scenarios.

        Linear in the score between the known quantiles and beyond the outermost. Scores that share a part among the
        tasks of a run give times that are correlated, see `Sigma`.
        """
        last = min(max(bisect_right(SCORES, score), 1), len(SCORES) - 1)
        low, high = self.shape[last - 1], self.shape[last]
        offset = low + (high - low) * (score - SCORES[last - 1]) / (SCORES[last] - SCORES[last - 1])
        return max(0.0, (self.median + self.plus) * math.exp(min(offset, 600.0)) - self.plus)

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

    def doubted(self, sigma: float, source: str) -> Estimate:
        """The same median with more spread, for something that was never seen."""
        strange = math.hypot(self.strange, sigma)
        return replace(self, shape=widened(self.shape, sigma), source=source, strange=strange)
