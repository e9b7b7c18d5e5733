"""Workflows that no one here wrote, as `Workflow`s, in the scales at which planners are compared.

Reads the JSON that a folder of such workflows keeps (one a file; its README says where each is from and how it is
laid out). The folder is no part of dagnb: each program is told where it lies.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from dagnb.exchange.workflow import Workflow
from dagnb.graph.dag import Dag

CRITICAL_PATH_S = 20.0
BYTES_PER_S = 80e6
SHORTEST_S = 0.001
"""the recorded 0.0 s of some real tasks is below the resolution of who recorded it"""
EXTERNAL_CAP = 3
"""times the mean output: one giant reference file would drown everything else"""
CCRS = (0.1, 0.5, 2.0)


def reference_cases() -> tuple[str, ...]:
    """The names of the 19 DAGs on which planners are compared, each at every one of CCRS."""
    return (
        "wfi-srasearch-chameleon-10a-001",
        "wfi-epigenomics-chameleon-hep-1seq-100k-001",
        "wfi-montage-chameleon-2mass-005d-001",
        "wfi-bacass-dirt02-001",
        "dax-Montage_100",
        "dax-CyberShake_100",
        "dax-Sipht_100",
        "dax-Inspiral_100",
        "estee-crossv",
        "estee-conflux",
        "estee-splitters",
        "estee-merge_neighbours",
        "estee-rg003",
        "wfi-1000genome-chameleon-2ch-100k-001",
        "wfi-viralrecon-dirt02-001",
        "estee-cybershake",
        "estee-ligo",
        "wfi-helloworld-forkjoin-10-chameleon",
        "wfi-seismology-chameleon-100p-001",
    )


def load(path: str | Path) -> Workflow:
    """The workflow of one file, as recorded; called as its file is, since recorded names repeat.

    Edges are those of the file: some order tasks only and pass 0 bytes. The output of a task that somebody reads is
    the largest of its edges, because a value is one thing: files nobody reads are not in it, and two readers of
    different files are given the larger part. The output of a sink is the sum of its files.
    """
    path = Path(path)
    data = json.loads(path.read_text(encoding="utf-8"))
    tasks, names = data["tasks"], [task["id"] for task in data["tasks"]]
    dag = Dag.from_edges(
        names,
        ((names[a], names[b]) for a, b, _ in data["edges"]),
        functions=[task["fn"] for task in tasks],
    )
    place = [dag.positions[name] for name in names]
    edges = {(place[a], place[b]): int(n_bytes) for a, b, n_bytes in data["edges"]}
    outputs = {
        place[i]: sum(data["files"][file][1] for file in set(task["outputs"]))
        for i, task in enumerate(tasks)
        if not dag.downstream[place[i]]
    }
    for (upstream, _), n_bytes in edges.items():
        outputs[upstream] = max(outputs.get(upstream, 0), n_bytes)
    return Workflow(
        name=path.stem,
        dag=dag,
        run_s={place[i]: float(task["runtime_s"]) for i, task in enumerate(tasks)},
        output_bytes=outputs,
        edge_bytes=edges,
        external_bytes={place[int(i)]: int(n) for i, n in data["external_input_bytes"].items()},
        makespan_s=data["makespan_recorded_s"] or None,  # generated ones say 0.0
    )


def scaled(workflow: Workflow, ccr: float) -> Workflow:
    """The same shape, with a critical path of 20 s of run time and edges of mean bytes = ccr x mean run time x 80 MB/s.

    Run times are max(recorded, 1 ms) before. The mean is over all edges, those of 0 bytes too; outputs and external
    inputs are scaled by the factor of the edges, then an external input is at most 3 x the mean output of all tasks.
    Latency is not part of the ratio. The recorded makespan does not apply any more. Raises ZeroDivisionError for a
    workflow whose edges pass nothing. O(tasks + edges).
    """
    tasks = range(len(workflow.dag))
    run_s = {task: max(workflow.run_s.get(task, 0.0), SHORTEST_S) for task in tasks}
    stretch = CRITICAL_PATH_S / critical_path_s(workflow.dag, run_s)
    run_s = {task: seconds * stretch for task, seconds in run_s.items()}
    mean_edge = sum(workflow.edge_bytes.values()) / len(workflow.edge_bytes)
    factor = ccr * BYTES_PER_S * sum(run_s.values()) / len(tasks) / mean_edge
    cap = EXTERNAL_CAP * sum(workflow.output_bytes.values()) / len(tasks)
    return replace(
        workflow,
        run_s=run_s,
        output_bytes={task: round(n * factor) for task, n in workflow.output_bytes.items()},
        edge_bytes={edge: round(n * factor) for edge, n in workflow.edge_bytes.items()},
        external_bytes={
            task: round(min(n, cap) * factor) for task, n in workflow.external_bytes.items()
        },
        makespan_s=None,
    )


def critical_path_s(dag: Dag, run_s: Mapping[int, float]) -> float:
    """The longest chain of run times, transfers left out."""
    ends: list[float] = []
    for position, call in enumerate(dag.calls):
        ends.append(max((ends[u] for u in call.upstream), default=0.0) + run_s[position])
    return max(ends)


def load_stg(
    path: str | Path,
) -> list[tuple[str, Dag, dict[int, float], dict[int, tuple[float, float]]]]:
    """Each graph of the Standard Task Graph Set as (name, DAG, run_s, bounds); nothing is passed along its edges.

    bounds: processors -> (lower, upper) of the optimal makespan on that many identical ones. The first and the last
    task are the set's own entry and exit, of 0 s.
    """
    graphs = []
    for graph in json.loads(Path(path).read_text(encoding="utf-8"))["graphs"]:
        names = [f"t{i}" for i in range(len(graph["dur"]))]
        dag = Dag.from_edges(names, ((names[a], names[b]) for a, b in graph["edges"]))
        run_s = {
            dag.positions[name]: float(seconds)
            for name, seconds in zip(names, graph["dur"], strict=True)
        }
        bounds = {int(n): (float(low), float(high)) for n, (low, high) in graph["opt"].items()}
        graphs.append((graph["name"], dag, run_s, bounds))
    return graphs
