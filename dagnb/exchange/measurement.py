"""What a trace tells of each task of a DAG: the run that counted, and what went in and out."""

from __future__ import annotations

from dataclasses import dataclass

from dagnb.errors import GraphError
from dagnb.graph.dag import Dag
from dagnb.trace.span import Phase, Span
from dagnb.trace.trace import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """The last attempt of a task that was done. input_bytes: all that was unpickled for it."""

    worker: str
    began_s: float
    run_s: float
    input_bytes: int
    output_bytes: int


def measurements(dag: Dag, trace: Trace) -> dict[int, Measurement]:
    """Position in the DAG -> what was measured; without the tasks that failed or left no span. O(spans).

    Of a task with copies, the copy whose run ended first counts. Raises GraphError for a trace of another DAG.
    """
    tasks = [_position(dag, name) for name in trace.names]
    best: dict[int, Span] = {}
    found: dict[int, Measurement] = {}
    for step, acts in trace.last_attempts.items():
        run, dump, load = acts.get(Phase.RUN), acts.get(Phase.DUMP), acts.get(Phase.LOAD)
        if run is None or dump is None:
            continue  # it failed, or its spans were lost
        task = tasks[step]
        if task in best and best[task].end_s <= run.end_s:
            continue
        best[task] = run
        found[task] = Measurement(
            worker=run.worker,
            began_s=run.begin_s,
            run_s=max(0.0, run.duration_s),
            input_bytes=load.n_bytes if load else 0,
            output_bytes=dump.n_bytes,
        )
    return found


def _position(dag: Dag, name: str) -> int:
    """The task of a step: its name, or its name and a ' for each copy before."""
    for known in (name, name.rstrip("'")):
        if known in dag.positions:
            return dag.positions[known]
    raise GraphError(
        f"the trace holds task '{name}', which the DAG lacks. Give the DAG of the same run."
    )
