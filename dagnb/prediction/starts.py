"""How long workers take from being asked for until they register: cold or warm, by resources.

Lognormal with partial pooling: resources that were started often speak for themselves, rare ones lean on the others.
Source: Gelman et al. 2013, Bayesian Data Analysis, section 5.4 (normal means, empirical Bayes).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from dagnb.graph.brief import brief
from dagnb.graph.resources import Resources
from dagnb.prediction.estimate import Estimate, normal

DEFAULT_S = MappingProxyType({True: 0.5, False: 0.01})
"""median of a cold, of a warm start, while unknown"""
DEFAULT_SPREAD = 1.5
OWN_SIGMA, KIND_SIGMA = 0.3, 0.5
"""priors: of starts of equal resources, and between resources; each worth two"""
FLOOR_S = 1e-4


@dataclass(frozen=True, slots=True)
class MeasuredStart:
    """One start that was measured."""

    resources: Resources
    is_cold: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class StartModel:
    """Starts of one temperature: log level over all, spread of one start, of kinds; and each kind's (n, level)."""

    level: float
    own: float
    between: float
    n: int
    kinds: Mapping[str, tuple[int, float]]

    __repr__ = brief

    def estimate(self, kind: str) -> Estimate:
        """Of a kind seen or not: its level drawn towards that of all, by how little is known of it."""
        n, mean = self.kinds.get(kind, (0, self.level))
        precision = n / self.own**2 + 1 / self.between**2
        level = (n * mean / self.own**2 + self.level / self.between**2) / precision
        sigma = math.sqrt(self.own**2 + 1 / precision + self.own**2 / self.n)
        source = f"{n} starts" if n else f"{self.n} starts of other resources"
        return Estimate(math.exp(level), normal(sigma), float(n), source, is_known=True)


@dataclass(frozen=True, slots=True)
class Starts:
    """What is known of the starts of one launcher."""

    pools: Mapping[bool, StartModel] = field(default_factory=lambda: MappingProxyType({}))

    __repr__ = brief

    def seconds(self, resources: Resources, *, is_cold: bool) -> Estimate:
        """From asking until registered."""
        pool = self.pools.get(is_cold)
        if pool is None:
            return Estimate(DEFAULT_S[is_cold], normal(DEFAULT_SPREAD))
        return pool.estimate(resources.kind)


def starts(seen: Sequence[MeasuredStart]) -> Starts:
    """Of starts of one launcher. O(n)."""
    pools = {}
    for is_cold in (True, False):
        kinds: dict[str, list[float]] = {}
        for start in seen:
            if start.is_cold is is_cold:
                kinds.setdefault(start.resources.kind, []).append(
                    math.log(max(FLOOR_S, start.seconds))
                )
        if kinds:
            pools[is_cold] = _pool(kinds)
    return Starts(pools)


def _pool(kinds: Mapping[str, Sequence[float]]) -> StartModel:
    means = {kind: (len(logs), sum(logs) / len(logs)) for kind, logs in kinds.items()}
    n = sum(count for count, _ in means.values())
    squares = sum((y - means[kind][1]) ** 2 for kind, logs in kinds.items() for y in logs)
    own = (2 * OWN_SIGMA**2 + squares) / (2 + n - len(means))
    level = sum(mean for _, mean in means.values()) / len(means)
    apart = sum(max(0.0, (mean - level) ** 2 - own / count) for count, mean in means.values())
    between = (2 * KIND_SIGMA**2 + apart) / (2 + len(means) - 1)
    return StartModel(level, math.sqrt(own), math.sqrt(between), n, means)
