"""The costs of tasks, learnt from earlier tasks: one model for each function and quantity.

Models are of the logarithm of a positive quantity (run time, output size, time to unpickle, time to
pickle), because errors of times are factors: twice as long is as likely as half as long.

    samples of one run                    observation      thins a run and weighs it (Kish)
      |  by function and quantity
      v
    Learnt                                learnt           what is known of one name, also in files
      v
    FunctionModel                         function_model   predicts, scores, then learns (Dawid)
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
"""

from __future__ import annotations

import math
from collections.abc import Sequence, Set
from dataclasses import replace

from dagnb.graph.options import TaskOptions
from dagnb.graph.resources import DEFAULT, Resources
from dagnb.planning.planner import HINTED, UNKNOWN, PastErrors
from dagnb.prediction.estimate import (
    LARGEST_EXPONENT,
    Estimate,
    Sigma,
    error_sigma,
    normal,
    usual_residuals,
)
from dagnb.prediction.failures import FailureModel
from dagnb.prediction.function_model import FunctionModel
from dagnb.prediction.learnt import Learnt
from dagnb.prediction.observation import Sample, Target
from dagnb.prediction.regression import (
    GUESS_SIGMA,
    VAGUE,
    LinearModel,
    Prior,
    hinted,
    line,
    moments,
)
from dagnb.prediction.run_errors import RUNS, TaskContribution, Total, past_errors

# Uncertainty that a change of code adds, on the log scale.
CHANGED_SIGMA = 0.5
# Variance of the noise that the prior of the slope through all functions is measured in.
POOLED_NOISE = 1.0
# Estimates remembered. Equal tasks of wide DAGs ask for equal ones; more would only hold memory.
MEMO = 100_000


class Predictor:
    """Learns runs and predicts tasks. Not thread-safe."""

    def __init__(self) -> None:
        # By name of the function.
        self._learnt: dict[str, Learnt] = {}
        # Lasting hash of a function -> the name under which it ran last.
        self._names: dict[str, str] = {}
        self._n_runs = 0
        self._forget_answers()

    def _forget_answers(self) -> None:
        self._memo: dict[tuple[object, ...], Estimate] = {}
        self._pooled: dict[Target, LinearModel | None] = {}
        self._runs: tuple[dict[str, Total], ...] | None = None

    def learn(self, samples: Sequence[Sample], run: str = "", number: int | None = None) -> None:
        """Learns one whole run, after scoring its predictions. O(samples log samples).

        run: its name, under which functions that are learnt at other times share its errors.
        number: larger for later runs; the next one by default.
        """
        self._n_runs += 1
        number = self._n_runs if number is None else number
        by_name: dict[str, list[Sample]] = {}
        for sample in samples:
            by_name.setdefault(sample.name, []).append(sample)
        # In an order of its own: what is learnt does not depend on that of the samples.
        for name, tasks in sorted(by_name.items()):
            self.put(name, self.known(name).learnt(tasks, run or f"number {number}", number))

    def copy(self) -> Predictor:
        """Returns a predictor that knows the same, and which later runs and hints do not change."""
        other = Predictor()
        other._learnt, other._names = dict(self._learnt), dict(self._names)
        other._n_runs = self._n_runs
        return other

    def known(self, name: str) -> Learnt:
        """Returns what is known of the functions of a name."""
        return self._learnt.get(name) or Learnt()

    def put(self, name: str, learnt: Learnt) -> None:
        """Lets this be known of the functions of a name, instead of what was."""
        self._learnt[name] = learnt
        for _, function in learnt.models:
            self._names[function] = name
        self._forget_answers()

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

    def failure_model(self, function: str, name: str) -> FailureModel:
        """Returns the failures of this code, or what those of other code of this name tell."""
        return self._of(function, name).failure_model(function)

    def past_errors(
        self, tasks: Sequence[TaskContribution]
    ) -> tuple[tuple[PastErrors, ...], float]:
        """Returns errors that a run of these tasks may have as a whole, and the noise beside."""
        if self._runs is None:
            self._runs = self._merged_runs()
        return past_errors(self._runs, tasks)

    def _merged_runs(self) -> tuple[dict[str, Total], ...]:
        """Returns the errors of the functions of each of the last RUNS runs, the newest last."""
        numbers: dict[str, int] = {}
        merged: dict[str, dict[str, Total]] = {}
        for name, learnt in self._learnt.items():
            for past in learnt.runs:
                numbers[past.run] = max(past.number, numbers.get(past.run, 0))
                merged.setdefault(past.run, {})[name] = past.total
        newest = sorted(merged, key=lambda run: numbers[run])[-RUNS:]
        return tuple(merged[run] for run in newest)

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

        learnt = self._of(function, name)
        is_changed = (target, function) not in learnt.models
        if prior is not None and model.prior != prior:
            # Stored, so that the model is fitted once for all tasks with these hints.
            model = model.with_prior(prior)
            code = learnt.newest if is_changed else function
            with_hints = learnt.with_model((target, code), model)
            self._learnt[self._name(function, name)] = with_hints
        estimate = model.estimate(n_bytes, resources.cpus, resources.memory_mb, key)
        if is_changed:
            estimate = estimate.less_certain(CHANGED_SIGMA, ", of earlier code")
        return estimate

    def _model(self, target: Target, function: str, name: str) -> FunctionModel | None:
        """Returns the model of this code, else that of the newest code of the same name."""
        return self._of(function, name).model(target, function)

    def _of(self, function: str, name: str) -> Learnt:
        return self._learnt.get(self._name(function, name)) or Learnt()

    def _name(self, function: str, name: str) -> str:
        """Returns the name under which a function is known: another one after it was renamed."""
        known = self._learnt.get(name)
        if known is not None and any(function == other for _, other in known.models):
            return name
        return self._names.get(function, name)

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
        n_others = len(self._models(target))
        exponent = min(pooled.at(math.log(n_bytes + 1)), LARGEST_EXPONENT)
        sigma = math.hypot(pooled.sigma, sigma / math.sqrt(n_others))
        return Estimate(
            max(0.0, math.exp(exponent) - plus),
            normal(sigma),
            code_sigma=sigma,
            basis=replace(UNKNOWN, text=f"{UNKNOWN}; as {n_others} other functions"),
            plus=plus,
        )

    def _models(self, target: Target) -> list[FunctionModel]:
        """Returns the models of this quantity of all functions."""
        models = []
        for learnt in self._learnt.values():
            for (other, _), model in learnt.models.items():
                if other is target:
                    models.append(model)
        return models

    def _pooled_line(self, target: Target) -> LinearModel | None:
        """Returns a line through all functions, each one point: its mean log size and value."""
        xs, ys = [], []
        for model in self._models(target):
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
