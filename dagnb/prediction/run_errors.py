"""The errors of whole runs: by how much all tasks of a function were off together.

    past run     mean error of f, g, h     errors that the next run of f and g may have
    ---------    ---------------------     --------------------------------------------
    newest       0.1    0.1                f 0.1    g 0.1     weight 1
    before       0.0   -0.1                f 0.0    g -0.1    weight 0.9
    oldest                     0.4         (none: it says nothing of f and g)
    imagined                               both alike         weight 0.5

A scenario draws one of these runs, with the errors that its functions had together: a slow machine
slows all functions of a run, a larger data set only some, and neither follows from uncertainties of
the functions one by one.
Source: Davison and Hinkley 1997, Bootstrap Methods and their Application, section 3.8 (resampling
of whole groups).

Older runs count less, and large errors are forgotten sooner: a jump of all times widens the
forecasts of the next few runs, and then leaves them as the medians have left the old level.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import NormalDist
from typing import NamedTuple

from dagnb.planning.planner import PastErrors
from dagnb.prediction.estimate import CALL_RUN_SIGMA, RUN_SIGMA
from dagnb.prediction.experts import WORST
from dagnb.prediction.observation import Batch

# Whole runs remembered.
RUNS = 40
# Functions remembered of each run: those that took longest.
FUNCTIONS = 100
# The share of a plan's time that a past run must cover to count as evidence for it.
COVERED = 0.5
# The weight of a run, relative to the next newer one.
RECENT = 0.9
# An error of a factor of e ages 1 + HASTE times as quickly as a small one.
HASTE = 2.0
# The weight of the imagined run, relative to the newest one.
IMAGINED = 0.5
# Bandwidth of a kernel, in standard deviations, for one run. Silverman's 0.9 is for densities: it
# would make the few errors as wide again by a fifth.
KERNEL = 0.8
# Parts of its last error that the expected level of the next run may take over.
GAINS = (0.2, 0.5, 1.0)
# Part of its weight that the loss of a gain keeps from run to run.
GAIN_FORGET = 0.8
# The imagined run as quantiles of a normal law.
_NORMAL = tuple(NormalDist().inv_cdf((i + 0.5) / 9) for i in range(9))
# Quartiles of a normal law lie so many standard deviations apart.
_QUARTILES = 1.349


class Total(NamedTuple):
    """The mean error of all tasks of one function in one run, on the log scale.

    by_size, by_call: of predictions from sizes, from equal calls; None where there were none.
    n: tasks.
    """

    by_size: float | None
    by_call: float | None
    n: int = 1


class TaskContribution(NamedTuple):
    """The part that one task has in a run.

    name: of its function. seconds: predicted. own: standard deviation of its own error.
    is_same_call: True if it was predicted from equal calls.
    """

    name: str
    seconds: float
    own: float
    is_same_call: bool


class Shares(NamedTuple):
    """The parts of a plan's time: of each function, and of its tasks with equal calls."""

    of: Mapping[str, float]
    of_calls: Mapping[str, float]
    own: Mapping[str, float]

    @classmethod
    def among(cls, tasks: Sequence[TaskContribution]) -> Shares:
        """Returns the shares of tasks that take some time."""
        whole = sum(task.seconds for task in tasks)
        shares: dict[str, float] = {}
        call_shares: dict[str, float] = {}
        own: dict[str, float] = {}
        for task in tasks:
            share = task.seconds / whole
            shares[task.name] = shares.get(task.name, 0.0) + share
            call_shares.setdefault(task.name, 0.0)
            own[task.name] = max(own.get(task.name, 0.0), task.own)
            if task.is_same_call:
                call_shares[task.name] += share
        return cls(shares, call_shares, own)


def run_totals(run: Mapping[str, Batch]) -> dict[str, Total]:
    """Returns the mean errors of one run by function, without those never predicted."""
    seconds = {}
    for name, batch in run.items():
        stored_s = sum(math.exp(point.y) for point in batch.points)
        seconds[name] = stored_s * batch.n / len(batch.points)

    totals = {}
    for name in sorted(run, key=lambda name: (-seconds[name], name))[:FUNCTIONS]:
        batch = run[name]
        total = Total(batch.size_error, batch.call_error, batch.n)
        if total[:2] != (None, None):
            totals[name] = total
    return totals


