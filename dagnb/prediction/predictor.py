"""What tasks will cost, learnt from what tasks cost: a bank for each function and quantity.

A function is its code. Changed code is foretold from its predecessor of the same name, with more doubt, until it ran.
What nobody measured or said is marked as unknown; its numbers lean on other functions.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

from dagnb.graph.options import TaskOptions
from dagnb.graph.resources import DEFAULT, Resources
from dagnb.prediction import state
from dagnb.prediction.batch import Point, point
from dagnb.prediction.estimate import Estimate, normal
from dagnb.prediction.function_model import FunctionModel
from dagnb.prediction.linear_model import GUESS_SIGMA, LinearModel, line, moments
from dagnb.prediction.prior import VAGUE, Prior, hinted
from dagnb.prediction.spread import Sigma, sigma
from dagnb.prediction.target import Target
from dagnb.prediction.totals import RUNS, TaskContribution, Total, run_sigma, totals
from dagnb.trace.sample import Sample

CHANGED_SIGMA = 0.5
"""doubt that changed code adds"""
POOL_NOISE = 1.0
"""variance in which the prior of the pooled slope is measured"""
MEMO = 100_000

Key = tuple[Target, str]


class Predictor:
    """Learns runs, predicts tasks. Not thread-safe."""

    def __init__(self) -> None:
        self._models: dict[Key, FunctionModel] = {}
        self._newest: dict[str, str] = {}
        self._runs: deque[dict[str, Total]] = deque(maxlen=RUNS)
        self._memo: dict[tuple[object, ...], Estimate] = {}
        self._pools: dict[Target, LinearModel | None] = {}

    def learn(self, samples: Sequence[Sample]) -> None:
        """Take in one whole run; what was foretold before it is scored. O(samples log samples)."""
        runs: dict[str, list[Sample]] = {}
        for sample in samples:
            runs.setdefault(sample.function, []).append(sample)
        learnt: dict[Key, FunctionModel] = {}
        for function, tasks in runs.items():
            name, ended_at = min(task.name for task in tasks), max(task.ended_at for task in tasks)
            for target in Target:
                points = _points(tasks, target)
                if points:
                    learnt[target, function] = self._learnt(
                        target, function, name, points, ended_at
                    )
        self._models |= learnt
        self._remember(runs)
        newest = sorted(samples, key=lambda sample: (sample.ended_at, sample.function))
        self._newest |= {sample.name: sample.function for sample in newest}
        self._memo.clear()
        self._pools.clear()

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
        """The distribution of one quantity of one task.

        function, name, key: as in its Sample. n_bytes: what the task reads; for DUMP, what it gives.
        options: its hints; None leaves those that were given before.
        """
        hints = (options.io, options.time_s, options.output_bytes) if options is not None else None
        asked = (target, function, name, n_bytes, resources.cpus, resources.memory_mb, hints, key)
        found = self._memo.get(asked)
        if found is None:
            if len(self._memo) >= MEMO:
                self._memo.clear()
            prior = None if options is None else hinted(options, target)
            bank = self._hinted(target, function, name, prior)
            if bank is None:
                found = self._unmeasured(target, n_bytes, prior or VAGUE)
            else:
                found = bank.estimate(n_bytes, resources.cpus, resources.memory_mb, key)
                if (target, function) not in self._models:
                    found = found.doubted(CHANGED_SIGMA, f"{found.source}, of earlier code")
            self._memo[asked] = found
        return found

    def batch_sigma(
        self, function: str, name: str, target: Target = Target.RUN, *, is_same_call: bool = False
    ) -> Sigma:
        """How much of the doubt all tasks of a run share, and how much is each task's own. O(samples kept).

        is_same_call: when they are predicted from equal calls.
        """
        bank = self._model(target, function, name)
        return sigma(bank.batches if bank is not None else (), of_calls=is_same_call)

    def run_sigma(self, tasks: Sequence[TaskContribution]) -> float:
        """How far a run of these tasks may be off as a whole, as whole runs were before. O(tasks + functions)."""
        return run_sigma(self._runs, tasks)

    def to_json(self) -> str:
        """All that was learnt. Equal predictors give equal text."""
        return state.dumped(self._models, self._newest, self._runs)

    @classmethod
    def from_json(cls, text: str) -> Predictor:
        """The predictor that gave this text. Raises ConfigError if it is of another version."""
        found = cls()
        found._models, found._newest, runs = state.loaded(text)
        found._runs.extend(runs)
        return found

    def _model(self, target: Target, function: str, name: str) -> FunctionModel | None:
        return self._models.get((target, function)) or self._models.get(
            (target, self._newest.get(name, ""))
        )

    def _learnt(
        self, target: Target, function: str, name: str, points: list[Point], ended_at: float
    ) -> FunctionModel:
        own, before = self._models.get((target, function)), self._model(target, function, name)
        if own is not None:
            return own.learnt(points, ended_at).ready()
        bank = (
            FunctionModel(target).learnt(points, ended_at)
            if before is None
            else before.succeeded(points, ended_at)
        )
        return bank.ready()

    def _remember(self, run: dict[str, list[Sample]]) -> None:
        """What its functions came to as a whole, against what was foretold."""
        banks = {
            min(task.name for task in tasks): self._models.get((Target.RUN, f))
            for f, tasks in run.items()
        }
        found = totals({name: bank.batches[-1] for name, bank in banks.items() if bank is not None})
        if found:
            self._runs.append(found)

    def _hinted(
        self, target: Target, function: str, name: str, prior: Prior | None
    ) -> FunctionModel | None:
        """The bank in the light of hints."""
        bank = self._model(target, function, name)
        if bank is not None and prior is not None and bank.prior != prior:
            bank = bank.believing(prior)
            self._models[
                target, function if (target, function) in self._models else self._newest[name]
            ] = bank
        return bank

    def _unmeasured(self, target: Target, n_bytes: int, prior: Prior) -> Estimate:
        if prior.level is not None:
            said = max(0.0, math.exp(prior.level) - target.plus)
            return Estimate(
                said,
                normal(GUESS_SIGMA),
                prior.count,
                "hint of @task",
                is_known=True,
                plus=target.plus,
            )
        median, spread = target.default
        if target not in self._pools:
            self._pools[target] = self._pooled(target)
        pool = self._pools[target]
        if pool is None:
            return Estimate(median, normal(spread), plus=target.plus)
        others = sum(1 for other, _ in self._models if other is target)
        median = math.exp(min(pool.at(math.log(n_bytes + 1)), 600.0)) - target.plus
        doubt = normal(math.hypot(pool.sigma, spread / math.sqrt(others)))
        return Estimate(
            max(0.0, median),
            doubt,
            source=f"unknown; as {others} other functions",
            plus=target.plus,
        )

    def _pooled(self, target: Target) -> LinearModel | None:
        """One line through all functions, each one point: its mean size and level."""
        xs, ys = [], []
        for (other, _), bank in self._models.items():
            if other is target:
                points = bank.batches[-1].points
                xs.append(sum(math.log(p.n_bytes + 1) for p in points) / len(points))
                ys.append(sum(p.y for p in points) / len(points))
        if not xs:
            return None
        return line(moments(xs, ys, [1.0] * len(xs)), VAGUE.slope, POOL_NOISE / VAGUE.slope_sd**2)


def _points(tasks: Sequence[Sample], target: Target) -> list[Point]:
    found = []
    for task in tasks:
        n_bytes, value = target.read(task)
        if value is not None:
            found.append(
                point(
                    n_bytes,
                    math.log(max(value + target.plus, target.floor)),
                    task.resources,
                    task.key,
                )
            )
    return found
