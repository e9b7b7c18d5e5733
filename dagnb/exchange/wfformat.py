"""Reads and writes WfFormat, the JSON of WfCommons for workflows of many systems.

    1.5, 1.6   tasks in `specification`, measurements in `execution`; parents by id
    1.3, 1.4   one list of tasks with their measurements; parents by name

Version 1.5 is written, which simulators and planners of other systems read.

Source: Coleman et al. 2022, doi:10.1016/j.future.2021.09.043; github.com/wfcommons/WfFormat
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dagnb import __version__
from dagnb.errors import GraphError
from dagnb.exchange.workflow import Measurement, Workflow, measurements
from dagnb.graph.brief import brief
from dagnb.graph.dag import Dag
from dagnb.planning.planner import Costs
from dagnb.trace.trace import Trace


@dataclass(frozen=True)
class Section:
    """An object of a JSON text. Methods raise GraphError for values of another type."""

    values: Mapping[str, Any]
    place: str = ""

    __repr__ = brief

    def __contains__(self, key: str) -> bool:
        """Tells whether the key exists and is not null."""
        return self.values.get(key) is not None

    def section(self, key: str) -> Section:
        """Returns the object under this key; an empty one if there is none."""
        if key not in self:
            return Section({}, self.at(key))
        return self.required(key)

    def required(self, key: str) -> Section:
        """Returns the object under this key, which must exist."""
        return Section(self._of(key, dict, "an object"), self.at(key))

    def sections(self, key: str) -> list[Section]:
        """Returns the list of objects under this key; empty if there is none."""
        sections = []
        for number, value in enumerate(self._list(key)):
            place = f"{self.at(key)}[{number}]"
            if not isinstance(value, dict):
                raise GraphError(f"{place} is {value!r:.60}, not an object. {_CURE}")
            sections.append(Section(value, place))
        return sections

    def text(self, key: str, default: str | None = None) -> str:
        """Returns the text under this key, which must not be empty, and exist without a default."""
        if default is not None and key not in self:
            return default
        value: str = self._of(key, str, "a text")
        if not value:
            raise GraphError(f"{self.at(key)} is empty. Give each task and file a name.")
        return value

    def texts(self, key: str) -> list[str]:
        """Returns the list of texts under this key; empty if there is none."""
        values = self._list(key)
        for value in values:
            if not isinstance(value, str):
                raise GraphError(f"{self.at(key)} holds {value!r:.60}, not a text. {_CURE}")
        return values

    def number(self, key: str) -> float | None:
        """Returns the number under this key, finite and >= 0; None if there is none."""
        value = self.values.get(key)
        if value is None:
            return None
        # JSON's true and false are numbers for Python.
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise GraphError(f"{self.at(key)} is {value!r:.60}, not a number. {_CURE}")
        if not 0 <= value < math.inf:
            raise GraphError(
                f"{self.at(key)} is {value}. Give a number of 0 or more, or leave it out."
            )
        return value

    def at(self, key: str) -> str:
        """Returns the place of a key, such as workflow.specification.tasks[3].id."""
        return f"{self.place}.{key}" if self.place else key

    def _of(self, key: str, kind: type, called: str) -> Any:
        if key not in self:
            raise GraphError(f"{self.at(key)} is missing. {_CURE}")
        value = self.values[key]
        if not isinstance(value, kind):
            raise GraphError(f"{self.at(key)} is {value!r:.60}, not {called}. {_CURE}")
        return value

    def _list(self, key: str) -> list[Any]:
        return list(self._of(key, list, "a list")) if key in self else []


def parsed(text: str) -> Section:
    """Returns the object of a JSON text. Raises GraphError for anything else."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:  # a deeply nested text exhausts the stack
        raise GraphError(f"the text is not JSON: {error}. Give the whole file, as text.") from error
    if not isinstance(data, dict):
        raise GraphError(f"the text holds {data!r:.60}, not an object. {_CURE}")
    return Section(data)


_CURE = "Is the file complete, and in WfFormat (wfcommons.org/format)?"