def past_errors(
    runs: Iterable[Mapping[str, Total]], tasks: Sequence[TaskContribution]
) -> tuple[tuple[PastErrors, ...], float]:
    """Returns errors that a run of these tasks may have, and the noise beside them.

    runs: the newest last. The noise is the standard deviation of a kernel: few runs do not hold all
    errors that may come. No tasks have no errors. O(tasks + functions of runs).
    """
    if not sum(task.seconds for task in tasks) > 0:
        return (), 0.0

    shares = Shares.among(tasks)
    measured: list[dict[str, _Error]] = []
    for run in reversed(list(runs)):
        errors = _errors(run, shares)
        if errors:
            measured.append(errors)
    shared = {name: _shared_part(name, measured, shares.own[name]) for name in shares.of}
    seen: list[PastErrors] = []
    for age, errors in enumerate(measured):
        by_function = {name: shared[name] * error.mean for name, error in errors.items()}
        mean = _mean(by_function, shares)
        seen.append(PastErrors(by_function=by_function, mean=mean, weight=_weight(mean, age)))

    from_calls = sum(shares.of_calls.values())
    prior = math.sqrt(from_calls * CALL_RUN_SIGMA**2 + (1.0 - from_calls) * RUN_SIGMA**2)
    imagined = []
    for score in _NORMAL:
        alike = PastErrors(by_function={}, mean=prior * score, weight=IMAGINED / len(_NORMAL))
        imagined.append(alike)
    past = (*seen, *imagined)
    return past, _kernel(past)


def expected_level(levels: Sequence[float]) -> float:
    """Returns the level to expect after these, oldest first, by exponential smoothing.

    Of GAINS the one counts that would have predicted them best: a level that jumps is followed at
    once, one that only scatters is averaged. By squared errors, as for any mean: where one task a
    run has two modes, the last one is as often right as the mean, and much further off.
    """
    best = (math.inf, 0.0)
    for gain in GAINS:
        level, loss = levels[0], 0.0
        for i, seen in enumerate(levels[1:], 2):
            loss = GAIN_FORGET * loss + min(abs(seen - level), WORST) ** 2
            # The first few are averaged: the oldest one must not count for more than others.
            level += max(gain, 1 / i) * (seen - level)
        # A better one has to be better by a rounding error at least.
        if loss < best[0] - 1e-12:
            best = loss, level
    return best[1]


class _Error(NamedTuple):
    """The mean error of n tasks of a function in one run."""

    mean: float
    n: int


def _weight(error: float, age: int) -> float:
    """Returns the weight of a run, the newest of age 0.

    The larger an error, the sooner it is forgotten: predictions have followed a large one since.
    """
    return math.pow(RECENT, age * (1.0 + HASTE * error * error))


def _errors(run: Mapping[str, Total], shares: Shares) -> dict[str, _Error]:
    """Returns the errors of a plan's functions in a past run.

    Empty when they cover less than COVERED of the plan's time.
    """
    covered, errors = 0.0, {}
    for name, share in shares.of.items():
        total = run.get(name)
        if total is None:
            continue
        # A function counts as it is mostly predicted in this plan: from calls or from sizes.
        error = total.by_call if shares.of_calls[name] > share / 2 else total.by_size
        if error is not None:
            covered += share
            errors[name] = _Error(error, total.n)
    return errors if covered >= COVERED else {}


def _shared_part(name: str, runs: Sequence[Mapping[str, _Error]], own: float) -> float:
    """Returns the part of a function's mean errors that its tasks share, 0 to 1.

    The mean of n tasks scatters by own / sqrt(n) even where they share nothing. The level that they
    were expected to have is the mean of as many tasks in each of k runs, so that a part of 1 / k of
    this noise is an error of the next prediction, too.
    """
    squares = noise = 0.0
    k = 0
    for errors in runs:
        error = errors.get(name)
        if error is not None:
            k += 1
            squares += error.mean**2
            noise += own * own / error.n
    if not squares:
        return 1.0
    return math.sqrt(min(1.0, (max(0.0, squares - noise) + noise / k) / squares))


def _mean(errors: Mapping[str, float], shares: Shares) -> float:
    covered = sum(shares.of[name] for name in errors)
    return sum(shares.of[name] * error for name, error in errors.items()) / covered


def _kernel(past: Sequence[PastErrors]) -> float:
    """Returns the bandwidth, from quartiles: one odd run does not widen it."""
    ordered = sorted((errors.mean, errors.weight) for errors in past)
    total = sum(weight for _, weight in ordered)
    quartiles = []
    for p in (0.25, 0.75):
        passed, i = 0.0, 0
        while i < len(ordered) - 1 and passed + ordered[i][1] < p * total:
            passed += ordered[i][1]
            i += 1
        quartiles.append(ordered[i][0])
    sigma = (quartiles[1] - quartiles[0]) / _QUARTILES
    return KERNEL * sigma * math.pow(total, -0.2)
