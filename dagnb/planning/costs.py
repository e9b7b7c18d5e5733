"""The price list a planner and the simulator read: what each act costs, in seconds and bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from dagnb.graph.dag import Dag


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Predicted costs. run_s and output_bytes are by DAG position; what is missing takes the default.

    latency_s and bytes_per_s: one transfer through the store costs latency + size / bandwidth.
    commit_s: one completing round trip. cold_s, warm_s: from asking for a worker until it registers.
    load_s_per_byte, dump_s_per_byte: unpickling and pickling.
    """

    run_s: Mapping[int, float] = field(default_factory=lambda: MappingProxyType({}))
    output_bytes: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))
    default_run_s: float = 0.1
    default_output_bytes: int = 1_000
    latency_s: float = 0.0003
    bytes_per_s: float = 500e6
    commit_s: float = 0.0003
    cold_s: float = 0.02
    warm_s: float = 0.001
    submit_s: float = 0.002
    load_s_per_byte: float = 1e-9
    dump_s_per_byte: float = 1e-9

    def run(self, task: int) -> float:
        """Seconds the function of this task runs."""
        return self.run_s.get(task, self.default_run_s)

    def output(self, task: int) -> int:
        """Bytes of the result of this task."""
        return self.output_bytes.get(task, self.default_output_bytes)

    def transfer(self, n_bytes: int) -> float:
        """Seconds for one value of this size through the store, one way."""
        return self.latency_s + n_bytes / self.bytes_per_s

    @classmethod
    def hinted(cls, dag: Dag, **known: float) -> Costs:
        """Costs from the hints of the decorator alone: @task(time_s=..., output_bytes=...)."""
        run_s = {i: c.options.time_s for i, c in enumerate(dag.calls) if c.options.time_s is not None}
        sizes = {i: c.options.output_bytes for i, c in enumerate(dag.calls) if c.options.output_bytes is not None}
        return cls(run_s=run_s, output_bytes=sizes, **known)  # type: ignore[arg-type]  # floats for the float fields
