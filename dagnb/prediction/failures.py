"""The chance that attempts of a function fail, and the time that those took: learnt from past runs.

    attempts of a run   ok ok FAILED ok ok ok ...  ->  (attempts, failures)
    runs                (8, 1) (8, 0) (9, 2) ...   ->  a Beta law of the chance of a failure

The chance has a Beta prior, and attempts of one run are alike: a service that is down fails them
all. So the counts of a run are beta-binomial, and a run of many attempts says as much of the next
one as its intra-class correlation leaves of them.
Source: Gelman et al. 2013, Bayesian Data Analysis, section 5.3 (beta-binomial, partial pooling);
Kleinman 1973, Proportions with Extraneous Variance, doi:10.1080/01621459.1973.10481332 (moments).

A function that never failed has no law: its failures would be a guess, and cost nothing. Only
failures that a worker reported count. The death of a worker is not the fault of the function, and
a task that failed for good says nothing of runs that end well: its code is mended mostly.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import pstdev
from typing import NamedTuple

from dagnb.graph.brief import brief
from dagnb.planning.failure_law import FailureLaw
from dagnb.prediction.observation import Sample, Target, evenly

# The prior of the chance: a mean of 5 %, worth ten attempts. It counts from the first failure on.
PRIOR_FAILED, PRIOR_PASSED = 0.5, 9.5
# The prior of the correlation of attempts in a run, worth a run of so many attempts.
CORRELATION, CORRELATION_ATTEMPTS = 0.01, 50.0
# The largest correlation. At 1 all attempts of a run would fail, or none, and no law would be left.
MOST_ALIKE = 0.5
# Attempts of one run beyond so many say no more of the correlation.
MOST_PAIRS = 50.0
# The part of its weight that a run keeps when one more was seen: half after 14.
FORGET = 0.95
# Runs, and failed attempts, remembered.
RUNS, ATTEMPTS = 40, 128
# The weight of a run of earlier code.
CHANGED = 0.5
# Values by which a law is described, and draws that its quantiles are taken from.
VALUES, _DRAWS = 32, 1_024
# Failures of a task that are expected at most: more are hopeless, and slow to simulate.
MOST = 10
# A failure may take no time at all, whose logarithm would be infinite.
_FLOOR_S = Target.RUN.floor


class RunCount(NamedTuple):
    """The attempts of a function in one run, and how many of them failed. weight: 1 or less."""

    attempts: int
    failed: int
    weight: float = 1.0


class FailedAttempt(NamedTuple):
    """One attempt that failed. run_s, last_s: for which it and the last attempt ran."""

    run_s: float
    last_s: float
    back_off_s: float


@dataclass(frozen=True)
class FailureModel:
    """The failures of one function. runs, failed: remembered, oldest first."""

    runs: tuple[RunCount, ...] = ()
    failed: tuple[FailedAttempt, ...] = field(default=(), repr=False)

    __repr__ = brief

    def learnt(self, tasks: Sequence[Sample]) -> FailureModel:
        """Returns the model with the tasks of one more run. O(tasks)."""
        attempts, failed = 0, list[FailedAttempt]()
        for task in tasks:
            attempts += 1 + len(task.failed)
            for run_s, back_off_s in task.failed:
                failed.append(FailedAttempt(run_s, task.run_s or 0.0, back_off_s))
        new = RunCount(attempts, len(failed))
        kept = [run._replace(weight=FORGET * run.weight) for run in self.runs]
        # Of a run of thousands, evenly spread ones: the last may all be of one kind.
        some = evenly(failed, ATTEMPTS // 4)
        return FailureModel((*kept, new)[-RUNS:], (*self.failed, *some)[-ATTEMPTS:])

    def of_changed_code(self) -> FailureModel:
        """Returns the model for other code of the same name, which is not trusted as much."""
        return replace(
            self, runs=tuple(run._replace(weight=CHANGED * run.weight) for run in self.runs)
        )

    @cached_property
    def chances(self) -> tuple[float, ...]:
        """Equally likely chances of a failure in the next run, ascending; none without failures."""
        if not any(run.failed for run in self.runs):
            return ()
        failed, passed = self._posterior
        # Seeded: the same history has the same forecasts.
        source = random.Random(0)
        draws = sorted(source.betavariate(failed, passed) for _ in range(_DRAWS))
        return tuple(evenly(draws, VALUES))

    def law(
        self, most: int = MOST, back_offs: Sequence[Sequence[float]] | None = None
    ) -> FailureLaw | None:
        """Returns the law of the next run; None if nothing fails.

        most: failures of a task, up to MOST, and back_offs: of its policy; see FailureLaw. None: as
        measured.
        """
        most = min(most, MOST)
        if not self.chances or not self.failed or most < 1:
            return None
        seconds, is_share = self._seconds
        if back_offs is None:
            measured = sorted(attempt.back_off_s for attempt in self.failed)
            back_offs = (tuple(evenly(measured, VALUES)),)
        return FailureLaw(
            chances=self.chances,
            seconds=seconds,
            is_share=is_share,
            back_offs=back_offs,
            most=most,
        )

    @cached_property
    def _posterior(self) -> tuple[float, float]:
        """The parameters of the Beta law of the chance in the next run."""
        correlation = self._correlation
        failed = attempts = 0.0
        for run in self.runs:
            # Kish: attempts that are alike count as fewer.
            share = run.weight / (1.0 + (run.attempts - 1) * correlation)
            failed += share * run.failed
            attempts += share * run.attempts
        prior = PRIOR_FAILED + PRIOR_PASSED
        mean = (PRIOR_FAILED + failed) / (prior + attempts)
        # The variance of the next run's chance: of what it has for itself, and of the mean.
        part = correlation + (1.0 - correlation) / (prior + attempts + 1.0)
        size = 1.0 / part - 1.0
        return mean * size, (1.0 - mean) * size

    @cached_property
    def _correlation(self) -> float:
        """The intra-class correlation of attempts of a run, by moments, 0 to 1."""
        attempts = sum(run.weight * run.attempts for run in self.runs)
        failed = sum(run.weight * run.failed for run in self.runs)
        mean = (PRIOR_FAILED + failed) / (PRIOR_FAILED + PRIOR_PASSED + attempts)
        spread = mean * (1.0 - mean)
        between, n = CORRELATION_ATTEMPTS * CORRELATION, CORRELATION_ATTEMPTS
        for run in self.runs:
            # Kleinman: a run weighs as its pairs of attempts. A single attempt shows nothing, and
            # two of which one failed nearly nothing.
            weight = run.weight * min(MOST_PAIRS, run.attempts - 1.0)
            apart = (run.failed / run.attempts - mean) ** 2 / spread - 1.0 / run.attempts
            between += weight * apart
            n += weight * (1.0 - 1.0 / run.attempts)
        return min(MOST_ALIKE, max(0.0, between / n))

    @cached_property
    def _seconds(self) -> tuple[tuple[float, ...], bool]:
        """Seconds of failed attempts, or their parts of the run time: what varies less.

        A time limit ends all attempts after as long; an error in the data comes half way through.
        """
        logs, shares = [], []
        for attempt in self.failed:
            run_s = max(_FLOOR_S, attempt.run_s)
            logs.append(math.log(run_s))
            shares.append(math.log(run_s / max(_FLOOR_S, attempt.last_s)))
        is_share = pstdev(shares) <= pstdev(logs)
        values = sorted(map(math.exp, shares if is_share else logs))
        return tuple(evenly(values, VALUES)), is_share
