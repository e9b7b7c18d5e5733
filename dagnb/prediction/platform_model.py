"""Times of a platform's own acts, whatever the functions are: transfers, and starts of workers.

    transfer   t = latency + bytes * s_per_byte, for fetch, store and hand-over
    start      lognormal by resources, cold or warm: from asking for a worker until it registers

Transfers minimise the absolute error of log t, so that small and large ones count alike and half of
the times may be outliers. Quantiles are of the time: those of the speed would make the cautious
transfer the fastest one. Small values say nothing of the speed: their times differ by what else the
machine does, and a speed fitted to that would make a large value take minutes.
Source: Koenker and Bassett 1978, Regression Quantiles, doi:10.2307/1913643

Starts are pooled in part: resources that were started often have a level of their own, that of rare
ones is near the level of all.
Source: Gelman et al. 2013, Bayesian Data Analysis, section 5.4 (normal means, empirical Bayes).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from dagnb.graph.brief import brief
from dagnb.graph.resources import Resources
from dagnb.planning.planner import UNKNOWN, Basis
from dagnb.prediction.estimate import Estimate, Shape, error_shape, normal
from dagnb.prediction.experts import median
from dagnb.prediction.observation import evenly

# 0.3 ms and 500 MB/s: used until sizes differ, and the speed until some are large.
LATENCY_S, USUAL_S_PER_BYTE = 0.0003, 2e-9
# Up to so many bytes the speed is not seen beside the latency: TCP sends as many at once.
# Source: RFC 7323, section 1.1 (the window without scaling).
SMALL_BYTES = 65_536
# Spread of transfers before there are samples; the times of one hour are alike.
SIGMA = 0.5
# Shape while nothing was measured.
WIDE = normal(1.5)
# Transfers a line is fitted through: the fit runs at plan time.
POINTS = 200
# Clocks give 0 now and then, whose logarithm would be infinite.
FLOOR_S = 1e-7
# Candidates for the bend, 1 byte to 30 GB. Between two of them the loss has one minimum.
_BENDS = tuple(10 ** (k / 2) for k in range(22))
# Decades to both sides of the best bend so far, ever smaller.
_STEPS = tuple(2.0**-k for k in range(2, 8))

# Median of a cold (True) and of a warm start while unknown.
DEFAULT_START_S = MappingProxyType({True: 0.5, False: 0.01})
DEFAULT_START_SPREAD = 1.5
# Priors of the spread of starts with equal resources, and between resources; each worth two.
OWN_SIGMA, KIND_SIGMA = 0.3, 0.5
START_FLOOR_S = 1e-4


@dataclass(frozen=True, slots=True)
class Transfer:
    """The time that bytes take.

    latency_s, s_per_byte: of the median time. shape: of log(time / median).
    n: transfers measured; with 0 all numbers are defaults.
    """

    latency_s: float = LATENCY_S
    s_per_byte: float = USUAL_S_PER_BYTE
    shape: Shape = WIDE
    n: int = 0

    @property
    def spread(self) -> float:
        """Standard deviation of log time."""
        return self.seconds(0).spread

    def seconds(self, n_bytes: int) -> Estimate:
        """Returns the time that so many bytes take."""
        basis = Basis(f"{self.n} transfers") if self.n else UNKNOWN
        seconds = self.latency_s + n_bytes * self.s_per_byte
        return Estimate(seconds, self.shape, self.n, basis)


@dataclass(frozen=True, slots=True)
class MeasuredStart:
    """One start that was measured."""

    resources: Resources
    is_cold: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class StartModel:
    """The cold starts, or the warm starts, of one launcher.

    level: log seconds over all resources. own, between: standard deviations of one start, of the
    levels of kinds.
    n: starts measured. kinds: resource kind -> (starts, mean log seconds).
    """

    level: float
    own: float
    between: float
    n: int
    kinds: Mapping[str, tuple[int, float]]

    __repr__ = brief

    def estimate(self, kind: str) -> Estimate:
        """Returns the estimate of a kind, measured or not."""
        n, mean = self.kinds.get(kind, (0, self.level))
        # Precision-weighted mean of the kind's own level and that of all: with n = 0 only the
        # latter counts.
        precision = n / self.own**2 + 1 / self.between**2
        level = (n * mean / self.own**2 + self.level / self.between**2) / precision
        sigma = math.sqrt(self.own**2 + 1 / precision + self.own**2 / self.n)
        basis = Basis(f"{n} starts" if n else f"{self.n} starts of other resources")
        return Estimate(math.exp(level), normal(sigma), float(n), basis)


@dataclass(frozen=True, slots=True)
class Starts:
    """The starts of one launcher; models: by whether they are cold."""

    models: Mapping[bool, StartModel] = field(default_factory=lambda: MappingProxyType({}))

    __repr__ = brief

    def seconds(self, resources: Resources, *, is_cold: bool) -> Estimate:
        """Returns the time from asking for a worker until it registers."""
        model = self.models.get(is_cold)
        if model is None:
            return Estimate(DEFAULT_START_S[is_cold], normal(DEFAULT_START_SPREAD))
        return model.estimate(resources.kind)


def transfer(
    pairs: Sequence[tuple[int, float]], usual_s_per_byte: float = USUAL_S_PER_BYTE
) -> Transfer:
    """Returns the line through (bytes, seconds). O(n log n).

    usual_s_per_byte: of acts of this kind, > 0; used as long as all were small.
    """
    if not pairs:
        return Transfer()
    sizes, logs = [], []
    for n_bytes, seconds in evenly(sorted(pairs), POINTS):
        sizes.append(float(max(0, n_bytes)))
        logs.append(math.log(max(FLOOR_S, seconds)))

    if sizes[-1] <= SMALL_BYTES:
        latency_s, s_per_byte = _latency(sizes, logs, usual_s_per_byte), usual_s_per_byte
    else:
        # Transfers of one size cannot tell latency from speed: the usual bend splits their time.
        bend = LATENCY_S / usual_s_per_byte
        if sizes[0] < sizes[-1]:
            bend = _best_bend(sizes, logs, bend)
        s_per_byte = math.exp(_level(sizes, logs, bend)[0])
        latency_s = s_per_byte * bend
    errors = []
    for size, y in zip(sizes, logs, strict=True):
        errors.append((y - math.log(latency_s + size * s_per_byte), 1.0))
    return Transfer(latency_s, s_per_byte, error_shape(errors, SIGMA), len(pairs))


def _latency(sizes: Sequence[float], logs: Sequence[float], s_per_byte: float) -> float:
    """Returns the median of what is left of the times at this speed."""
    left = []
    for size, y in zip(sizes, logs, strict=True):
        left.append(max(FLOOR_S, math.exp(y) - size * s_per_byte))
    return median(left)


def _best_bend(sizes: Sequence[float], logs: Sequence[float], usual: float) -> float:
    """Returns the bytes that take as long as the latency, where the loss is least."""
    best = (math.inf, usual)
    for bend in _BENDS:
        best = min(best, (_loss(sizes, logs, bend, usual), bend))
    # A search by ever smaller steps: an absolute loss has no derivative to follow.
    for step in _STEPS:
        middle = best[1]
        for bend in (middle * 10**-step, middle * 10**step):
            best = min(best, (_loss(sizes, logs, bend, usual), bend))
    return best[1]


def _level(sizes: Sequence[float], logs: Sequence[float], bend: float) -> tuple[float, list[float]]:
    """Returns (log of the seconds a byte takes, errors of log time)."""
    ratios = [y - math.log(size + bend) for size, y in zip(sizes, logs, strict=True)]
    level = median(ratios)
    return level, [ratio - level for ratio in ratios]


def _loss(sizes: Sequence[float], logs: Sequence[float], bend: float, usual: float) -> float:
    """Returns the sum of absolute errors, and a little for an unusual bend."""
    _, errors = _level(sizes, logs, bend)
    # The last term decides only where sizes cannot: it keeps the bend from running off.
    return sum(map(abs, errors)) + 0.02 * abs(math.log(bend / usual))


def starts(measured: Sequence[MeasuredStart]) -> Starts:
    """Returns the models of the starts of one launcher. O(n)."""
    by_kind: dict[bool, dict[str, list[float]]] = {True: {}, False: {}}
    for start in measured:
        logs = by_kind[start.is_cold].setdefault(start.resources.kind, [])
        logs.append(math.log(max(START_FLOOR_S, start.seconds)))
    models = {}
    for is_cold, kinds in by_kind.items():
        if kinds:
            models[is_cold] = _start_model(kinds)
    return Starts(models)


def _start_model(kinds: Mapping[str, Sequence[float]]) -> StartModel:
    """Fits the cold or the warm starts by moments. kinds: resource kind -> log seconds."""
    means: dict[str, tuple[int, float]] = {}
    squares, n = 0.0, 0
    for kind, logs in kinds.items():
        mean = sum(logs) / len(logs)
        means[kind] = len(logs), mean
        n += len(logs)
        for y in logs:
            squares += (y - mean) ** 2

    own = (2 * OWN_SIGMA**2 + squares) / (2 + n - len(means))
    level = sum(mean for _, mean in means.values()) / len(means)
    # Means scatter by own / count even where kinds are equally fast: that part is taken off.
    apart = 0.0
    for count, mean in means.values():
        apart += max(0.0, (mean - level) ** 2 - own / count)
    between = (2 * KIND_SIGMA**2 + apart) / (2 + len(means) - 1)
    return StartModel(level, math.sqrt(own), math.sqrt(between), n, means)
