"""How far predictions were off: quantiles of the misses, and how much of them a whole run shares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from dagnb.prediction.batch import Batch
from dagnb.prediction.estimate import PROBABILITIES, SCORES, Shape

RUN_SIGMA, TASK_SIGMA = 0.3, 0.2
"""how much runs, and tasks of one run, are held to differ before several were seen"""
CALL_RUN_SIGMA, CALL_TASK_SIGMA = 0.15, 0.1
"""the same of calls that were seen before"""
PSEUDO = 9.0
"""effective samples that this is worth: one large run"""
LARGEST = 3.0
_NORMAL = tuple(NormalDist().inv_cdf((i + 0.5) / 21) for i in range(21))


@dataclass(frozen=True, slots=True)
class Sigma:
    """Standard deviations of log(value / median): of the factor all tasks of a run share, and of each task's own."""

    shared: float = RUN_SIGMA
    own: float = TASK_SIGMA

    @property
    def correlation(self) -> float:
        """Of two tasks of a run, 0 to 1: r makes the score sqrt(r) * run's + sqrt(1 - r) * task's of a scenario."""
        return self.shared**2 / (self.shared**2 + self.own**2)


def shape(misses: Sequence[tuple[float, float]], sigma: float) -> Shape:
    """Quantiles of weighted misses (miss, weight), together with one imagined normal run of this sigma.

    O(n log n). Ascending, and 0 in the middle, whatever the misses: the median is what was predicted.
    """
    pairs = sorted([*misses, *((sigma * score, PSEUDO / len(_NORMAL)) for score in _NORMAL)])
    total = sum(weight for _, weight in pairs)
    found, seen, i = [], 0.0, 0
    for p, score in zip(PROBABILITIES, SCORES, strict=True):
        while i < len(pairs) - 1 and seen + pairs[i][1] / 2 < p * total:
            seen += pairs[i][1]
            i += 1
        miss = pairs[i][0]
        found.append(0.0 if p == 0.5 else max(0.0, miss) if score > 0 else min(0.0, miss))
    return tuple(found)


def misses(batches: Sequence[Batch], *, of_calls: bool = False) -> list[tuple[float, float]]:
    """(miss, weight) of what was predicted before it was seen; each run weighs its effective samples."""
    return [
        (miss, batch.weight / len(batch.points))
        for batch in batches
        for point in batch.points
        if (miss := point.again if of_calls else point.missed) is not None
    ]


def sigma(batches: Sequence[Batch], *, of_calls: bool = False) -> Sigma:
    """By analysis of variance of the misses, with the prior as one more run. O(points)."""
    prior = Sigma(CALL_RUN_SIGMA, CALL_TASK_SIGMA) if of_calls else Sigma()
    runs = [[miss for miss, _ in misses([batch], of_calls=of_calls)] for batch in batches]
    runs = [[max(-LARGEST, min(LARGEST, miss)) for miss in run] for run in runs if run]
    means = [sum(run) / len(run) for run in runs]
    squares = sum((miss - mean) ** 2 for run, mean in zip(runs, means, strict=True) for miss in run)
    own = (prior.own**2 + squares) / (1 + sum(len(run) - 1 for run in runs))
    between = sum(
        max(0.0, mean * mean - own / len(run)) for run, mean in zip(runs, means, strict=True)
    )
    return Sigma(math.sqrt((prior.shared**2 + between) / (1 + len(runs))), math.sqrt(own))
