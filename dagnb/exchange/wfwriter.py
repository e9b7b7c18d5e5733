"""Writes WfFormat 1.5, which simulators and planners of other systems read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from dagnb import __version__
from dagnb.exchange.workflow import Measurement, Workflow, measurements
from dagnb.graph.dag import Dag
from dagnb.planning.costs import Costs
from dagnb.trace.trace import Trace

VERSION = "1.5"
NAME = "dagnbName"
"""Our key for the name of a task that the format does not allow as an id. The schema permits it."""


def write(dag: Dag, known: Trace | Costs, *, name: str = "dagnb") -> str:
    """Returns WfFormat 1.5 of a DAG, with the measurements of a trace or with expected costs.

    Workers are written as machines. Each reader of a value reads the whole of it. Sinks are not
    kept, because WfFormat has none. Raises GraphError for a trace of another DAG. O(tasks + edges +
    spans).
    """
    if isinstance(known, Costs):
        return text(Workflow.expected(dag, known, name=name))
    return text(
        Workflow.measured(dag, known, name=name),
        measured=measurements(dag, known),
        submitted_s=known.submitted_s,
    )


def text(
    workflow: Workflow,
    *,
    measured: Mapping[int, Measurement] | None = None,
    submitted_s: float | None = None,
) -> str:
    """Returns WfFormat 1.5 of a workflow, for `read`.

    measured: by position, the worker of a task and the moment it began. submitted_s: epoch seconds.
    The format requires values that may be unknown: a run that did not happen is written with 1970,
    and an unknown makespan with 0, as other systems do.
    O(tasks + edges x distinct sizes of the edges of one task).
    """
    ids = _ids([call.name for call in workflow.dag.calls])
    data: dict[str, Any] = {
        "name": workflow.name or "dagnb",
        "schemaVersion": VERSION,
        "runtimeSystem": {"name": "dagnb", "version": __version__},
        "workflow": {"specification": _specification(workflow, ids)},
    }
    if workflow.run_s:  # the format has no execution without tasks
        execution = _execution(workflow, ids, measured or {}, submitted_s or 0.0)
        data["workflow"]["execution"] = execution
    return json.dumps(data, indent=1, ensure_ascii=False)


def _ids(names: Sequence[str]) -> list[str]:
    """Returns unique ids; a name that the format allows is its own id."""
    clean = [re.sub(r"[^0-9A-Za-z_.-]", "_", name) or "_" for name in names]
    taken = {name for name, id_ in zip(names, clean, strict=True) if name == id_}
    ids = []
    for name, wanted in zip(names, clean, strict=True):
        id_, number = wanted, 2
        while id_ != name and id_ in taken:
            id_, number = f"{wanted}_{number}", number + 1
        taken.add(id_)
        ids.append(id_)
    return ids


def _specification(workflow: Workflow, ids: Sequence[str]) -> dict[str, Any]:
    dag = workflow.dag
    outputs, inputs, sizes = _files(workflow, ids)
    tasks = []
    for i, call in enumerate(dag.calls):
        task: dict[str, Any] = {
            "name": call.function or ids[i],
            "id": ids[i],
            "parents": [ids[u] for u in call.upstream],
            "children": [ids[d] for d in dag.downstream[i]],
            "inputFiles": inputs[i],
        }
        if ids[i] != call.name:
            task[NAME] = call.name
        if i in outputs:
            task["outputFiles"] = outputs[i]
        tasks.append(task)
    return {
        "tasks": tasks,
        "files": [{"id": file, "sizeInBytes": size} for file, size in sizes.items()],
    }


def _files(
    workflow: Workflow, ids: Sequence[str]
) -> tuple[dict[int, list[str]], list[list[str]], dict[str, int]]:
    """Returns invented files for the bytes: (written by task, read by task, file -> size).

    WfFormat has files, which are read whole; a workflow has edges of any size. So the output of a
    task is cut at the size of each edge, and an edge of n bytes reads the first files, n bytes in
    all:

        output 100 |---- out0: 30 ----|---- out1: 50 ----|-- out2: 20 --|
        edge of 30  out0
        edge of 80  out0, out1
    """
    sizes: dict[str, int] = {}
    outputs: dict[int, list[str]] = {}
    inputs: list[list[str]] = [[] for _ in ids]
    for u, total in workflow.output_bytes.items():
        readers: dict[int, int] = {}
        for d in workflow.dag.downstream[u]:
            if (u, d) in workflow.edge_bytes:
                readers[d] = workflow.edge_bytes[u, d]
        cuts = set(readers.values())
        if total:
            cuts.add(total)

        ordered = sorted(cuts)
        outputs[u] = [f"{ids[u]}.out{k}" for k in range(len(ordered))]
        for file, low, high in zip(outputs[u], [0, *ordered], ordered, strict=False):
            sizes[file] = high - low
        for d, n_bytes in readers.items():
            inputs[d] += outputs[u][: ordered.index(n_bytes) + 1]

    for i, n_bytes in workflow.external_bytes.items():
        inputs[i].append(f"{ids[i]}.in")
        sizes[f"{ids[i]}.in"] = n_bytes
    return outputs, inputs, sizes


def _execution(
    workflow: Workflow, ids: Sequence[str], measured: Mapping[int, Measurement], submitted_s: float
) -> dict[str, Any]:
    tasks = []
    for i, run_s in workflow.run_s.items():
        task: dict[str, Any] = {"id": ids[i], "runtimeInSeconds": run_s}
        if workflow.dag.calls[i].function:
            task["command"] = {"program": workflow.dag.calls[i].function}
        if i in measured:
            task["executedAt"] = _moment(measured[i].began_s)
            task["readBytes"] = measured[i].input_bytes
            task["writtenBytes"] = measured[i].output_bytes
            task["machines"] = [_host(measured[i].worker)]
        tasks.append(task)
    execution: dict[str, Any] = {
        "makespanInSeconds": workflow.makespan_s or 0.0,
        "executedAt": _moment(submitted_s),
        "tasks": tasks,
    }
    hosts = dict.fromkeys(_host(measurement.worker) for measurement in measured.values())
    if hosts:
        execution["machines"] = [{"nodeName": host} for host in hosts]
    return execution


def _host(worker: str) -> str:
    """Returns the name of a worker with only the letters that host names may have."""
    return re.sub(r"[^0-9A-Za-z.-]", "-", worker) or "-"


def _moment(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).isoformat()
