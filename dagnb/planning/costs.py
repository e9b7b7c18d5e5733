"""The price list a planner and the simulator read: what each act costs, in seconds and bytes.

One list holds the medians; `Doubt` beside it says how far reality may be from them, for scenarios.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from dagnb.graph.brief import brief
from dagnb.graph.dag import Dag
from dagnb.graph.resources import Resources
from dagnb.planning.basis import HINTED, UNKNOWN, Basis

_NOTHING: Mapping[Any, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class LinearCost:
    """Seconds of an act on n bytes: base_s + n * s_per_byte."""

    base_s: float = 0.0
    s_per_byte: float = 0.0

    def of(self, n_bytes: float) -> float:
        """Seconds, >= 0."""
        return self.base_s + n_bytes * self.s_per_byte


@dataclass(frozen=True, slots=True, kw_only=True)
class StartCost:
    """Seconds of each act of a worker's start, one after the other; see the phases of `trace.span`."""

    invoke_s: float = 0.0
    create_s: float = 0.0
    boot_s: float = 0.0
    import_s: float = 0.0
    register_s: float = 0.0

    @property
    def total_s(self) -> float:
        """From the demand until the worker has registered."""
        return self.invoke_s + self.create_s + self.boot_s + self.import_s + self.register_s

    def times(self, factor: float) -> StartCost:
        """All acts longer by a factor."""
        acts = (self.invoke_s, self.create_s, self.boot_s, self.import_s, self.register_s)
        invoke, create, boot, imports, register = (factor * act for act in acts)
        return StartCost(
            invoke_s=invoke, create_s=create, boot_s=boot, import_s=imports, register_s=register
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncertainty:
    """How uncertain prices are: standard deviations of their natural logarithms, 0 for certainty.

    run: task -> what is its own; batch: shared by all tasks of a run (a slow day); start, transfer: of each act.
    """

    run: Mapping[int, float] = field(default_factory=lambda: _NOTHING)
    default_run: float = 0.0
    batch: float = 0.0
    start: float = 0.0
    transfer: float = 0.0

    __repr__ = brief

    def of(self, task: int) -> float:
        """The task's own."""
        return self.run.get(task, self.default_run)

    @property
    def is_certain(self) -> bool:
        """Whether every scenario is the same."""
        return not (
            any(self.run.values()) or self.default_run or self.batch or self.start or self.transfer
        )


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Predicted costs, by DAG position; what is missing takes the default.

    run_s: the user's function, with the resources its decorator asks for. output_bytes: of its pickled result.
    argument_bytes: pickled arguments that travel with the task. external_bytes: fetched from outside before it runs.
    edge_bytes: (upstream, task) -> bytes, where a task reads less than the whole value.
    known_s: (task, 'fetch' | 'load' | 'dump' | 'store' | 'release') -> seconds, where better known than by a law.
    inline_bytes: values up to this ride along with hand-overs and cost no transfer.
    commit_s: the round trip that hands over; release: then letting go of what the task read and gave.
    wake_s: from a hint until a waiting worker has the task. program_s: a fresh worker reads the program.
    submit_s, return_s: of the client, before and after the makespan.
    starts: (resources, is warm) -> Start; cold, warm: of other resources. start_series: the first starts of a run, in
    order, where they are known. invocation_s: what the caller pays for each invocation in a pool of single workers.
    scaling: task -> (exponent of cpus, of memory): run time falls with share ** -exponent.
    failures: task -> (seconds run, back-off before the next) of each attempt that fails before one succeeds.
    basis: task -> the evidence for its run time.
    """

    run_s: Mapping[int, float] = field(default_factory=lambda: _NOTHING)
    output_bytes: Mapping[int, int] = field(default_factory=lambda: _NOTHING)
    argument_bytes: Mapping[int, int] = field(default_factory=lambda: _NOTHING)
    external_bytes: Mapping[int, int] = field(default_factory=lambda: _NOTHING)
    edge_bytes: Mapping[tuple[int, int], int] = field(default_factory=lambda: _NOTHING)
    known_s: Mapping[tuple[int, str], float] = field(default_factory=lambda: _NOTHING)
    default_run_s: float = 0.1
    default_output_bytes: int = 1_000
    inline_bytes: int = 16 * 1024
    fetch: LinearCost = LinearCost(0.0003, 2e-9)
    store: LinearCost = LinearCost(0.0003, 2e-9)
    load: LinearCost = LinearCost(0.0, 1e-9)
    dump: LinearCost = LinearCost(0.0, 1e-9)
    commit_s: float = 0.0003
    release: LinearCost = LinearCost()
    wake_s: float = 0.001
    program_s: float = 0.0
    submit_s: float = 0.002
    return_s: float = 0.001
    invocation_s: float = 0.0
    cold: StartCost = StartCost(invoke_s=0.02)
    warm: StartCost = StartCost(invoke_s=0.001)
    starts: Mapping[tuple[Resources, bool], StartCost] = field(default_factory=lambda: _NOTHING)
    start_series: tuple[StartCost, ...] = ()
    scaling: Mapping[int, tuple[float, float]] = field(default_factory=lambda: _NOTHING)
    failures: Mapping[int, tuple[tuple[float, float], ...]] = field(
        default_factory=lambda: _NOTHING
    )
    doubt: Uncertainty = Uncertainty()
    basis: Mapping[int, Basis] = field(default_factory=lambda: _NOTHING)

    __repr__ = brief

    def run(self, task: int, ratio: tuple[float, float] = (1.0, 1.0)) -> float:
        """Seconds the function of this task runs; ratio: cpus, memory given over what its decorator asks for."""
        found = self.run_s.get(task, self.default_run_s)
        if ratio == (1.0, 1.0) or task not in self.scaling:
            return found
        by_cpus, by_memory = self.scaling[task]
        return found * math.pow(ratio[0], -by_cpus) * math.pow(ratio[1], -by_memory)

    def output(self, task: int) -> int:
        """Bytes of the result of this task."""
        return self.output_bytes.get(task, self.default_output_bytes)

    def edge(self, upstream: int, task: int) -> int:
        """Bytes that a task reads of an upstream value."""
        if self.edge_bytes:
            found = self.edge_bytes.get((upstream, task))
            if found is not None:
                return found
        return self.output(upstream)

    def start(self, resources: Resources, *, is_warm: bool) -> StartCost:
        """A worker's start."""
        return self.starts.get((resources, is_warm), self.warm if is_warm else self.cold)

    def fetching(self, task: int, sizes: list[int]) -> float:
        """Seconds until values of these sizes are here, all fetched at once; small ones came with the task."""
        far = [n for n in sizes if n > self.inline_bytes]
        if not far:
            return 0.0
        known = self.known_s.get((task, "fetch"))
        return known if known is not None else self.fetch.of(max(far))

    def storing(self, task: int) -> float:
        """Seconds until the result is in the store; 0 when it rides along."""
        n_bytes = self.output(task)
        if n_bytes <= self.inline_bytes:
            return 0.0
        known = self.known_s.get((task, "store"))
        return known if known is not None else self.store.of(n_bytes)

    def loading(self, task: int, n_bytes: int) -> float:
        """Seconds to unpickle the arguments."""
        known = self.known_s.get((task, "load"))
        return known if known is not None else self.load.of(n_bytes)

    def dumping(self, task: int) -> float:
        """Seconds to pickle the result."""
        known = self.known_s.get((task, "dump"))
        return known if known is not None else self.dump.of(self.output(task))

    def releasing(self, task: int, n_bytes: int) -> float:
        """Seconds until what the task read, n_bytes, and gave is let go."""
        known = self.known_s.get((task, "release"))
        return known if known is not None else self.release.of(n_bytes + self.output(task))

    def arguments(self, dag: Dag, task: int) -> int:
        """Bytes that are unpickled before the function runs."""
        values = sum(self.edge(u, task) for u in dag.calls[task].upstream)
        return values + self.argument_bytes.get(task, 0)

    def with_(self, **changes: Any) -> Costs:
        """The same list with some prices changed."""
        return replace(self, **changes)

    @classmethod
    def hinted(cls, dag: Dag, **known: Any) -> Costs:
        """Costs from the hints of the decorator alone: @task(time_s=..., output_bytes=...)."""
        run_s = {
            i: c.options.time_s for i, c in enumerate(dag.calls) if c.options.time_s is not None
        }
        sizes = {
            i: c.options.output_bytes
            for i, c in enumerate(dag.calls)
            if c.options.output_bytes is not None
        }
        basis = {i: HINTED if i in run_s else UNKNOWN for i in range(len(dag.calls))}
        return cls(run_s=run_s, output_bytes=sizes, basis=basis, **known)
