"""The errors of past predictions: their quantiles, and how much of them a whole run shares.

    error = log(real / predicted) = shared by the run (slow machine, other data) + the task's own

Three questions have three answers here:

    shape       by how much may one task be off?         quantiles of all errors
    sigma       which part do tasks of a run share?      analysis of variance of the errors
    run_sigma   by how much may a whole run be off?      past runs, weighted as the plan

The third cannot follow from the second: a slow machine slows all functions of a run together, a
larger data set only some. So neither uncertainties of functions are added, nor their variances.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

from dagnb.prediction.estimate import PROBABILITIES, SCORES, Shape
from dagnb.prediction.observation import Batch, Point

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


def shape(errors: Sequence[tuple[float, float]], sigma: float) -> Shape:
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


def sigma(batches: Sequence[Batch], *, of_calls: bool = False) -> Sigma:
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
