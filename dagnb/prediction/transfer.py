"""How long bytes take: t = latency + bytes * s_per_byte, for fetch, store, load and dump.

The two numbers minimise the absolute error of log t, so that small and large transfers count alike and half of the
times may be outliers. Quantiles are of the time: those of the speed would make the cautious transfer the fastest.
Source: Koenker and Bassett 1978, Regression Quantiles, doi:10.2307/1913643
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dagnb.prediction.estimate import Estimate, Shape, normal
from dagnb.prediction.experts import median
from dagnb.prediction.spread import shape

BEND_BYTES = 150_000.0
"""bytes that take as long as the latency: 0.3 ms at 500 MB/s; taken until sizes differ"""
LATENCY_S = 0.0003
SIGMA = 0.5
"""spread held before there are samples; the times of one hour are alike"""
WIDE = normal(1.5)
"""spread while nothing was seen"""
POINTS = 200
FLOOR_S = 1e-7
_BENDS = tuple(10 ** (k / 2) for k in range(22))
"""candidates, 1 byte to 30 GB; between them there is one valley"""
_STEPS = tuple(2.0**-k for k in range(2, 8))
"""decades to both sides of the best so far"""


@dataclass(frozen=True, slots=True)
class Transfer:
    """latency_s, s_per_byte > 0: of the median time. shape: of log(time / median). n: pairs seen, 0 is unknown."""

    latency_s: float = LATENCY_S
    s_per_byte: float = LATENCY_S / BEND_BYTES
    shape: Shape = WIDE
    n: int = 0

    @property
    def spread(self) -> float:
        """Standard deviation of log time."""
        return self.seconds(0).spread

    def seconds(self, n_bytes: int) -> Estimate:
        """How long so many bytes take."""
        source = f"{self.n} transfers" if self.n else "unknown"
        return Estimate(
            self.latency_s + n_bytes * self.s_per_byte,
            self.shape,
            self.n,
            source,
            is_known=self.n > 0,
        )


def transfer(pairs: Sequence[tuple[int, float]]) -> Transfer:
    """The line through (bytes, seconds). O(n log n); evenly spaced by size if there are more than POINTS."""
    if not pairs:
        return Transfer()
    ordered = sorted(pairs)
    n = len(ordered)
    if n > POINTS:
        ordered = [ordered[(2 * i + 1) * n // (2 * POINTS)] for i in range(POINTS)]
    sizes = [float(max(0, n_bytes)) for n_bytes, _ in ordered]
    logs = [math.log(max(FLOOR_S, seconds)) for _, seconds in ordered]
    bend = _bend(sizes, logs) if sizes[0] < sizes[-1] else BEND_BYTES
    level, missed = _level(sizes, logs, bend)
    speed = math.exp(level)
    return Transfer(speed * bend, speed, shape([(miss, 1.0) for miss in missed], SIGMA), n)


def _bend(sizes: Sequence[float], logs: Sequence[float]) -> float:
    """Bytes that take as long as the latency: where the loss is least."""
    best, bend = min((_loss(sizes, logs, b), b) for b in _BENDS)
    for step in _STEPS:
        best, bend = min(
            (best, bend), *((_loss(sizes, logs, b), b) for b in (bend * 10**-step, bend * 10**step))
        )
    return bend


def _level(sizes: Sequence[float], logs: Sequence[float], bend: float) -> tuple[float, list[float]]:
    """(log of the seconds a byte, what it misses by)."""
    ratios = [y - math.log(size + bend) for size, y in zip(sizes, logs, strict=True)]
    level = median(ratios)
    return level, [ratio - level for ratio in ratios]


def _loss(sizes: Sequence[float], logs: Sequence[float], bend: float) -> float:
    """Absolute misses, and a little for a bend far from the usual: it decides where sizes cannot."""
    _, missed = _level(sizes, logs, bend)
    return sum(abs(miss) for miss in missed) + 0.02 * abs(math.log(bend / BEND_BYTES))
