"""The model of one quantity of one function: remembered runs, and the scores of experts.

    learnt(run):     predict it with all experts -> errors -> losses, spread -> remember it
    estimate(task):  equal calls, if they are trusted; else the expert of least loss
                     spread = past errors + sizes never seen + disagreement of experts + resources

A whole run is predicted from what was known before it, as plans are, and only then learnt.
Residuals within a run would be too small, because runs differ as a whole.
Source: Dawid 1984, prequential statistics, doi:10.2307/2981683; Vovk et al. 2005, Algorithmic
Learning in a Random World (conformal prediction).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from dagnb.graph.brief import brief, number
from dagnb.planning.planner import Basis
from dagnb.prediction.estimate import (
    CALL_RUN_SIGMA,
    CALL_TASK_SIGMA,
    LARGEST_EXPONENT,
    RUN_SIGMA,
    TASK_SIGMA,
    Estimate,
    Shape,
    error_shape,
    residuals,
    task_errors,
    widened,
)
from dagnb.prediction.experts import (
    BAYES,
    EXPERTS,
    WORST,
    Calls,
    Expert,
    experts,
    median,
    usual,
    weights,
)
from dagnb.prediction.observation import Batch, Point, Target, appended, thinned
from dagnb.prediction.regression import FIXED, VAGUE, Prior, Scaling, scaling
from dagnb.prediction.run_errors import expected_level

# Part of its weight that a loss keeps for each effective sample that follows: half after 34.
FORGET = 0.98
# Effective samples that the order of EXPERTS is worth before there are losses.
PATIENCE = 5.0
# Mean loss before there is evidence: a little more for each later expert.
FIRST_LOSS = 0.02
# An expert whose mean loss is larger than the least by so much weighs e times less.
RIVALRY = 0.15
# Part of the experts' disagreement that is added as spread; some of it is in past errors already.
DISPUTE = 0.5
# Uncertainty of the exponent outside the sizes seen.
BEYOND_SIGMA = 0.25
# Newest runs that the level and the residuals of a function are taken from.
LEVEL_RUNS = 12


@dataclass(frozen=True, slots=True)
class Fit:
    """All that a model predicts with, computed once from its memory.

    chosen: position of the expert that predicts. rivals: (weight, expert) of the others.
    shape, call_shape: past errors of predictions from sizes, from equal calls.
    sizes: (smallest, largest) log size seen. n_samples: effective.
    """

    scale: Scaling
    experts: tuple[Expert, ...]
    chosen: int
    rivals: tuple[tuple[float, Expert], ...]
    shape: Shape
    call_shape: Shape
    sizes: tuple[float, float]
    n_samples: float
    basis: Basis

    __repr__ = brief

    def beyond(self, n_bytes: int) -> float:
        """Returns the standard deviation that comes of a size never seen."""
        x = math.log(n_bytes + 1)
        return BEYOND_SIGMA * max(0.0, self.sizes[0] - x, x - self.sizes[1])

    def uncertainty(self, n_bytes: int, y: float) -> float:
        """Returns the standard deviation that past errors do not show.

        It comes from sizes never seen, and from rivals whose predictions differ from y.
        """
        squares = sum(weight * (rival.at(n_bytes) - y) ** 2 for weight, rival in self.rivals)
        return math.hypot(self.beyond(n_bytes), DISPUTE * math.sqrt(squares))


@dataclass(frozen=True)
class FunctionModel:
    """One quantity of one function.

    batches: the runs remembered. losses: of each of EXPERTS, discounted sums of absolute errors.
    weight: effective samples in these sums. calls: the expert of equal calls, scored by itself.
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
        """The fitted experts; needs at least one run. O(points log points), once."""
        scale = FIXED if self.target is Target.OUTPUT else scaling(self.batches)
        fitted, best = experts(self.batches, scale, self.prior)
        scores = self._scores()
        chosen = scores.index(min(scores))
        n, n_samples, xs = 0, 0.0, []
        for batch in self.batches:
            n += batch.n
            n_samples += batch.weight
            xs += [math.log(point.n_bytes + 1) for point in batch.points]

        errors = task_errors(self.batches)
        call_errors = task_errors(self.batches, of_calls=True)
        call_sigma = math.hypot(CALL_RUN_SIGMA, CALL_TASK_SIGMA)
        return Fit(
            scale=scale,
            experts=fitted,
            chosen=chosen,
            rivals=_rivals(fitted, scores, chosen),
            shape=error_shape(errors, math.hypot(best.sigma, RUN_SIGMA)),
            call_shape=error_shape(call_errors, call_sigma),
            sizes=(min(xs), max(xs)),
            n_samples=n_samples,
            basis=Basis(f"{n} samples, {EXPERTS[chosen]}", expert=EXPERTS[chosen]),
        )

    @cached_property
    def level(self) -> float:
        """The mean error that the next run is expected to have, of predictions from sizes.

        Experts predict medians. Where tasks are skewed, or have two modes, their mean on the log
        scale is another, and it is the mean that decides how long many tasks take.
        """
        return expected_level([_mean(errors) for errors, _ in self._fit_errors])

    def residuals(self, *, of_calls: bool = False) -> tuple[float, ...]:
        """Returns logs of the factors by which tasks differ from what is expected of their run.

        Equally likely, ascending. of_calls: of tasks predicted from equal calls.
        """
        if not of_calls:
            own = residuals(self._fit_errors, TASK_SIGMA)
            return tuple(self.level + log_factor for log_factor in own)
        runs = []
        for batch in self.batches[-LEVEL_RUNS:]:
            errors = [error for error, _ in task_errors([batch], of_calls=True)]
            runs.append((errors, batch.point_weight))
        return residuals(runs, CALL_TASK_SIGMA)

    @cached_property
    def _fit_errors(self) -> list[tuple[list[float], float]]:
        """The errors of the tasks of the newest runs, and their weight, by what is known now."""
        fit, batches = self.fit, self.batches[-LEVEL_RUNS:]
        chosen = fit.experts[fit.chosen]
        runs = []
        for batch, weight in zip(batches, weights(batches), strict=True):
            errors = [fit.scale.at_origin(p) - chosen.at(p.n_bytes) for p in batch.points]
            runs.append((errors, weight))
        return runs

    def fitted(self) -> FunctionModel:
        """Returns itself, fitted now rather than at the first prediction, while a user waits."""
        _ = self.fit
        return self

    def with_prior(self, prior: Prior) -> FunctionModel:
        """Returns the same memory under other hints."""
        return replace(self, prior=prior)

    def learnt(self, points: Sequence[Point], ended_at: float) -> FunctionModel:
        """Returns the model with one more run, predicted before it is learnt. O(points)."""
        batch = thinned(points, ended_at)
        if not self.batches:
            return replace(self, batches=(batch,), calls=self.calls.learnt(points))

        fit = self.fit
        run_losses = [0.0] * len(EXPERTS)
        scored = []
        for point in batch.points:
            y = fit.scale.at_origin(point)
            errors = [y - expert.at(point.n_bytes) for expert in fit.experts]
            for i, error in enumerate(errors):
                run_losses[i] += min(abs(error), WORST)
            call_error = self.calls.error(point, fit.scale)
            scored.append(point._replace(size_error=errors[fit.chosen], call_error=call_error))

        size_error = call_error = None
        if self.target is Target.RUN:
            # Of the level that was expected, which scenarios are drawn around.
            size_error = _mean([point.size_error or 0.0 for point in scored]) - self.level
            call_errors = [p.call_error for p in scored if p.call_error is not None]
            call_error = _mean(call_errors) if call_errors else None
        learnt = replace(batch, points=tuple(scored), size_error=size_error, call_error=call_error)

        # Losses are weighted by effective samples: one run of a thousand tasks must not decide
        # alone.
        keep = FORGET**batch.weight
        share = batch.point_weight
        losses = []
        for old, new in zip(self.losses, run_losses, strict=True):
            losses.append(keep * old + share * new)
        return replace(
            self,
            batches=appended(self.batches, learnt),
            losses=tuple(losses),
            weight=keep * self.weight + batch.weight,
            calls=self.calls.scored(scored, share, keep).learnt(points),
        )

    def after_code_change(self, points: Sequence[Point], ended_at: float) -> FunctionModel:
        """Returns the model of changed code, from the first run of that code.

        If the run fits what was predicted, the history of the old code goes on. If not, only the
        losses are kept: which expert suits a function rarely changes with its code.
        """
        continued = self.learnt(points, ended_at)
        new = continued.batches[-1]
        errors, call_errors = [], []
        for point in new.points:
            errors.append(point.size_error or 0.0)
            if point.call_error is not None:
                call_errors.append(point.call_error)
        expected = self.fit.shape
        if call_errors and self.calls.is_trusted:
            errors, expected = call_errors, self.fit.call_shape
        # Between the p5 and the p95.
        if expected[1] <= median(errors) <= expected[-2]:
            return continued

        fresh = [point._replace(size_error=None, call_error=None) for point in new.points]
        calls = self.calls.without_memory().learnt(points)
        first = replace(new, points=tuple(fresh), size_error=None, call_error=None)
        return replace(self, batches=(first,), calls=calls)

    def estimate(
        self,
        n_bytes: int,
        cpus: float | None,
        memory_mb: float | None,
        key: str = "",
    ) -> Estimate:
        """Returns the prediction from equal calls if they are trusted, else from sizes."""
        fit = self.fit
        sigma = fit.scale.uncertainty(cpus, memory_mb)
        before = self.calls.of(key) if self.calls.is_trusted else ()
        if before:
            y, shape = usual(before, fit.scale), fit.call_shape
            n_samples = float(len(before))
            basis = Basis(number(len(before), "equal call"))
            beyond = 0.0  # the same call reads the same bytes
        else:
            y, shape = fit.experts[fit.chosen].at(n_bytes), fit.shape
            n_samples, basis = fit.n_samples, fit.basis
            beyond = fit.beyond(n_bytes)
            sigma = math.hypot(sigma, fit.uncertainty(n_bytes, y))

        plus = self.target.plus
        exponent = min(y - fit.scale.gain(cpus, memory_mb), LARGEST_EXPONENT)
        return Estimate(
            max(0.0, math.exp(exponent) - plus),
            widened(shape, sigma),
            n_samples=n_samples,
            basis=basis,
            plus=plus,
            is_same_call=bool(before),
            size_sigma=beyond,
        )

    def _scores(self) -> list[float]:
        """Returns the mean loss of each expert; the least is chosen."""
        first = [FIRST_LOSS * i for i in range(len(EXPERTS))]
        # Only the expert 'Bayes' reads hints: if there is one, it is preferred until losses differ.
        if self.prior != VAGUE:
            first = [0.5] * BAYES + [0.0]
        total = self.weight + PATIENCE
        pairs = zip(self.losses, first, strict=True)
        return [(loss + PATIENCE * start) / total for loss, start in pairs]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _rivals(
    fitted: Sequence[Expert],
    scores: Sequence[float],
    chosen: int,
) -> tuple[tuple[float, Expert], ...]:
    """Returns the other experts worth asking, weighted by how near their scores are to the best.

    With the weight of the chosen one, the weights add up to 1.
    """
    least = min(scores)
    odds = [math.exp((least - score) / RIVALRY) for score in scores]
    total = sum(odds)
    rivals = []
    for i, expert in enumerate(fitted):
        if i != chosen and odds[i] > 1e-3 * total:
            rivals.append((odds[i] / total, expert))
    return tuple(rivals)
