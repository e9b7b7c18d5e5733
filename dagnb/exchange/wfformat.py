"""Reads WfFormat, the JSON of WfCommons for recorded and generated workflows of many systems.

    1.5, 1.6   tasks in `specification`, measurements in `execution`; parents by id
    1.3, 1.4   one list of tasks with their measurements; parents by name

wfwriter.py writes version 1.5.

Source: Coleman et al. 2022, doi:10.1016/j.future.2021.09.043; github.com/wfcommons/WfFormat
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dagnb.errors import GraphError
from dagnb.exchange.section import Section, parsed
from dagnb.exchange.wfwriter import NAME
from dagnb.exchange.wfwriter import text as text  # noqa: PLC0414  # beside `read`, for importers
from dagnb.exchange.wfwriter import write as write  # noqa: PLC0414  # beside `read`, for importers
from dagnb.exchange.workflow import Workflow
from dagnb.graph.dag import Dag

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
