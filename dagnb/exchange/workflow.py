"""A DAG with what was measured, or is expected, of its tasks: what dagnb and the formats of others have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from dagnb.errors import GraphError
from dagnb.exchange.measurement import measurements
from dagnb.graph.brief import brief
from dagnb.graph.dag import Dag
from dagnb.planning.costs import Costs
from dagnb.trace.trace import Trace


@dataclass(frozen=True, kw_only=True)
class Workflow:
    """Times and sizes by position in the DAG; what is missing is unknown, not 0.

    output_bytes: what a task gives, all of it. edge_bytes: (upstream, position) -> the part of it that is passed there.
    external_bytes: inputs that no task makes. makespan_s: of the recorded run.
    """

    name: str
    dag: Dag
    run_s: Mapping[int, float] = field(default_factory=lambda: MappingProxyType({}))
    output_bytes: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))
    edge_bytes: Mapping[tuple[int, int], int] = field(default_factory=lambda: MappingProxyType({}))
    external_bytes: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))
    makespan_s: float | None = None

    __repr__ = brief

    @classmethod
    def measured(cls, dag: Dag, trace: Trace, *, name: str) -> Workflow:
        """What a run taught; tasks that were not done stay unknown. Raises GraphError for a trace of another DAG."""
        found = measurements(dag, trace)
        outputs = {task: found[task].output_bytes for task in sorted(found)}
        return cls(
            name=name,
            dag=dag,
            run_s={task: found[task].run_s for task in sorted(found)},
            output_bytes=outputs,
            edge_bytes={
                (u, d): outputs[u] for u, d in _edges(dag) if u in outputs
            },  # read whole, as dagnb does it
            makespan_s=max(0.0, trace.makespan_s),
        )

    @classmethod
    def expected(cls, dag: Dag, costs: Costs, *, name: str) -> Workflow:
        """What costs say of each task; nothing was run, so there is no makespan."""
        outputs = {task: costs.output(task) for task in range(len(dag))}
        return cls(
            name=name,
            dag=dag,
            run_s={task: costs.run(task) for task in range(len(dag))},
            output_bytes=outputs,
            edge_bytes={(u, d): costs.edge(u, d) for u, d in _edges(dag)},
            external_bytes=costs.external_bytes,
        )

    def costs(self, **known: Any) -> Costs:
        """The price list of these times and sizes; `known` are other fields of Costs."""
        return Costs(
            run_s=self.run_s,
            output_bytes=self.output_bytes,
            edge_bytes=self.edge_bytes,
            external_bytes=self.external_bytes,
            **known,
        )

    def __post_init__(self) -> None:
        """Check the laws: positions and edges of the DAG, nothing negative, no more passed on than was made."""
        facts = (
            ("run_s", self.run_s),
            ("output_bytes", self.output_bytes),
            ("external_bytes", self.external_bytes),
        )
        for what, values in facts:
            for position, value in values.items():
                if not 0 <= position < len(self.dag):
                    raise GraphError(
                        f"{what} names task {position}; the DAG has {len(self.dag)}. Count from 0."
                    )
                if not value >= 0:  # also what is not a number
                    raise GraphError(
                        f"{what} of task '{self.dag.calls[position].name}' is {value}. "
                        "Give 0 or more, or leave it out when it is unknown."
                    )
        for edge, n_bytes in self.edge_bytes.items():
            self._check_edge(*edge, n_bytes)

    def _check_edge(self, upstream: int, position: int, n_bytes: int) -> None:
        if not 0 <= position < len(self.dag) or upstream not in self.dag.calls[position].upstream:
            raise GraphError(
                f"edge_bytes names ({upstream}, {position}), which is no edge of the DAG. Leave it out."
            )
        made = self.output_bytes.get(upstream, -1)
        if not 0 <= n_bytes <= made:
            raise GraphError(
                f"'{self.dag.calls[upstream].name}' passes {n_bytes} bytes to '{self.dag.calls[position].name}' and "
                f"gives {made if made >= 0 else 'an unknown number of'} bytes in all. "
                "Give output_bytes of at least the largest of its edges."
            )


def _edges(dag: Dag) -> Iterator[tuple[int, int]]:
    return ((u, d) for d, call in enumerate(dag.calls) for u in call.upstream)