SPLIT = ("1.5", "1.6")
JOINT = ("1.3", "1.4")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """One task, of any version of the format.

    aliases: names by which other tasks refer to it. inputs, outputs: files; None for unknown
    outputs.
    """

    name: str
    aliases: tuple[str, ...]
    function: str
    parents: list[str]
    children: list[str]
    inputs: list[str]
    outputs: list[str] | None
    run_s: float | None


def read(text: str) -> Workflow:
    """Returns the workflow of a WfFormat text, version 1.3 to 1.6.

    A task that reads the file of another task depends on it, also where that is not declared. If
    several tasks write a file, it comes from those of them that are declared as parents.
    A makespan of 0, as generated workflows have, means unknown.
    Raises GraphError with the place of what is missing or wrong; CycleError.
    """
    top = parsed(text)
    version = top.text("schemaVersion")
    if version not in SPLIT + JOINT:
        raise GraphError(
            f"the text is WfFormat {version!r}; dagnb reads {', '.join(JOINT + SPLIT)}. "
            "Convert it with wfcommons-migrate-instance.py of github.com/wfcommons/WfFormat."
        )
    workflow = top.required("workflow")
    tasks, sizes, makespan_s = _split(workflow) if version in SPLIT else _joint(workflow)
    if not tasks:
        raise GraphError("the workflow has no tasks. Give at least one.")
    return _assembled(top.text("name"), tasks, sizes, makespan_s or None)


def _split(workflow: Section) -> tuple[list[_Task], dict[str, int], float | None]:
    """Returns tasks, sizes of files and makespan of version 1.5 or 1.6."""
    specification = workflow.required("specification")
    execution = workflow.section("execution")
    measured = {task.text("id"): task for task in execution.sections("tasks")}

    tasks = []
    for task in specification.sections("tasks"):
        id_, function = task.text("id"), task.text("name")
        measurement = measured.pop(id_, Section({}))
        if function == id_:  # then the text may name the function as a program
            function = _program(measurement) or id_
        tasks.append(
            _Task(
                name=task.text(NAME, default=id_),
                aliases=(id_,),
                function=function,
                parents=task.texts("parents"),
                children=task.texts("children"),
                inputs=task.texts("inputFiles"),
                outputs=task.texts("outputFiles") if "outputFiles" in task else None,
                run_s=measurement.number("runtimeInSeconds"),
            )
        )
    if measured:
        raise GraphError(
            f"{execution.at('tasks')} holds '{next(iter(measured))}', "
            "which the specification lacks. Add it there."
        )
    return tasks, _sizes(specification.sections("files")), execution.number("makespanInSeconds")


def _joint(workflow: Section) -> tuple[list[_Task], dict[str, int], float | None]:
    """Returns tasks, sizes of files and makespan of version 1.3 or 1.4."""
    tasks: list[_Task] = []
    sizes: dict[str, int] = {}
    for task in workflow.sections("tasks"):
        name = task.text("name")
        number = task.text("id", default="")
        files = task.sections("files")
        sizes |= _sizes(files)
        inputs: list[str] = []
        outputs: list[str] = []
        for file in files:
            is_input = file.text("link").lower() == "input"
            (inputs if is_input else outputs).append(_file(file))
        tasks.append(
            _Task(
                # In some texts all tasks of a function have the same name.
                name=name if number in name else f"{name}_{number}",
                aliases=(name, number) if number else (name,),
                function=task.text("category", default=_program(task) or name),
                parents=task.texts("parents"),
                children=task.texts("children"),
                inputs=inputs,
                outputs=outputs if "files" in task else None,
                run_s=_first(task, "runtimeInSeconds", "runtime"),
            )
        )
    return tasks, sizes, _first(workflow, "makespanInSeconds", "makespan")


def _program(task: Section) -> str:
    return task.section("command").text("program", default="")


def _first(section: Section, *keys: str) -> float | None:
    for key in keys:
        if key in section:
            return section.number(key)
    return None


