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
    run_sigma     by how much may a whole run be off?   past runs, weighted as the plan

The third cannot follow from the second: a slow machine slows all functions of a run together, a
larger data set only some. So neither uncertainties of functions are added, nor their variances.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import NamedTuple

from dagnb.planning.planner import UNKNOWN, Basis
from dagnb.prediction.observation import Batch, Point

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


# ---- past errors ----

# Priors: by how much runs, and tasks of one run, are expected to differ before several were seen.
RUN_SIGMA, TASK_SIGMA = 0.3, 0.2
# The same for calls that were seen before: measured times of equal calls repeat better.
CALL_RUN_SIGMA, CALL_TASK_SIGMA = 0.15, 0.1
# Effective samples the prior is worth: one large run.
PRIOR_SAMPLES = 9.0
# Errors are cut to a factor of e**3: one outlier must not become the spread.
LARGEST = 3.0
# Whole runs remembered.
RUNS = 40
# Functions remembered of each run: those that took longest.
FUNCTIONS = 100
# The share of a plan's time that a past run must cover to count as evidence for it.
COVERED = 0.5

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


class Total(NamedTuple):
    """The error of all tasks of one function in one run: log of real over predicted seconds.

    by_size, by_call: of predictions from sizes, from equal calls; None where there were none.
    """

    by_size: float | None
    by_call: float | None


class TaskContribution(NamedTuple):
    """The part that one task has in a run.

    name: of its function. seconds: predicted. own: standard deviation of its own error.
    is_same_call: True if it was predicted from equal calls.
    """

    name: str
    seconds: float
    own: float
    is_same_call: bool


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


def past_errors(batches: Sequence[Batch], *, of_calls: bool = False) -> list[tuple[float, float]]:
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
        run = [_cut(error) for error, _ in past_errors([batch], of_calls=of_calls)]
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


def run_totals(run: Mapping[str, Batch]) -> dict[str, Total]:
    """Returns the errors of one run by function, without those never predicted."""
    seconds = {}
    for name, batch in run.items():
        stored_s = sum(math.exp(point.y) for point in batch.points)
        seconds[name] = stored_s * batch.n / len(batch.points)

    totals = {}
    for name in sorted(run, key=lambda name: (-seconds[name], name))[:FUNCTIONS]:
        points = run[name].points
        total = Total(
            _total_error(points),
            _total_error(points, of_calls=True),
        )
        if total != (None, None):
            totals[name] = total
    return totals


def run_sigma(runs: Iterable[Mapping[str, Total]], tasks: Sequence[TaskContribution]) -> float:
    """Returns the standard deviation of the factor by which a run of these tasks may be off.

    A prior counts as one more run; what the tasks' own errors explain is taken off.
    O(tasks + functions of runs).
    """
    whole = sum(task.seconds for task in tasks)
    if whole <= 0:
        return RUN_SIGMA

    shares: dict[str, float] = {}
    call_shares: dict[str, float] = {}
    noise = 0.0
    for task in tasks:
        share = task.seconds / whole
        shares[task.name] = shares.get(task.name, 0.0) + share
        call_shares.setdefault(task.name, 0.0)
        if task.is_same_call:
            call_shares[task.name] += share
        noise += (share * task.own) ** 2

    n, squares = 0, 0.0
    for run in runs:
        error = _run_error(run, shares, call_shares)
        if error is not None:
            n += 1
            squares += error * error

    from_calls = sum(call_shares.values())
    prior = from_calls * CALL_RUN_SIGMA**2 + (1.0 - from_calls) * RUN_SIGMA**2
    shared = max(0.0, squares - n * noise)
    return math.sqrt((max(0.0, prior) + shared) / (1 + n))


def _run_error(
    run: Mapping[str, Total],
    shares: Mapping[str, float],
    call_shares: Mapping[str, float],
) -> float | None:
    """Returns the error that a past run would have had with these shares of time.

    Returns None when its functions cover less than COVERED of the time.
    """
    covered = real = 0.0
    for name, share in shares.items():
        total = run.get(name)
        if total is None:
            continue
        # A function counts as it is mostly predicted in this plan: from calls or from sizes.
        error = total.by_call if call_shares[name] > share / 2 else total.by_size
        if error is not None:
            covered += share
            real += share * math.exp(error)
    if covered < COVERED:
        return None
    return math.log(real / covered)


def _total_error(points: Sequence[Point], *, of_calls: bool = False) -> float | None:
    """Returns log(real / predicted seconds) of all tasks together; None if none was predicted."""
    real = predicted = 0.0
    for point in points:
        error = point.error(of_calls=of_calls)
        if error is not None:
            real += math.exp(point.y)
            predicted += math.exp(point.y - error)
    if predicted <= 0:
        return None
    return _cut(math.log(real / predicted))


def _cut(error: float) -> float:
    return max(-LARGEST, min(LARGEST, error))
