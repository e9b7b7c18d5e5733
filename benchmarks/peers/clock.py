"""The clock: repetitions of one row on one system, with what they used."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

from benchmarks.peers import usage
from benchmarks.peers.graphs import Row, fan
from benchmarks.peers.system import Graph, System


@dataclass(frozen=True, kw_only=True)
class Patience:
    """The number of repetitions, and their time.

    repetitions: at most. budget_s: no further repetition after so long. warm_tasks: a row of more
    tasks is warmed up by a small fan-out instead of itself. limit_s: of one repetition. quiet_s: a
    repetition waits at most so long until others leave the machine alone.
    """

    repetitions: int
    budget_s: float
    warm_tasks: int
    limit_s: float
    quiet_s: float = 0.0


THOROUGH = Patience(repetitions=5, budget_s=40.0, warm_tasks=2_000, limit_s=300.0)
QUICK = Patience(repetitions=3, budget_s=2.0, warm_tasks=500, limit_s=300.0)

COLD_REPETITIONS = 4
"""runs in a row of a notebook whose tasks import a library"""

BUSY = 0.25
"""CPUs of others during a repetition from which on it counts as disturbed"""

GLANCE_S = 0.25
"""length of one look at the CPU of others"""


@dataclass(frozen=True, kw_only=True)
class Repetition:
    """One run. cpu_s: by role. others: CPUs that other programs used meanwhile, on average."""

    seconds: float
    cpu_s: Mapping[str, float]
    others: float
    peak_mb: float


def measured(system: System, row: Row, patience: Patience) -> dict[str, Any]:
    """Returns the summary of as many repetitions as the patience allows, at least one.

    Raises TimeoutError, ArithmeticError for a wrong result, and whatever the system raises.
    """
    is_small = row.is_cold or row.n_tasks > patience.warm_tasks
    warm = fan(20) if is_small else row.build(-1)
    with limited(patience.limit_s):
        warm.check(system.run(warm))
    system.tidy()

    repetitions: list[Repetition] = []
    n_most = COLD_REPETITIONS if row.is_cold else patience.repetitions
    spent_s = 0.0
    while not repetitions or (
        len(repetitions) < n_most and (row.is_cold or spent_s < patience.budget_s)
    ):
        repetitions.append(_repetition(system, row.build(len(repetitions)), patience))
        spent_s += repetitions[-1].seconds
    system.tidy()
    return summary(row, repetitions)


def summary(row: Row, repetitions: Sequence[Repetition]) -> dict[str, Any]:
    """Returns the figures of a row, of the repetitions that were not disturbed if there are any.

    seconds: of every repetition. median_s leaves out the first one of a cold row. cpu_us: role ->
    CPU microseconds a task, or a repetition where the row has no number of tasks. client_mb: the
    most memory of the client. others: see Repetition, the mean.
    """
    calm = [each for each in repetitions if each.others <= BUSY]
    chosen = calm if calm and not row.is_cold else repetitions
    warm = chosen[1:] if row.is_cold else chosen
    result: dict[str, Any] = {
        "seconds": [each.seconds for each in repetitions],
        "median_s": statistics.median(each.seconds for each in warm),
    }
    if usage.is_known():
        n_units = len(chosen) * max(1, row.n_tasks)
        used: Counter[str] = Counter()
        for each in chosen:
            used.update(each.cpu_s)
        result["cpu_us"] = {role: cpu_s / n_units * 1e6 for role, cpu_s in used.items()}
        result["client_mb"] = max(each.peak_mb for each in chosen)
        result["others"] = statistics.mean(each.others for each in chosen)
    return result


def _repetition(system: System, graph: Graph, patience: Patience) -> Repetition:
    gc.collect()
    meter = Meter(system)
    await_quiet(meter, patience.quiet_s)
    with limited(patience.limit_s):
        meter.begin()
        begin_s = time.perf_counter()
        value = system.run(graph)
        seconds = time.perf_counter() - begin_s
        cpu_s, others_s = meter.used()
    graph.check(value)
    peak_mb = usage.peak_mb() if usage.is_known() else 0.0
    return Repetition(
        seconds=seconds, cpu_s=cpu_s, others=others_s / max(seconds, 1e-3), peak_mb=peak_mb
    )


def await_quiet(meter: Meter, limit_s: float) -> None:
    """Return when others use little of the machine, or after so many seconds."""
    until = time.perf_counter() + limit_s
    while usage.is_known() and time.perf_counter() < until:
        meter.begin()
        time.sleep(GLANCE_S)
        if meter.used()[1] <= BUSY * GLANCE_S:
            return


class Meter:
    """CPU of a system since `begin`, and of all other programs."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._roots: dict[str, int] = {}
        self._before: dict[str, float] = {}
        self._busy_s = 0.0

    def begin(self) -> None:
        """Begin; also a new peak of the client's memory."""
        if usage.is_known():
            self._roots = self._system.roots()
            usage.forget_peak()
            self._before, self._busy_s = self._look(), usage.busy_s()

    def used(self) -> tuple[dict[str, float], float]:
        """Returns CPU seconds by role, and those of others, >= 0."""
        if not usage.is_known():
            return {}, 0.0
        busy_s = usage.busy_s() - self._busy_s
        cpu_s = {}
        for role, now_s in self._look().items():
            cpu_s[role] = now_s - self._before.get(role, 0.0)
        # The clock of CPU ticks: two ticks of a short run may be in one figure and not in the other.
        others_s = busy_s - sum(cpu_s.values()) - 2 / usage.TICKS
        return cpu_s, max(0.0, others_s)

    def _look(self) -> dict[str, float]:
        return usage.cpu_by_role(os.getpid(), self._roots, usage.processes())


@contextlib.contextmanager
def limited(limit_s: float) -> Iterator[None]:
    """Raise TimeoutError inside the block after so many seconds. For the main thread."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"no result after {limit_s:g} s")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
