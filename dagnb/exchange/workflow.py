"""A DAG with the measured or expected durations and sizes of its tasks, for export and import."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from dagnb.errors import GraphError
from dagnb.graph.brief import brief
from dagnb.graph.dag import Dag
from dagnb.planning.planner import Costs
from dagnb.trace.trace import Phase, Span, Trace


@dataclass(frozen=True, kw_only=True)
class Workflow:
    """Durations and sizes by position in the DAG; a missing one is unknown, not 0.

    output_bytes: the whole result of a task. edge_bytes: (upstream, position) -> the part of the
        upstream task's result that this task reads.
    external_bytes: inputs that are no task's result. makespan_s: of the recorded run.
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
        """Returns the measurements of a run; tasks that did not succeed stay unknown.

        Raises GraphError for a trace of another DAG.
        """
        measured = sorted(measurements(dag, trace).items())
        outputs = {task: measurement.output_bytes for task, measurement in measured}
        return cls(
            name=name,
            dag=dag,
            run_s={task: measurement.run_s for task, measurement in measured},
            output_bytes=outputs,
            # Tasks of dagnb read values whole.
            edge_bytes={(u, d): outputs[u] for u, d in _edges(dag) if u in outputs},
            makespan_s=max(0.0, trace.makespan_s),
        )

    @classmethod
    def expected(cls, dag: Dag, costs: Costs, *, name: str) -> Workflow:
        """Returns the costs of each task; there is no makespan, because nothing was run."""
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
        """Returns costs with these times and sizes; `known` are their other fields."""
        return Costs(
            run_s=self.run_s,
            output_bytes=self.output_bytes,
            edge_bytes=self.edge_bytes,
            external_bytes=self.external_bytes,
            **known,
        )

    def __post_init__(self) -> None:
        """Checks positions, edges and signs, and that no edge has more bytes than its value."""
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
                if not value >= 0:  # refuses NaN, too
                    raise GraphError(
                        f"{what} of task '{self.dag.calls[position].name}' is {value}. "
                        "Give 0 or more, or leave it out when it is unknown."
                    )
        for edge, n_bytes in self.edge_bytes.items():
            self._check_edge(*edge, n_bytes)

    def _check_edge(self, upstream: int, position: int, n_bytes: int) -> None:
        if not 0 <= position < len(self.dag) or upstream not in self.dag.calls[position].upstream:
            raise GraphError(
                f"edge_bytes names ({upstream}, {position}), which is not an edge of the DAG. "
                "Leave it out."
            )
        total = self.output_bytes.get(upstream)
        if total is None or not 0 <= n_bytes <= total:
            names = self.dag.calls[upstream].name, self.dag.calls[position].name
            raise GraphError(
                f"'{names[0]}' passes {n_bytes} bytes to '{names[1]}' and gives "
                f"{'an unknown number of' if total is None else total} bytes in all. "
                "Give output_bytes of at least the largest of its edges."
            )


def _edges(dag: Dag) -> Iterator[tuple[int, int]]:
    return ((u, d) for d, call in enumerate(dag.calls) for u in call.upstream)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """The last attempt of a task that succeeded. input_bytes: all that was unpickled for it."""

    worker: str
    began_s: float
    run_s: float
    input_bytes: int
    output_bytes: int


def measurements(dag: Dag, trace: Trace) -> dict[int, Measurement]:
    """Returns position in the DAG -> its measurement, without tasks that did not succeed. O(spans).

    Of a task with copies, the copy whose run ended first counts. Raises GraphError for a trace of
    another DAG.
    """
    tasks = [_position(dag, name) for name in trace.names]
    first: dict[int, Span] = {}
    measured: dict[int, Measurement] = {}
    for step, acts in trace.last_attempts.items():
        run, dump, load = acts.get(Phase.RUN), acts.get(Phase.DUMP), acts.get(Phase.LOAD)
        if run is None or dump is None:
            continue  # the task failed, or its spans were lost
        task = tasks[step]
        if task in first and first[task].end_s <= run.end_s:
            continue
        first[task] = run
        measured[task] = Measurement(
            worker=run.worker,
            began_s=run.begin_s,
            run_s=max(0.0, run.duration_s),
            input_bytes=load.n_bytes if load else 0,
            output_bytes=dump.n_bytes,
        )
    return measured


def _position(dag: Dag, name: str) -> int:
    """Returns the task of a step."""
    # The second copy of a task has its name and a ', the third has two of them.
    for known in (name, name.rstrip("'")):
        if known in dag.positions:
            return dag.positions[known]
    raise GraphError(
        f"the trace has a task '{name}', which the DAG lacks. Give the DAG of the same run."
    )
