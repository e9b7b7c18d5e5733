"""The knowledge of the functions of one name, and its form in a file.

    run of the history  ->  learnt(run)  ->  models, errors of whole functions
                                 |
                            pack | unpack
                                 v
                       bytes that a later process goes on from

A function changes its code, so a name may have several functions. Nothing in a `Learnt` depends on
functions of other names: it can be saved and read by itself.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import msgpack

from dagnb.graph.brief import brief
from dagnb.prediction.experts import Calls
from dagnb.prediction.failures import FailedAttempt, FailureModel, RunCount
from dagnb.prediction.function_model import FunctionModel
from dagnb.prediction.observation import Batch, Point, Sample, Target, points_of
from dagnb.prediction.regression import Prior
from dagnb.prediction.run_errors import RUNS, Total, run_totals

# (quantity, lasting hash of the function's code)
Key = tuple[Target, str]

# Versions of its code that are known of a name, those that ran last.
VERSIONS = 20


class PastRun(NamedTuple):
    """A run as one name knows it. number: orders the runs. total: errors of its tasks together."""

    run: str
    number: int
    total: Total


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """The models of the functions of one name.

    newest: the hash of the code that ran last. runs: the last RUNS runs that were predicted, oldest
    first. failures: of attempts, by hash of the code.
    """

    models: Mapping[Key, FunctionModel] = field(default_factory=lambda: MappingProxyType({}))
    newest: str = ""
    runs: tuple[PastRun, ...] = ()
    failures: Mapping[str, FailureModel] = field(default_factory=lambda: MappingProxyType({}))

    __repr__ = brief

    def model(self, target: Target, function: str) -> FunctionModel | None:
        """Returns the model of this code, else that of the newest code."""
        return self.models.get((target, function)) or self.models.get((target, self.newest))

    def with_model(self, key: Key, model: FunctionModel) -> Learnt:
        """Returns the same with another model."""
        return replace(self, models=MappingProxyType({**self.models, key: model}))

    def failure_model(self, function: str) -> FailureModel:
        """Returns the failures of this code, or what those of the newest code tell of it."""
        model = self.failures.get(function)
        if model is not None:
            return model
        return self.failures.get(self.newest, FailureModel()).of_changed_code()

    def learnt(self, samples: Sequence[Sample], run: str, number: int) -> Learnt:
        """Returns this with the samples of one more run, all of this name. O(n log n)."""
        by_function: dict[str, list[Sample]] = {}
        for sample in samples:
            by_function.setdefault(sample.function, []).append(sample)

        models, runs, failures = dict(self.models), self.runs, dict(self.failures)
        for function, tasks in by_function.items():
            failures[function] = self.failure_model(function).learnt(tasks)
            ended_at = max(task.ended_at for task in tasks)
            for target in Target:
                if points := points_of(tasks, target):
                    model = self._after(target, function, points, ended_at)
                    models.pop((target, function), None)  # the version that ran last goes last
                    models[target, function] = model.fitted()
        newest = max(samples, key=lambda sample: (sample.ended_at, sample.function)).function
        run_model = models.get((Target.RUN, newest))
        if run_model is not None:
            # None in the first run of a name, which was not predicted.
            for total in run_totals({newest: run_model.batches[-1]}).values():
                runs = (*runs, PastRun(run, number, total))[-RUNS:]
        versions = list(dict.fromkeys(function for _, function in models))
        for target, function in tuple(models):
            if function in versions[:-VERSIONS]:
                del models[target, function]
                failures.pop(function, None)
        return Learnt(
            models=MappingProxyType(models),
            newest=newest,
            runs=runs,
            failures=MappingProxyType(failures),
        )

    def _after(
        self, target: Target, function: str, points: list[Point], ended_at: float
    ) -> FunctionModel:
        """Returns the model after these points: of this code, or after a change of the code."""
        if (target, function) in self.models:
            return self.models[target, function].learnt(points, ended_at)
        earlier_code = self.models.get((target, self.newest))
        if earlier_code is not None:
            return earlier_code.after_code_change(points, ended_at)
        return FunctionModel(target).learnt(points, ended_at)

    # ---- in a file ----

    def pack(self) -> bytes:
        """Returns its bytes and their checksum, for `unpack`."""
        models = []
        for (target, function), model in self.models.items():
            batches = list(map(_values, model.batches))
            calls = [dict(model.calls.seen), model.calls.loss, model.calls.other_loss]
            row = (_values(model.prior), batches, model.losses, model.weight, calls)
            models.append((target.value, function, *row))
        failures = {function: _values(model) for function, model in self.failures.items()}
        packed: bytes = msgpack.packb([models, self.newest, self.runs, failures])
        return _checksum(packed) + packed

    @classmethod
    def unpack(cls, packed: bytes) -> Learnt:
        """Returns what `pack` had. Raises ValueError or TypeError for other bytes."""
        checksum, packed = packed[:_CHECKSUM_BYTES], packed[_CHECKSUM_BYTES:]
        if checksum != _checksum(packed):
            raise ValueError("the state of a function is damaged")
        fitted, newest, runs, failed = msgpack.unpackb(packed)
        models = {}
        for target, function, *row in fitted:
            models[Target(target), function] = _model(Target(target), *row)
        failures = {}
        for function, (counts, rows) in failed.items():
            attempts = tuple(FailedAttempt(*row) for row in rows)
            failures[function] = FailureModel(tuple(RunCount(*row) for row in counts), attempts)
        return cls(
            models=MappingProxyType(models),
            newest=newest,
            runs=tuple(PastRun(run, number, Total(*total)) for run, number, total in runs),
            failures=MappingProxyType(failures),
        )


_CHECKSUM_BYTES = 8


def _checksum(packed: bytes) -> bytes:
    return hashlib.sha256(packed).digest()[:_CHECKSUM_BYTES]


def _values(row: Any) -> list[Any]:
    """Returns the values of a dataclass whose fields are plain, in their order."""
    return [getattr(row, each.name) for each in fields(row)]


def _model(
    target: Target, prior: Any, batches: Any, losses: Any, weight: float, calls: Any
) -> FunctionModel:
    seen, loss, other_loss = calls
    return FunctionModel(
        target=target,
        prior=Prior(*prior),
        batches=tuple(Batch(_points(points), *row) for points, *row in batches),
        losses=tuple(losses),
        weight=weight,
        calls=Calls(
            MappingProxyType({key: _points(points) for key, points in seen.items()}),
            loss,
            other_loss,
        ),
    )


def _points(rows: Any) -> tuple[Point, ...]:
    return tuple(Point(*row) for row in rows)


@functools.cache
def rules() -> str:
    """Returns a hash of the code that learns: by other rules, the same runs teach something else.

    Computed once per process, in about 1 ms.
    """
    code = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        code.update(file.read_bytes())
    return code.hexdigest()
