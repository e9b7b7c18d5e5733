"""A predicted quantity: a distribution on the log scale, and its spread, from past errors.

    value = (median + plus) * exp(offset) - plus,   offset drawn from `shape`

    shape   quantiles of log(value / median) at 13 fixed probabilities;
            between them linear in the standard normal score

Quantiles instead of a normal law, because measured residuals are skewed and have long tails, and
quantiles are what planners ask for.

The spread comes from errors of past predictions:

    error = log(real / predicted) = shared by the run (slow machine, other data) + the task's own

Three questions have three answers:

    error_shape   by how much may one task be off?      quantiles of all errors
    error_sigma   which part do tasks of a run share?   analysis of variance of the errors
    residuals     how do tasks of a run differ?         errors about the mean of their run

By how much a whole run may be off, is the fourth; see run_errors.py.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from statistics import NormalDist

from dagnb.planning.planner import UNKNOWN, Basis
from dagnb.prediction.observation import Batch

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
    code_sigma, size_sigma: the parts of the spread that come of code (or a whole function), and of
    sizes, that never ran before.
    """

    median: float
    shape: Shape
    n_samples: float = 0.0
    basis: Basis = UNKNOWN
    plus: float = 0.0
    is_same_call: bool = False
    code_sigma: float = 0.0
    size_sigma: float = 0.0

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
        """Returns the same median with more spread, for code never seen; suffix: says why."""
        return replace(
            self,
            shape=widened(self.shape, sigma),
            basis=replace(self.basis, text=self.basis.text + suffix),
            code_sigma=math.hypot(self.code_sigma, sigma),
        )


# ---- past errors ----

# Priors: by how much runs, and tasks of one run, are expected to differ before several were seen.
RUN_SIGMA, TASK_SIGMA = 0.3, 0.2
# The same for calls that were seen before: measured times of equal calls repeat better.
CALL_RUN_SIGMA, CALL_TASK_SIGMA = 0.15, 0.1
# Effective samples the prior is worth: one large run.
PRIOR_SAMPLES = 9.0
# Errors are cut to a factor of e**3: one outlier must not become the spread.
LARGEST = 3.0
# Values by which the law of residuals is described: the outermost is exceeded once in 130.
RESIDUALS = 64
# Effective samples that an imagined normal law of residuals is worth.
PRIOR_RESIDUALS = 1.0

# The prior as an imagined run of 21 evenly spread errors.
_NORMAL = tuple(NormalDist().inv_cdf((i + 0.5) / 21) for i in range(21))


@dataclass(frozen=True, slots=True)
class Sigma:
    """Standard deviations of log(value / median).

    shared: of the factor that all tasks of a run share. own: of each task.
    """

    shared: float = RUN_SIGMA
    own: float = TASK_SIGMA

    @property
    def correlation(self) -> float:
        """The correlation r of two tasks of a run, 0 to 1.

        In a scenario a task has the score sqrt(r) * run's score + sqrt(1 - r) * its own.
        """
        return self.shared**2 / (self.shared**2 + self.own**2)


def error_shape(errors: Sequence[tuple[float, float]], sigma: float) -> Shape:
    """Returns quantiles of weighted errors (error, weight), ascending, 0 in the middle. O(n log n).

    sigma: of one imagined normal run that is added, so that few errors do not give a narrow shape.
    """
    weight = PRIOR_SAMPLES / len(_NORMAL)
    pairs = sorted([*errors, *[(sigma * score, weight) for score in _NORMAL]])
    total = sum(weight for _, weight in pairs)

    quantiles, passed, i = [], 0.0, 0
    for p, score in zip(PROBABILITIES, SCORES, strict=True):
        while i < len(pairs) - 1 and passed + pairs[i][1] / 2 < p * total:
            passed += pairs[i][1]
            i += 1
        # Biased predictions would move the middle, but the median is the prediction: it stays 0.
        if p == 0.5:
            quantiles.append(0.0)
        elif score > 0:
            quantiles.append(max(0.0, pairs[i][0]))
        else:
            quantiles.append(min(0.0, pairs[i][0]))
    return tuple(quantiles)


