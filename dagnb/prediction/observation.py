"""Measurements that predictions learn from: of one quantity of one function, run by run.

    spans of a run -> Sample (one task, all quantities), which the history stores
                   -> Point (one task, one quantity) -> Batch (one run, thinned)

Tasks of one run share a machine, a data set and an hour: a hundred of them say little more than
ten. So a run is thinned to representative points, and weighs as many effective samples as its
intra-class correlation leaves it.
Source: Kish 1965, Survey Sampling, design effect 1 + (n - 1) rho.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, TypeVar

from dagnb.graph.brief import brief
from dagnb.graph.resources import DEFAULT, Resources
from dagnb.trace.attempts import earlier_attempts
from dagnb.trace.trace import Phase, Trace

T = TypeVar("T")

# Correlation of tasks of one run. 0.1 caps a run of any size at 10 effective samples.
CORRELATION = 0.1
# Points stored for each run: enough for its quantiles, few enough to fit models at plan time.
POINTS = 32
# Effective samples stored for each function: eight large runs, or eighty runs of one task.
CAPACITY = 80.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The last attempt of a task that succeeded.

    function: identity of its code, as graph.identity gives it. name: the function's own name.
    input_bytes: pickled arguments, including values of upstream tasks.
    output_bytes: the pickled result.
    load_s, run_s, dump_s: seconds of unpickling, of the user's function, of pickling.
        None means that the act left no span and its time is unknown, not 0.
    ended_at: epoch seconds.
    key: of the call, equal for equal calls on equal inputs (see graph.lineage); '' if unknown.
    failed: (seconds run, back-off until the next) of each attempt before, that its worker reported
        as failed.
    """

    function: str
    name: str
    resources: Resources = DEFAULT
    input_bytes: int
    output_bytes: int
    load_s: float | None = None
    run_s: float | None = None
    dump_s: float | None = None
    ended_at: float = 0.0
    key: str = ""
    failed: tuple[tuple[float, float], ...] = ()

    __repr__ = brief


def samples(
    trace: Trace,
    functions: Sequence[str],
    names: Sequence[str],
    resources: Sequence[Resources],
    keys: Sequence[str],
) -> tuple[Sample, ...]:
    """Returns the samples of a trace, in order of their ends. O(spans).

    functions, names, resources, keys: of each step, by position; no keys where they are unknown.
    """
    measured = []
    earlier = earlier_attempts(trace)
    for task, acts in trace.last_attempts.items():
        load, run, dump = acts.get(Phase.LOAD), acts.get(Phase.RUN), acts.get(Phase.DUMP)
        if run is None or dump is None:
            continue  # the task failed, or its spans were lost
        attempts = earlier.get(task, ())
        failed = [(attempt.run_s, attempt.wait_s) for attempt in attempts if attempt.is_failure]
        measured.append(
            Sample(
                function=functions[task],
                name=names[task],
                resources=resources[task],
                input_bytes=load.n_bytes if load is not None else 0,
                output_bytes=dump.n_bytes,
                load_s=max(0.0, load.duration_s) if load is not None else None,
                run_s=max(0.0, run.duration_s),
                dump_s=max(0.0, dump.duration_s),
                ended_at=dump.end_s,
                key=keys[task] if keys else "",
                failed=tuple(failed),
            )
        )
    return tuple(sorted(measured, key=lambda sample: sample.ended_at))


