"""The expected makespan of a plan: three quantiles rather than one number."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Quantiles of the makespan, seconds: with probability 0.8 it lies between p10_s and p90_s.

    n_scenarios: number of simulations. known: share of the predicted run time that rests on
    measurements or hints, 0 to 1.
    """

    p10_s: float
    p50_s: float
    p90_s: float
    n_scenarios: int = 1
    known: float = 0.0

    def covers(self, makespan_s: float) -> bool:
        """Returns whether the makespan lies inside the 80 % band."""
        return self.p10_s <= makespan_s <= self.p90_s