def task_errors(batches: Sequence[Batch], *, of_calls: bool = False) -> list[tuple[float, float]]:
    """Returns (error, weight) of the tasks that had been predicted before they were seen.

    of_calls: the errors of predictions from equal calls instead of those from sizes.
    """
    errors = []
    for batch in batches:
        for point in batch.points:
            error = point.error(of_calls=of_calls)
            if error is not None:
                errors.append((error, batch.point_weight))
    return errors


def error_sigma(batches: Sequence[Batch], *, of_calls: bool = False) -> Sigma:
    """Returns the parts of the errors, by analysis of variance. O(points)."""
    # The prior counts as one more run.
    prior = Sigma(CALL_RUN_SIGMA, CALL_TASK_SIGMA) if of_calls else Sigma()
    squares, degrees = 0.0, 1
    means: list[tuple[float, int]] = []
    for batch in batches:
        run = [_cut(error) for error, _ in task_errors([batch], of_calls=of_calls)]
        if not run:
            continue
        mean = sum(run) / len(run)
        means.append((mean, len(run)))
        for error in run:
            squares += (error - mean) ** 2
        degrees += len(run) - 1

    own = (prior.own**2 + squares) / degrees
    # The mean of n tasks scatters by own / n even where runs share nothing: that part is taken off.
    between = sum(max(0.0, mean * mean - own / n) for mean, n in means)
    shared = (prior.shared**2 + between) / (1 + len(means))
    return Sigma(math.sqrt(shared), math.sqrt(own))


def residuals(
    runs: Iterable[tuple[Sequence[float], float]],
    sigma: float,
) -> tuple[float, ...]:
    """Returns RESIDUALS equally likely logs of the factor that a task does not share with its run.

    runs: (errors of the tasks of one run, weight of each). They are taken about the mean of their
    run and keep their law: two modes stay two. sigma: of PRIOR_RESIDUALS imagined normal ones.
    O(n log n).
    """
    pairs: list[tuple[float, float]] = []
    measured = [(errors, weight) for errors, weight in runs if len(errors) > 1]
    for (errors, weight), centre in zip(measured, _centres(measured), strict=True):
        pairs += [(error - centre, weight) for error in errors]
    return equally_likely(pairs, sigma)


@cache
def usual_residuals() -> tuple[float, ...]:
    """Returns those of a function that was never measured."""
    return residuals((), TASK_SIGMA)


def _centres(runs: Sequence[tuple[Sequence[float], float]]) -> list[float]:
    """Returns the level of each run, less its mean over all: a mean of its own and that of all.

    The mean of a few tasks says little of a run whose tasks differ much: errors about it would blur
    two modes into one. Source: Gelman et al. 2013, Bayesian Data Analysis, section 5.4.
    """
    squares, degrees, means = 0.0, 0, []
    for errors, _ in runs:
        mean = sum(errors) / len(errors)
        means.append(mean)
        for error in errors:
            squares += (error - mean) ** 2
        degrees += len(errors) - 1
    if not degrees:
        return means

    own = squares / degrees
    level = sum(means) / len(means)
    apart = 0.0
    for mean, (errors, _) in zip(means, runs, strict=True):
        apart += max(0.0, (mean - level) ** 2 - own / len(errors))
    between = apart / len(means)
    centres = []
    for mean, (errors, _) in zip(means, runs, strict=True):
        noise = own / len(errors)
        trust = between / (between + noise) if noise > 0 else 1.0
        centres.append(level + trust * (mean - level))
    return centres


def equally_likely(weighted: Sequence[tuple[float, float]], sigma: float) -> tuple[float, ...]:
    """Returns RESIDUALS equally likely values of a law, from (error, weight). O(n log n).

    sigma: of PRIOR_RESIDUALS imagined normal ones that are added.
    """
    imagined = [(sigma * score, PRIOR_RESIDUALS / len(_NORMAL)) for score in _NORMAL]
    pairs = sorted([*imagined, *weighted])
    total = sum(weight for _, weight in pairs)
    values, passed, i = [], 0.0, 0
    for number in range(RESIDUALS):
        while i < len(pairs) - 1 and passed + pairs[i][1] < total * (number + 0.5) / RESIDUALS:
            passed += pairs[i][1]
            i += 1
        values.append(pairs[i][0])
    return tuple(values)


def _cut(error: float) -> float:
    return max(-LARGEST, min(LARGEST, error))
