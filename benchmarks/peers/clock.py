"""The clock: repetitions of one row on one system, with what they used."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

from benchmarks.peers import usage
from benchmarks.peers.graphs import Row, fan
from benchmarks.peers.system import System


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How often, and for how long.

    repetitions: at most. budget_s: no further repetition after so long. warm_tasks: a row of more
    tasks is warmed up by a small fan-out instead of itself. limit_s: of one repetition.
    """

    repetitions: int
    budget_s: float
    warm_tasks: int
    limit_s: float


THOROUGH = Patience(repetitions=5, budget_s=40.0, warm_tasks=2_000, limit_s=300.0)
QUICK = Patience(repetitions=3, budget_s=2.0, warm_tasks=500, limit_s=60.0)

COLD_REPETITIONS = 4
"""runs in a row of a notebook whose tasks import a library"""


def measured(system: System, row: Row, patience: Patience) -> dict[str, Any]:
    """Returns seconds of each repetition, their median, and what they used.

    seconds: of each; median_s leaves out the first one of a cold row. cpu_us: role -> CPU microseconds a task, or a repetition where the row has no
    number of tasks. client_mb: the most memory of the client. others: CPUs that processes of
    others used meanwhile, on average. Raises TimeoutError, and whatever the system raises.
    """
    is_small = row.is_cold or row.n_tasks > patience.warm_tasks
    warm = fan(20) if is_small else row.build(-1)
    with limited(patience.limit_s):
        warm.check(system.run(warm))
    system.tidy()

    seconds: list[float] = []
    used, others_s, peak_mb = {"client": 0.0}, 0.0, 0.0
    begin = time.perf_counter()
    n_most = COLD_REPETITIONS if row.is_cold else patience.repetitions
    while not seconds or (
        len(seconds) < n_most and (row.is_cold or time.perf_counter() - begin < patience.budget_s)
    ):
        graph = row.build(len(seconds))
        gc.collect()
        with limited(patience.limit_s), _Meter(system) as meter:
            begin_s = time.perf_counter()
            value = system.run(graph)
            seconds.append(time.perf_counter() - begin_s)
        graph.check(value)
        for role, cpu_s in meter.cpu_s.items():
            used[role] = used.get(role, 0.0) + cpu_s
        others_s += meter.others_s
        peak_mb = max(peak_mb, meter.peak_mb)
        del graph, value
    system.tidy()

    n_units = len(seconds) * max(1, row.n_tasks)
    result: dict[str, Any] = {
        "seconds": seconds,
        "median_s": statistics.median(seconds[row.is_cold :]),
    }
    if usage.is_known():
        result["cpu_us"] = {role: cpu_s / n_units * 1e6 for role, cpu_s in used.items()}
        result["client_mb"] = peak_mb
        result["others"] = max(0.0, others_s) / sum(seconds)
    return result


class _Meter:
    """CPU and memory of the system inside a block, and the CPU of others."""

    def __init__(self, system: System) -> None:
        self._system = system
        self.cpu_s: dict[str, float] = {}
        self.others_s, self.peak_mb = 0.0, 0.0

    def __enter__(self) -> _Meter:
        if usage.is_known():
            self._roots = self._system.roots()
            usage.forget_peak()
            self._before, self._busy = self._look(), usage.busy_s()
        return self

    def __exit__(self, *error: object) -> None:
        if not usage.is_known():
            return
        busy_s = usage.busy_s() - self._busy
        for role, cpu_s in self._look().items():
            self.cpu_s[role] = cpu_s - self._before.get(role, 0.0)
        self.others_s = busy_s - sum(self.cpu_s.values())
        self.peak_mb = usage.peak_mb()

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
