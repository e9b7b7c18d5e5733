"""What is known of one quantity of one function: remembered runs, and how well each expert foretold them.

The expert with the least loss predicts; the spread is that of what was missed before. Both are measured at plan time:
a whole run is predicted from what was known before it, as plans are, and then learnt. Residuals within a run would be
too small, because runs differ as a whole.
Source: Dawid 1984, prequential statistics, doi:10.2307/2981683; Vovk et al. 2005, Algorithmic Learning in a Random
World (conformal prediction).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from dagnb.graph.brief import brief
from dagnb.prediction.batch import Batch, Point, appended, thinned
from dagnb.prediction.calls import Calls, usual
from dagnb.prediction.estimate import Estimate, Shape, widened
from dagnb.prediction.experts import BAYES, EXPERTS, Expert, experts, median
from dagnb.prediction.prior import VAGUE, Prior
from dagnb.prediction.scaling import FIXED, Scaling, scaling
from dagnb.prediction.spread import CALL_RUN_SIGMA, CALL_TASK_SIGMA, RUN_SIGMA, misses
from dagnb.prediction.spread import shape as quantiles
from dagnb.prediction.target import Target

FORGET = 0.98
"""what a loss keeps of its weight for each effective sample that follows"""
WORST = 3.0
"""a miss by e**3 is as bad as any larger one: one outlier shall not choose"""
PATIENCE = 5.0
"""effective samples that the order of EXPERTS is worth before there are losses"""
RIVALRY = 0.15
"""an expert whose mean loss is larger than the least by so much weighs e times less"""
DISPUTE = 0.5
"""how much of what rivals say otherwise is added as doubt; some of it is in the misses already"""
BEYOND_SIGMA = 0.25
"""doubt of the exponent outside the sizes seen"""


@dataclass(frozen=True, slots=True)
class Fit:
    """What a bank predicts with, made of its memory."""

    scale: Scaling
    experts: tuple[Expert, ...]
    chosen: int
    rivals: tuple[tuple[float, Expert], ...]
    shape: Shape
    call_shape: Shape
    sizes: tuple[float, float]
    n_samples: float
    source: str

    __repr__ = brief

    def beyond(self, n_bytes: int) -> float:
        """Standard deviation that comes of a size never seen."""
        x = math.log(n_bytes + 1)
        return BEYOND_SIGMA * max(0.0, self.sizes[0] - x, x - self.sizes[1])

    def doubt(self, n_bytes: int, said: float) -> float:
        """Standard deviation that the misses do not show: sizes never seen, rivals that say otherwise."""
        otherwise = sum(weight * (rival.at(n_bytes) - said) ** 2 for weight, rival in self.rivals)
        return math.hypot(self.beyond(n_bytes), DISPUTE * math.sqrt(otherwise))


@dataclass(frozen=True)
class FunctionModel:
    """losses: of each of EXPERTS, sums of discounted absolute misses; weight: of the same discounted samples.

    calls: the one expert more, for tasks that were called alike before.
    """

    target: Target
    prior: Prior = VAGUE
    batches: tuple[Batch, ...] = ()
    losses: tuple[float, ...] = (0.0,) * len(EXPERTS)
    weight: float = 0.0
    calls: Calls = field(default_factory=Calls)

    __repr__ = brief

    @cached_property
    def fit(self) -> Fit:
        """What it predicts with; of at least one run. O(points log points), once."""
        scale = FIXED if self.target is Target.OUTPUT else scaling(self.batches)
        found, best = experts(self.batches, scale, self.prior)
        scores = _scores(self)
        chosen = scores.index(min(scores))
        xs = [math.log(point.n_bytes + 1) for batch in self.batches for point in batch.points]
        return Fit(
            scale=scale,
            experts=found,
            chosen=chosen,
            rivals=_rivals(found, scores, chosen),
            shape=quantiles(misses(self.batches), math.hypot(best.sigma, RUN_SIGMA)),
            call_shape=quantiles(
                misses(self.batches, of_calls=True), math.hypot(CALL_RUN_SIGMA, CALL_TASK_SIGMA)
            ),
            sizes=(min(xs), max(xs)),
            n_samples=sum(batch.weight for batch in self.batches),
            source=f"{sum(batch.n for batch in self.batches)} samples, {EXPERTS[chosen]}",
        )

    def ready(self) -> FunctionModel:
        """Itself, fitted now rather than when it is first asked."""
        _ = self.fit
        return self

    def believing(self, prior: Prior) -> FunctionModel:
        """The same experience in the light of other hints."""
        return replace(self, prior=prior)

    def learnt(self, points: Sequence[Point], ended_at: float) -> FunctionModel:
        """With one more run, predicted before it is seen. O(points)."""
        batch = thinned(points, ended_at)
        if not self.batches:
            return replace(self, batches=(batch,), calls=self.calls.learnt(points))
        known = self.fit
        losses, missed = [0.0] * len(EXPERTS), []
        for point in batch.points:
            gain = known.scale.gain(point.cpus, point.memory_mb)
            each = [point.y + gain - expert.at(point.n_bytes) for expert in known.experts]
            losses = [
                total + min(abs(miss), WORST) for total, miss in zip(losses, each, strict=True)
            ]
            again = self.calls.missed(point, known.scale)
            missed.append(point._replace(missed=each[known.chosen], again=again))
        keep = FORGET**batch.weight
        share = batch.weight / len(missed)
        return replace(
            self,
            batches=appended(self.batches, replace(batch, points=tuple(missed))),
            losses=tuple(
                keep * old + share * new for old, new in zip(self.losses, losses, strict=True)
            ),
            weight=keep * self.weight + batch.weight,
            calls=self.calls.scored(missed, share, keep).learnt(points),
        )

    def succeeded(self, points: Sequence[Point], ended_at: float) -> FunctionModel:
        """The bank of changed code, from its first run: if that fits what was predicted, history goes on.

        If not, only the experience which expert to trust is kept.
        """
        found = self.learnt(points, ended_at)
        new = found.batches[-1]
        missed, held = [point.missed or 0.0 for point in new.points], self.fit.shape
        again = [point.again for point in new.points if point.again is not None]
        if again and self.calls.is_trusted:
            missed, held = again, self.fit.call_shape
        if held[1] <= median(missed) <= held[-2]:
            return found
        fresh = replace(
            new, points=tuple(point._replace(missed=None, again=None) for point in new.points)
        )
        return replace(self, batches=(fresh,), calls=self.calls.emptied().learnt(points))

    def estimate(
        self, n_bytes: int, cpus: float | None, memory_mb: float | None, key: str = ""
    ) -> Estimate:
        """What equal calls gave, if that is known and worth it; else what the chosen expert says.

        The spread is that of what was missed so before.
        """
        known = self.fit
        doubt = known.scale.doubt(cpus, memory_mb)
        if seen := self.calls.of(key) if self.calls.is_trusted else ():
            said, shape = usual(seen, known.scale), known.call_shape
            n_samples, source = (
                float(len(seen)),
                f"{len(seen)} equal {'call' if len(seen) == 1 else 'calls'}",
            )
        else:
            said, shape = known.experts[known.chosen].at(n_bytes), known.shape
            n_samples, source = known.n_samples, known.source
            doubt = math.hypot(doubt, known.doubt(n_bytes, said))
        middle = math.exp(min(said - known.scale.gain(cpus, memory_mb), 600.0)) - self.target.plus
        return Estimate(
            max(0.0, middle),
            widened(shape, doubt),
            n_samples=n_samples,
            source=source,
            is_known=True,
            plus=self.target.plus,
            is_same_call=bool(seen),
            strange=0.0 if seen else known.beyond(n_bytes),
        )


def _scores(bank: FunctionModel) -> list[float]:
    """Mean loss of each expert, with a little patience for the order they are listed in; a hint puts Bayes first."""
    firsts = (
        [0.02 * i for i in range(len(EXPERTS))] if bank.prior == VAGUE else [0.5] * BAYES + [0.0]
    )
    total = bank.weight + PATIENCE
    return [
        (loss + PATIENCE * first) / total for loss, first in zip(bank.losses, firsts, strict=True)
    ]


def _rivals(
    found: Sequence[Expert], scores: Sequence[float], chosen: int
) -> tuple[tuple[float, Expert], ...]:
    """The others that are worth asking, by how near their scores are to the best; with it, the weights make 1."""
    least = min(scores)
    odds = [math.exp((least - score) / RIVALRY) for score in scores]
    total = sum(odds)
    return tuple(
        (o / total, expert)
        for i, (o, expert) in enumerate(zip(odds, found, strict=True))
        if i != chosen and o > 1e-3 * total
    )
