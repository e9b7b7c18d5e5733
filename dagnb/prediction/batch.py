"""What is remembered of a function: a few representative samples of each of its last runs.

Tasks of one run share a machine, a data set, an hour: a hundred of them say little more than ten. So a run is thinned,
and weighs as many effective samples as its intra-class correlation leaves it.
Source: Kish 1965, Survey Sampling, design effect 1 + (n - 1) rho.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dagnb.graph.brief import brief
from dagnb.graph.resources import Resources

CORRELATION = 0.1
POINTS = 32
"""samples kept of a run"""
KEPT = 80.0
"""effective samples kept of a function: eight large runs, or eighty runs of one task"""


class Point(NamedTuple):
    """One task: bytes it read, logarithm of what is predicted, resources, key of its call.

    missed: what the prediction from sizes missed it by; again: what that from equal calls did; None: there was none.
    """

    n_bytes: int
    y: float
    cpus: float | None = None
    memory_mb: float | None = None
    missed: float | None = None
    key: str = ""
    again: float | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """The tasks of one function in one run: at most POINTS of them, n as they were, when the last ended."""

    points: tuple[Point, ...]
    n: int
    ended_at: float = 0.0

    __repr__ = brief

    @property
    def weight(self) -> float:
        """Effective samples: 1 for one, 9.7 for 250, never more than 10."""
        return self.n / (1 + (self.n - 1) * CORRELATION)


def point(n_bytes: int, y: float, resources: Resources, key: str = "") -> Point:
    """A task of these resources."""
    return Point(n_bytes, y, resources.cpus, resources.memory_mb, key=key)


def thinned(points: Sequence[Point], ended_at: float) -> Batch:
    """Evenly spaced by resources, size and value: the quantiles of the run. O(n log n)."""
    ordered = sorted(
        points, key=lambda p: (p.cpus or 0.0, p.memory_mb or 0.0, p.n_bytes, p.y, p.key)
    )
    n = len(ordered)
    if n > POINTS:
        ordered = [ordered[(2 * i + 1) * n // (2 * POINTS)] for i in range(POINTS)]
    return Batch(tuple(ordered), n, ended_at)


def appended(batches: tuple[Batch, ...], new: Batch) -> tuple[Batch, ...]:
    """The memory with a new run; the oldest are dropped, but never the last two."""
    kept = [*batches, new]
    total = sum(batch.weight for batch in kept)
    while len(kept) > 2 and total - kept[0].weight >= KEPT:
        total -= kept.pop(0).weight
    return tuple(kept)