def _file(file: Section) -> str:
    """Returns the id of a file; up to version 1.4 that is its path and name."""
    if "id" in file:
        return file.text("id")
    return file.text("path", default="") + file.text("name")


def _sizes(files: Iterable[Section]) -> dict[str, int]:
    return {_file(file): int(_first(file, "sizeInBytes", "size") or 0) for file in files}


def _assembled(
    name: str, tasks: Sequence[_Task], sizes: Mapping[str, int], makespan_s: float | None
) -> Workflow:
    declared = _declared(tasks)
    passed = _passed(tasks, declared)
    edges = dict.fromkeys((*declared, *passed))
    names = [task.name for task in tasks]
    dag = Dag.from_edges(
        names, ((names[u], names[d]) for u, d in edges), functions=[task.function for task in tasks]
    )

    # Tasks of the text may come in any order; a DAG has them in topological order.
    positions = [dag.positions[name] for name in names]
    run_s: dict[int, float] = {}
    output_bytes: dict[int, int] = {}
    edge_bytes: dict[tuple[int, int], int] = {}
    external = [set(task.inputs) for task in tasks]
    for (upstream, downstream), files in passed.items():
        external[downstream].difference_update(files)
        edge_bytes[positions[upstream], positions[downstream]] = _total(files, sizes)
    external_bytes: dict[int, int] = {}
    for position, task, files_from_outside in zip(positions, tasks, external, strict=True):
        if task.run_s is not None:
            run_s[position] = float(task.run_s)
        if task.outputs is not None:
            output_bytes[position] = _total(task.outputs, sizes)
        if files_from_outside:
            external_bytes[position] = _total(files_from_outside, sizes)
    return Workflow(
        name=name,
        dag=dag,
        run_s=run_s,
        output_bytes=output_bytes,
        edge_bytes=edge_bytes,
        external_bytes=external_bytes,
        makespan_s=makespan_s,
    )


def _total(files: Iterable[str], sizes: Mapping[str, int]) -> int:
    """Returns the bytes of files, each counted once. Raises GraphError for an unknown size."""
    distinct = set(files)
    for file in distinct:
        if file not in sizes:
            raise GraphError(
                f"file '{file}' is read or written but has no size. List it in specification.files."
            )
    return sum(sizes[file] for file in distinct)


def _declared(tasks: Sequence[_Task]) -> dict[tuple[int, int], None]:
    """Returns the edges (upstream, downstream) that tasks declare, positions in this list."""
    known: dict[str, int] = {}
    for position, task in enumerate(tasks):
        for alias in task.aliases:
            known.setdefault(alias, position)

    def position_of(other: str, kind: str, task: _Task) -> int:
        if other not in known:
            raise GraphError(
                f"task '{task.name}' has the {kind} '{other}', which does not exist. "
                f"Add that task, or leave the {kind} out."
            )
        return known[other]

    edges: dict[tuple[int, int], None] = {}  # a set that keeps its order
    for position, task in enumerate(tasks):
        for parent in task.parents:
            edges[position_of(parent, "parent", task), position] = None
        for child in task.children:
            edges[position, position_of(child, "child", task)] = None
    return edges


def _passed(
    tasks: Sequence[_Task], declared: Mapping[tuple[int, int], None]
) -> dict[tuple[int, int], list[str]]:
    """Returns (upstream, downstream) -> the files that go there, at least one."""
    writers: dict[str, list[int]] = defaultdict(list)
    for position, task in enumerate(tasks):
        for file in dict.fromkeys(task.outputs or ()):
            writers[file].append(position)
    passed: dict[tuple[int, int], list[str]] = defaultdict(list)
    for position, task in enumerate(tasks):
        for file in dict.fromkeys(task.inputs):
            makers = [maker for maker in writers.get(file, ()) if maker != position]
            parents = [maker for maker in makers if (maker, position) in declared]
            if not parents and len(makers) == 1:
                parents = makers  # a dependency that was not declared
            for parent in parents:
                passed[parent, position].append(file)
    return dict(passed)


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
