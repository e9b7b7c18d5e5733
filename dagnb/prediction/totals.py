"""How far whole runs were off: what their functions took in all, against what was foretold.

A slow machine slows all functions of a run together, a larger data set only some. So neither the doubts of functions
are added, nor their variances: past runs are put together again from the functions a plan has, and looked at as wholes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from dagnb.prediction.batch import Batch, Point
from dagnb.prediction.spread import CALL_RUN_SIGMA, LARGEST, RUN_SIGMA

RUNS = 40
FUNCTIONS = 100
"""remembered of a run: those that took longest"""
COVERED = 0.5
"""share of a plan's time that a past run must have had to say something of it"""


class Total(NamedTuple):
    """Of one function in one run: log of real over foretold seconds, from sizes and from equal calls; None: neither."""

    by_size: float | None
    by_call: float | None


class TaskContribution(NamedTuple):
    """What a task adds to a run: its function's name, predicted seconds, its own doubt, and from what."""

    name: str
    seconds: float
    own: float
    is_same_call: bool


def totals(run: Mapping[str, Batch]) -> dict[str, Total]:
    """name -> what it came to, of the batches of one run; functions that were never foretold are left out."""
    seconds = {
        name: sum(math.exp(p.y) for p in b.points) * b.n / len(b.points) for name, b in run.items()
    }
    longest = sorted(run, key=lambda name: (-seconds[name], name))[:FUNCTIONS]
    found = {
        name: Total(
            _off([(p, p.missed) for p in run[name].points if p.missed is not None]),
            _off([(p, p.again) for p in run[name].points if p.again is not None]),
        )
        for name in longest
    }
    return {name: total for name, total in found.items() if total != (None, None)}


def run_sigma(runs: Iterable[Mapping[str, Total]], tasks: Sequence[TaskContribution]) -> float:
    """Standard deviation of the factor that a run of these tasks has as a whole; a prior counts as one more run.

    What the tasks' own doubts explain is taken off. O(tasks + functions of runs).
    """
    whole = sum(task.seconds for task in tasks)
    if whole <= 0:
        return RUN_SIGMA
    weights: dict[str, float] = {}
    again: dict[str, float] = {}
    for task in tasks:
        weights[task.name] = weights.get(task.name, 0.0) + task.seconds / whole
        again[task.name] = again.get(task.name, 0.0) + (
            task.seconds / whole if task.is_same_call else 0.0
        )
    is_again = {name: again[name] > weight / 2 for name, weight in weights.items()}
    off = [miss for run in runs if (miss := _together(run, weights, is_again)) is not None]
    noise = sum((task.seconds / whole * task.own) ** 2 for task in tasks)
    known = sum(again.values())
    prior = known * CALL_RUN_SIGMA**2 + (1.0 - known) * RUN_SIGMA**2
    shared = max(0.0, sum(miss * miss for miss in off) - len(off) * noise)
    return math.sqrt((max(0.0, prior) + shared) / (1 + len(off)))


def _together(
    run: Mapping[str, Total], weights: Mapping[str, float], again: Mapping[str, bool]
) -> float | None:
    """What the run would have been off by with these weights; None when it had too little of them."""
    covered = real = 0.0
    for name, weight in weights.items():
        total = run.get(name)
        miss = None if total is None else total.by_call if again[name] else total.by_size
        if miss is not None:
            covered += weight
            real += weight * math.exp(miss)
    return math.log(real / covered) if covered >= COVERED else None


def _off(points: Sequence[tuple[Point, float]]) -> float | None:
    """Log of real over foretold, both in all."""
    predicted = sum(math.exp(point.y - miss) for point, miss in points)
    if predicted <= 0:
        return None
    return max(
        -LARGEST, min(LARGEST, math.log(sum(math.exp(point.y) for point, _ in points) / predicted))
    )
