"""The law by which attempts of a function's tasks fail, as scenarios draw it.

a run              one of `chances`, for all tasks of the function
a task           fails at an attempt by that chance, at most `most` times
an attempt     runs for one of `seconds`, and waits for one of `back_offs`
"""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from dagnb.graph.brief import brief

Attempts = tuple[tuple[float, float], ...]
"""(seconds run, back-off until the next attempt) of attempts that fail, in order"""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureLaw:
    """The attempts that fail before one succeeds; all sequences hold equally likely values.

    chances: that an attempt fails, ascending. seconds: that it runs for; is_share: they are parts
    of the run time of the attempt that succeeds. back_offs: seconds until the second attempt, the
    third, and so on; the last ones are those of all later attempts, too. most: failures of a task.
    """

    chances: Sequence[float]
    seconds: Sequence[float]
    is_share: bool
    back_offs: Sequence[Sequence[float]]
    most: int

    __repr__ = brief

    @property
    def mean_failures(self) -> float:
        """The expected number of failed attempts of a task."""
        # Of all tasks that share the law, so it is cached.
        return _mean_failures(tuple(self.chances), self.most)

    def drawn(self, chance: float, run_s: float, source: random.Random) -> Attempts:
        """Returns the failures of one task. chance: of this run. run_s: of its last attempt."""
        failed: list[tuple[float, float]] = []
        while len(failed) < self.most and source.random() < chance:
            seconds = self._seconds(source.choice(self.seconds), run_s)
            failed.append((seconds, source.choice(self._back_offs(len(failed)))))
        return tuple(failed)

    def usual(self, n: int, run_s: float) -> Attempts:
        """Returns n failures of mean length."""
        seconds = self._seconds(fmean(self.seconds), run_s)
        return tuple((seconds, fmean(self._back_offs(number))) for number in range(n))

    def _seconds(self, value: float, run_s: float) -> float:
        return value * run_s if self.is_share else value

    def _back_offs(self, n_before: int) -> Sequence[float]:
        return self.back_offs[min(n_before, len(self.back_offs) - 1)]


@functools.lru_cache(maxsize=256)
def _mean_failures(chances: tuple[float, ...], most: int) -> float:
    means = []
    for chance in chances:
        mean = 0.0
        for n in range(1, 1 + min(most, _MOST_COUNTED)):
            mean += chance**n  # the n-th attempt fails if all before it did
        means.append(mean)
    return fmean(means)


# Retries may be a million; of a thousand failures in a row there is no data.
_MOST_COUNTED = 1_000
