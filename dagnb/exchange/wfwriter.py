"""WfFormat 1.5, written: so that simulators and planners of others read our runs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from dagnb import __version__
from dagnb.exchange.measurement import Measurement, measurements
from dagnb.exchange.workflow import Workflow
from dagnb.graph.dag import Dag
from dagnb.planning.costs import Costs
from dagnb.trace.trace import Trace

VERSION = "1.5"
NAME = "dagnbName"
"""key of our own for the name of a task that the format does not allow as an id; the schema permits such keys"""


def write(dag: Dag, known: Trace | Costs, *, name: str = "dagnb") -> str:
    """WfFormat 1.5 of a DAG, with what a trace measured, or with what is expected of it by costs.

    Workers stand for machines; a value is read whole by each of its readers. Sinks are not kept: WfFormat has none.
    Raises GraphError for a trace of another DAG. O(tasks + edges + spans).
    """
    if isinstance(known, Costs):
        return text(Workflow.expected(dag, known, name=name))
    return text(
        Workflow.measured(dag, known, name=name),
        facts=measurements(dag, known),
        submitted_s=known.submitted_s,
    )


def text(
    workflow: Workflow,
    *,
    facts: Mapping[int, Measurement] | None = None,
    submitted_s: float | None = None,
) -> str:
    """WfFormat 1.5 of a workflow; `read` gives it back.

    facts: by position, who ran a task and when. submitted_s: epoch seconds; the format wants a moment, so it is 1970
    for what was not run. A makespan that is unknown is 0, as others write it; one without any run time has no place.
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
        data["workflow"]["execution"] = _execution(workflow, ids, facts or {}, submitted_s or 0.0)
    return json.dumps(data, indent=1, ensure_ascii=False)


def _ids(names: Sequence[str]) -> list[str]:
    """An id of the format for each task: its name where the format allows it."""
    clean = [re.sub(r"[^0-9A-Za-z_.-]", "_", name) or "_" for name in names]
    taken = {name for name, id_ in zip(names, clean, strict=True) if name == id_}
    ids = []
    for name, wish in zip(names, clean, strict=True):
        id_, number = wish, 2
        while id_ != name and id_ in taken:
            id_, number = f"{wish}_{number}", number + 1
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
    """Files that add up to the bytes: (of each task that gives some, read by each task, file -> size).

    The files of a task are stairs: whoever is passed n bytes reads the first few, n bytes together. So any sizes of
    edges fit one output, which is as large as was said.
    """
    sizes: dict[str, int] = {}
    outputs: dict[int, list[str]] = {}
    inputs: list[list[str]] = [[] for _ in ids]
    for u, total in workflow.output_bytes.items():
        readers = {
            d: workflow.edge_bytes[u, d]
            for d in workflow.dag.downstream[u]
            if (u, d) in workflow.edge_bytes
        }
        steps = sorted({*readers.values(), *((total,) if total else ())})
        count = {n_bytes: k + 1 for k, n_bytes in enumerate(steps)}
        outputs[u] = [f"{ids[u]}.out{k}" for k in range(len(steps))]
        for file, low, high in zip(outputs[u], [0, *steps], steps, strict=False):
            sizes[file] = high - low
        for d, n_bytes in readers.items():
            inputs[d] += outputs[u][: count[n_bytes]]
    for i, n_bytes in workflow.external_bytes.items():
        inputs[i].append(f"{ids[i]}.in")
        sizes[f"{ids[i]}.in"] = n_bytes
    return outputs, inputs, sizes


def _execution(
    workflow: Workflow, ids: Sequence[str], facts: Mapping[int, Measurement], submitted_s: float
) -> dict[str, Any]:
    tasks = []
    for i, run_s in workflow.run_s.items():
        task: dict[str, Any] = {"id": ids[i], "runtimeInSeconds": run_s}
        if workflow.dag.calls[i].function:
            task["command"] = {"program": workflow.dag.calls[i].function}
        if i in facts:
            task["executedAt"] = _moment(facts[i].began_s)
            task["readBytes"], task["writtenBytes"] = facts[i].input_bytes, facts[i].output_bytes
            task["machines"] = [_host(facts[i].worker)]
        tasks.append(task)
    execution = {
        "makespanInSeconds": workflow.makespan_s or 0.0,
        "executedAt": _moment(submitted_s),
        "tasks": tasks,
    }
    hosts = dict.fromkeys(_host(fact.worker) for fact in facts.values())
    return execution | ({"machines": [{"nodeName": host} for host in hosts]} if hosts else {})


def _host(worker: str) -> str:
    """The name of a worker in the letters of host names."""
    return re.sub(r"[^0-9A-Za-z.-]", "-", worker) or "-"


def _moment(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).isoformat()