class Target(Enum):
    """The quantities of a task that can be predicted; the value is the word in messages."""

    RUN = "run"
    OUTPUT = "output"
    LOAD = "load"
    DUMP = "dump"

    @property
    def plus(self) -> float:
        """The number added before the logarithm is taken: sizes may be 0."""
        return 1.0 if self is Target.OUTPUT else 0.0

    @property
    def floor(self) -> float:
        """The smallest value that is distinguished: a microsecond, or no byte (0 + plus)."""
        return 1.0 if self is Target.OUTPUT else 1e-6

    @property
    def default(self) -> tuple[float, float]:
        """(median, standard deviation of the logarithm) while nothing is known at all."""
        # Spreads of 2 to 3 are a guess: two orders of magnitude to either side.
        return {
            Target.RUN: (0.1, 2.5),
            Target.OUTPUT: (1_000.0, 3.0),
            Target.LOAD: (0.0003, 2.0),
            Target.DUMP: (0.0003, 2.0),
        }[self]

    def read(self, sample: Sample) -> tuple[int, float | None]:
        """Returns (bytes it depends on, value) of a sample; None where it was not measured."""
        return {
            Target.RUN: (sample.input_bytes, sample.run_s),
            Target.OUTPUT: (sample.input_bytes, float(sample.output_bytes)),
            Target.LOAD: (sample.input_bytes, sample.load_s),
            Target.DUMP: (sample.output_bytes, sample.dump_s),
        }[self]

    def log(self, value: float) -> float:
        """Returns the logarithm of a value, as models see it."""
        return math.log(max(value + self.plus, self.floor))


class Point(NamedTuple):
    """One quantity of one task, and how wrong its predictions were.

    n_bytes: the bytes it depends on. y: logarithm of the value. key: of the call, '' if unknown.
    size_error: y minus its prediction from sizes. call_error: y minus its prediction from equal
    calls. Both errors are None where there was no such prediction.
    """

    n_bytes: int
    y: float
    cpus: float | None = None
    memory_mb: float | None = None
    size_error: float | None = None
    key: str = ""
    call_error: float | None = None

    def error(self, *, of_calls: bool) -> float | None:
        """Returns the error of its prediction from equal calls, or else from sizes."""
        return self.call_error if of_calls else self.size_error


@dataclass(frozen=True, slots=True)
class Batch:
    """The tasks of one function in one run.

    points: at most POINTS of them. n: how many tasks there were. ended_at: end of the last one.
    size_error, call_error: mean error of the level that was expected of the run, from sizes and
    from equal calls; None where there was no such prediction.
    """

    points: tuple[Point, ...]
    n: int
    ended_at: float = 0.0
    size_error: float | None = None
    call_error: float | None = None

    __repr__ = brief

    @property
    def weight(self) -> float:
        """The effective samples: 1 for one task, 9.7 for 250, never more than 10."""
        return self.n / (1 + (self.n - 1) * CORRELATION)

    @property
    def point_weight(self) -> float:
        """The effective samples of each stored point."""
        return self.weight / len(self.points)


def points_of(tasks: Sequence[Sample], target: Target) -> list[Point]:
    """Returns the points of those tasks in which the target was measured."""
    points = []
    for task in tasks:
        n_bytes, value = target.read(task)
        if value is None:
            continue
        cpus, memory_mb = task.resources.cpus, task.resources.memory_mb
        points.append(Point(n_bytes, target.log(value), cpus, memory_mb, key=task.key))
    return points


def thinned(points: Sequence[Point], ended_at: float) -> Batch:
    """Returns the batch of a run: its quantiles by resources, size and value. O(n log n)."""
    # A total order, down to the key: the order in which tasks ended must not change what is learnt.
    ordered = sorted(points, key=_order)
    return Batch(tuple(evenly(ordered, POINTS)), len(ordered), ended_at)


def evenly(ordered: list[T], most: int) -> list[T]:
    """Returns at most `most` of these, evenly spaced."""
    n = len(ordered)
    if n <= most:
        return ordered
    # The middles of equal slices: the extremes of a large run are rarely representative.
    return [ordered[(2 * i + 1) * n // (2 * most)] for i in range(most)]


def appended(batches: tuple[Batch, ...], new: Batch) -> tuple[Batch, ...]:
    """Returns the batches with one more; the oldest are dropped beyond CAPACITY."""
    kept = [*batches, new]
    total = sum(batch.weight for batch in kept)
    # Two runs always stay: variation between runs cannot be seen in one.
    while len(kept) > 2 and total - kept[0].weight >= CAPACITY:
        total -= kept.pop(0).weight
    return tuple(kept)


def _order(point: Point) -> tuple[float, float, int, float, str]:
    return point.cpus or 0.0, point.memory_mb or 0.0, point.n_bytes, point.y, point.key
