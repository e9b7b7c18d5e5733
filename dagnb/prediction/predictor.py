"""The costs of tasks, learnt from earlier tasks: one model for each function and quantity.

Models are of the logarithm of a positive quantity (run time, output size, time to unpickle, time to
pickle), because errors of times are factors: twice as long is as likely as half as long.

    samples of one run                    observation      thins a run and weighs it (Kish)
      |  by function and quantity
      v
    FunctionModel                         function_model   predicts, scores, then learns (Dawid)
      |-- effect of CPUs and memory       scaling          random intercepts (Laird and Ware)
      |-- value from bytes read           experts          nearest, usual, last, lines by evidence
      |                                   linear_model     evidence of a line (Bishop)
      |-- value of equal calls            experts.Calls
      v
    Estimate: median, quantiles, basis    spread           quantiles of past errors (Vovk)

    state of a function    median                              spread
    ---------------------  ----------------------------------  ------------------------------
    measured               its model                           its past errors
    code changed           model of the name's newest code     these and CHANGED_SIGMA
    hinted by @task        the hint                            GUESS_SIGMA
    never seen             a line through all other functions  of that line and a wide default
    no function seen       a constant                          a wide default

Estimates of the last two states are marked as unknown.
A run as a whole is uncertain in another way than the sum of its tasks; see `spread.run_sigma`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from dagnb.graph.options import TaskOptions
from dagnb.graph.resources import DEFAULT, Resources
from dagnb.planning.basis import HINTED, UNKNOWN
from dagnb.prediction import spread
from dagnb.prediction.estimate import LARGEST_EXPONENT, Estimate, normal
from dagnb.prediction.function_model import FunctionModel
from dagnb.prediction.linear_model import (
    GUESS_SIGMA,
    VAGUE,
    LinearModel,
    Prior,
    hinted,
    line,
    moments,
)
from dagnb.prediction.observation import Point, Target, points_of
from dagnb.prediction.spread import Sigma, TaskContribution, Total
from dagnb.trace.sample import Sample

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
        self._runs: deque[dict[str, Total]] = deque(maxlen=spread.RUNS)
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
        return spread.sigma(batches, of_calls=is_same_call)

    def run_sigma(self, tasks: Sequence[TaskContribution]) -> float:
        """Returns the uncertainty of a run of these tasks as a whole, from past runs."""
        return spread.run_sigma(self._runs, tasks)

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
        totals = spread.run_totals(batches)
        if totals:
            self._runs.append(totals)

    def _unmeasured(self, target: Target, n_bytes: int, prior: Prior) -> Estimate:
        """Returns the estimate of a function without samples: from its hint, or from the others."""
        plus = target.plus
        if prior.level is not None:
            value = max(0.0, math.exp(prior.level) - plus)
            return Estimate(value, normal(GUESS_SIGMA), prior.count, HINTED, plus)

        median, sigma = target.default
        if target not in self._pooled:
            self._pooled[target] = self._pooled_line(target)
        pooled = self._pooled[target]
        if pooled is None:
            return Estimate(median, normal(sigma), plus=plus)

        # The more functions were seen, the more is known of functions here in general.
        n_others = sum(1 for other, _ in self._models if other is target)
        exponent = min(pooled.at(math.log(n_bytes + 1)), LARGEST_EXPONENT)
        return Estimate(
            max(0.0, math.exp(exponent) - plus),
            normal(math.hypot(pooled.sigma, sigma / math.sqrt(n_others))),
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
