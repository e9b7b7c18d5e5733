"""The costs of tasks, learnt from earlier tasks: one model for each function and quantity.

Models are of the logarithm of a positive quantity (run time, output size, time to unpickle, time to
pickle), because errors of times are factors: twice as long is as likely as half as long.

    samples of one run                    observation      thins a run and weighs it (Kish)
      |  by function and quantity
      v
    FunctionModel                         predictor        predicts, scores, then learns (Dawid)
      |-- effect of CPUs and memory       regression       random intercepts (Laird and Ware)
      |-- value from bytes read           experts          nearest, usual, last, lines by evidence
      |                                   regression       evidence of a line (Bishop)
      |-- value of equal calls            experts.Calls
      v
    Estimate: median, quantiles, basis    estimate         quantiles of past errors (Vovk)

    state of a function    median                              spread
    ---------------------  ----------------------------------  ------------------------------
    measured               its model                           its past errors
    code changed           model of the name's newest code     these and CHANGED_SIGMA
    hinted by @task        the hint                            GUESS_SIGMA
    never seen             a line through all other functions  of that line and a wide default
    no function seen       a constant                          a wide default

Estimates of the last two states are marked as unknown.
A run as a whole is uncertain in another way than the sum of its tasks; see run_errors.py.

The model of one quantity of one function
-----------------------------------------
It holds remembered runs, and the scores of experts.

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
from collections import deque
from collections.abc import Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cached_property

from dagnb.graph.brief import brief, number
from dagnb.graph.options import TaskOptions
from dagnb.graph.resources import DEFAULT, Resources
from dagnb.planning.planner import HINTED, UNKNOWN, Basis, PastErrors
from dagnb.prediction.estimate import (
    CALL_RUN_SIGMA,
    CALL_TASK_SIGMA,
    LARGEST_EXPONENT,
    RUN_SIGMA,
    TASK_SIGMA,
    Estimate,
    Shape,
    Sigma,
    error_shape,
    error_sigma,
    normal,
    residuals,
    task_errors,
    usual_residuals,
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
from dagnb.prediction.failures import FailureHistory
from dagnb.prediction.observation import Batch, Point, Sample, Target, appended, points_of, thinned
from dagnb.prediction.regression import (
    FIXED,
    GUESS_SIGMA,
    VAGUE,
    LinearModel,
    Prior,
    Scaling,
    hinted,
    line,
    moments,
    scaling,
)
from dagnb.prediction.run_errors import (
    RUNS,
    TaskContribution,
    Total,
    expected_level,
    past_errors,
    run_totals,
)

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


# Uncertainty that a change of code adds, on the log scale.
CHANGED_SIGMA = 0.5
# Variance of the noise that the prior of the slope through all functions is measured in.
POOLED_NOISE = 1.0
# Estimates remembered. Equal tasks of wide DAGs ask for equal ones; more would only hold memory.
MEMO = 100_000

# (quantity, lasting hash of the function's code)
Key = tuple[Target, str]


class Predictor:
    """Learns runs and predicts tasks. Not thread-safe."""

    def __init__(self) -> None:
        self._models: dict[Key, FunctionModel] = {}
        # Name of a function -> hash of its newest code.
        self._newest: dict[str, str] = {}
        self._runs: deque[dict[str, Total]] = deque(maxlen=RUNS)
        self.failures = FailureHistory()
        self._memo: dict[tuple[object, ...], Estimate] = {}
        self._pooled: dict[Target, LinearModel | None] = {}

    def learn(self, samples: Sequence[Sample]) -> None:
        """Learns one whole run, after scoring its predictions. O(samples log samples)."""
        run: dict[str, list[Sample]] = {}
        for sample in samples:
            run.setdefault(sample.function, []).append(sample)

        # Collected first: functions of one run must not be predicted from each other.
        learnt: dict[Key, FunctionModel] = {}
        for function, tasks in run.items():
            name = min(task.name for task in tasks)
            ended_at = max(task.ended_at for task in tasks)
            for target in Target:
                points = points_of(tasks, target)
                if points:
                    model = self._learnt(target, function, name, points, ended_at)
                    learnt[target, function] = model.fitted()
        self._models |= learnt

        self.failures.learn(samples)
        self._remember_totals(run)
        for sample in sorted(samples, key=lambda sample: (sample.ended_at, sample.function)):
            self._newest[sample.name] = sample.function
        self._memo.clear()
        self._pooled.clear()

    def predict(
        self,
        target: Target,
        function: str,
        name: str,
        n_bytes: int,
        resources: Resources = DEFAULT,
        options: TaskOptions | None = None,
        key: str = "",
    ) -> Estimate:
        """Returns the distribution of one quantity of one task, in seconds or bytes.

        function, name, key: as in its Sample. n_bytes: that it reads; for DUMP, that it gives.
        options: its hints; None leaves those that were given before.
        """
        hints: tuple[object, ...] | None = None
        if options is not None:
            hints = (options.io, options.time_s, options.output_bytes)
        cpus, memory_mb = resources.cpus, resources.memory_mb
        memo_key = (target, function, name, n_bytes, cpus, memory_mb, hints, key)
        estimate = self._memo.get(memo_key)
        if estimate is None:
            if len(self._memo) >= MEMO:
                self._memo.clear()
            estimate = self._predicted(target, function, name, n_bytes, resources, options, key)
            self._memo[memo_key] = estimate
        return estimate

    def known_calls(self, function: str, name: str) -> Set[str]:
        """Returns the keys by which `predict` recognises calls of a function. O(KEYS).

        With any other key it predicts as without one.
        """
        keys: set[str] = set()
        for target in Target:
            model = self._model(target, function, name)
            if model is not None and model.calls.is_trusted:
                keys |= model.calls.seen.keys()
        return keys

    def batch_sigma(
        self,
        function: str,
        name: str,
        target: Target = Target.RUN,
        *,
        is_same_call: bool = False,
    ) -> Sigma:
        """Returns the parts of the uncertainty: shared by the tasks of a run, and each task's own.

        is_same_call: of tasks predicted from equal calls. O(samples remembered).
        """
        model = self._model(target, function, name)
        batches = model.batches if model is not None else ()
        return error_sigma(batches, of_calls=is_same_call)

    def residuals(
        self, function: str, name: str, *, is_same_call: bool = False
    ) -> tuple[float, ...]:
        """Returns logs of the factors by which run times of this function differ in a run.

        Equally likely, ascending; of a function never measured, those of a usual one.
        is_same_call: of tasks predicted from equal calls. O(samples remembered).
        """
        model = self._model(Target.RUN, function, name)
        if model is None:
            return usual_residuals()
        return model.residuals(of_calls=is_same_call)

    def past_errors(
        self, tasks: Sequence[TaskContribution]
    ) -> tuple[tuple[PastErrors, ...], float]:
        """Returns errors that a run of these tasks may have as a whole, and the noise beside."""
        return past_errors(self._runs, tasks)

    def _predicted(
        self,
        target: Target,
        function: str,
        name: str,
        n_bytes: int,
        resources: Resources,
        options: TaskOptions | None,
        key: str,
    ) -> Estimate:
        prior = None if options is None else hinted(options, target)
        model = self._model(target, function, name)
        if model is None:
            return self._unmeasured(target, n_bytes, prior or VAGUE)

        is_changed = (target, function) not in self._models
        if prior is not None and model.prior != prior:
            # Stored, so that the model is fitted once for all tasks with these hints.
            model = model.with_prior(prior)
            self._models[target, self._newest[name] if is_changed else function] = model
        estimate = model.estimate(n_bytes, resources.cpus, resources.memory_mb, key)
        if is_changed:
            estimate = estimate.less_certain(CHANGED_SIGMA, ", of earlier code")
        return estimate

    def _model(self, target: Target, function: str, name: str) -> FunctionModel | None:
        """Returns the model of this code, else that of the newest code of the same name."""
        model = self._models.get((target, function))
        return model or self._models.get((target, self._newest.get(name, "")))

    def _learnt(
        self,
        target: Target,
        function: str,
        name: str,
        points: list[Point],
        ended_at: float,
    ) -> FunctionModel:
        if (target, function) in self._models:
            return self._models[target, function].learnt(points, ended_at)
        earlier_code = self._model(target, function, name)
        if earlier_code is not None:
            return earlier_code.after_code_change(points, ended_at)
        return FunctionModel(target).learnt(points, ended_at)

    def _remember_totals(self, run: dict[str, list[Sample]]) -> None:
        """Remembers the errors of whole functions in this run."""
        batches = {}
        for function, tasks in run.items():
            model = self._models.get((Target.RUN, function))
            if model is not None:
                batches[min(task.name for task in tasks)] = model.batches[-1]
        totals = run_totals(batches)
        if totals:
            self._runs.append(totals)

    def _unmeasured(self, target: Target, n_bytes: int, prior: Prior) -> Estimate:
        """Returns the estimate of a function without samples: from its hint, or from the others."""
        plus = target.plus
        if prior.level is not None:
            value = max(0.0, math.exp(prior.level) - plus)
            shape = normal(GUESS_SIGMA)
            return Estimate(value, shape, prior.count, HINTED, plus, code_sigma=GUESS_SIGMA)

        median, sigma = target.default
        if target not in self._pooled:
            self._pooled[target] = self._pooled_line(target)
        pooled = self._pooled[target]
        if pooled is None:
            return Estimate(median, normal(sigma), plus=plus, code_sigma=sigma)

        # The more functions were seen, the more is known of functions here in general.
        n_others = sum(1 for other, _ in self._models if other is target)
        exponent = min(pooled.at(math.log(n_bytes + 1)), LARGEST_EXPONENT)
        sigma = math.hypot(pooled.sigma, sigma / math.sqrt(n_others))
        return Estimate(
            max(0.0, math.exp(exponent) - plus),
            normal(sigma),
            code_sigma=sigma,
            basis=replace(UNKNOWN, text=f"{UNKNOWN}; as {n_others} other functions"),
            plus=plus,
        )

    def _pooled_line(self, target: Target) -> LinearModel | None:
        """Returns a line through all functions, each one point: its mean log size and value."""
        xs, ys = [], []
        for (other, _), model in self._models.items():
            if other is not target:
                continue
            points = model.batches[-1].points
            x = y = 0.0
            for point in points:
                x += math.log(point.n_bytes + 1)
                y += point.y
            xs.append(x / len(points))
            ys.append(y / len(points))
        if not xs:
            return None
        slope_weight = POOLED_NOISE / VAGUE.slope_sd**2
        return line(moments(xs, ys, [1.0] * len(xs)), VAGUE.slope, slope_weight)
