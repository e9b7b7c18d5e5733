"""WfFormat, the JSON of WfCommons, read: what recorded and generated workflows of many systems come in.

Versions 1.5 and 1.6 keep what is to be done apart from what was measured; 1.3 and 1.4 keep both in one list of tasks,
and call parents by name. `write` is the way back; it stands in a file of its own.

Source: Coleman et al. 2022, doi:10.1016/j.future.2021.09.043; github.com/wfcommons/WfFormat
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dagnb.errors import GraphError
from dagnb.exchange.section import Section, parsed
from dagnb.exchange.wfwriter import NAME
from dagnb.exchange.wfwriter import text as text  # noqa: PLC0414  # the way back
from dagnb.exchange.wfwriter import write as write  # noqa: PLC0414  # the way back
from dagnb.exchange.workflow import Workflow
from dagnb.graph.dag import Dag

SPLIT = ("1.5", "1.6")
JOINT = ("1.3", "1.4")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """One task, whichever version it came in. inputs, outputs: files; outputs None when nothing is said of them."""

    name: str
    aliases: tuple[str, ...]
    function: str
    parents: list[str]
    children: list[str]
    inputs: list[str]
    outputs: list[str] | None
    run_s: float | None


def read(text: str) -> Workflow:
    """The workflow that a WfFormat text holds, of version 1.3 to 1.6.

    A task that reads the file of another depends on it, declared or not. A file that several tasks write comes from
    those of them that are declared upstream. A makespan of 0, as generated workflows have, is unknown.
    Raises GraphError naming the place of what is missing or wrong, CycleError for tasks that wait for each other.
    """
    top = parsed(text)
    version = top.text("schemaVersion")
    if version not in SPLIT + JOINT:
        raise GraphError(
            f"the text is of WfFormat {version!r}; read are {', '.join(JOINT + SPLIT)}. "
            "Convert it with wfcommons-migrate-instance.py of github.com/wfcommons/WfFormat."
        )
    workflow = top.section("workflow")
    tasks, sizes, makespan_s = _split(workflow) if version in SPLIT else _joint(workflow)
    if not tasks:
        raise GraphError("the workflow has no tasks. Give one at least.")
    return _assembled(top.text("name"), tasks, sizes, makespan_s or None)


def _split(workflow: Section) -> tuple[list[_Task], dict[str, int], float | None]:
    """Tasks, sizes of files and makespan of version 1.5 or 1.6."""
    specification = workflow.section("specification")
    execution = (
        workflow.section("execution")
        if "execution" in workflow
        else Section({}, workflow.at("execution"))
    )
    measured = {task.text("id"): task for task in execution.sections("tasks")}
    tasks = []
    for task in specification.sections("tasks"):
        name = task.text("id")
        facts = measured.pop(name, Section({}))
        tasks.append(
            _Task(
                name=task.text(NAME) if NAME in task else name,
                aliases=(name,),
                function=task.text("name")
                if task.text("name") != name
                else _program(facts) or name,
                parents=task.texts("parents"),
                children=task.texts("children"),
                inputs=task.texts("inputFiles"),
                outputs=task.texts("outputFiles") if "outputFiles" in task else None,
                run_s=facts.number("runtimeInSeconds"),
            )
        )
    if measured:
        raise GraphError(
            f"{execution.at('tasks')} holds '{next(iter(measured))}', which the specification lacks. Add it there."
        )
    return tasks, _sizes(specification.sections("files")), execution.number("makespanInSeconds")


def _joint(workflow: Section) -> tuple[list[_Task], dict[str, int], float | None]:
    """The same of version 1.3 or 1.4."""
    tasks: list[_Task] = []
    sizes: dict[str, int] = {}
    for task in workflow.sections("tasks"):
        name, number = task.text("name"), task.text("id") if "id" in task else ""
        files = task.sections("files")
        sizes |= _sizes(files)
        links: dict[bool, list[str]] = {True: [], False: []}
        for file in files:
            links[file.text("link").lower() == "input"].append(_file(file))
        tasks.append(
            _Task(
                name=name if number in name else f"{name}_{number}",
                aliases=(name, number) if number else (name,),
                function=task.text("category") if "category" in task else _program(task) or name,
                parents=task.texts("parents"),
                children=task.texts("children"),
                inputs=links[True],
                outputs=links[False] if "files" in task else None,
                run_s=_first(task, "runtimeInSeconds", "runtime"),
            )
        )
    return tasks, sizes, _first(workflow, "makespanInSeconds", "makespan")


def _program(task: Section) -> str:
    command = task.section("command") if "command" in task else Section({})
    return command.text("program") if "program" in command else ""


def _first(section: Section, *keys: str) -> float | None:
    return next((section.number(key) for key in keys if key in section), None)


def _file(file: Section) -> str:
    """The id of a file: up to 1.4 its name, below a path that may be given."""
    return (
        file.text("id")
        if "id" in file
        else (file.text("path") if "path" in file else "") + file.text("name")
    )


def _sizes(files: Iterable[Section]) -> dict[str, int]:
    return {_file(file): int(_first(file, "sizeInBytes", "size") or 0) for file in files}


def _assembled(
    name: str, tasks: Sequence[_Task], sizes: Mapping[str, int], makespan_s: float | None
) -> Workflow:
    declared = _declared(tasks)
    passed = _passed(tasks, declared)
    names = [task.name for task in tasks]
    edges = dict.fromkeys((*declared, *passed))
    dag = Dag.from_edges(
        names, ((names[u], names[d]) for u, d in edges), functions=[task.function for task in tasks]
    )
    place = [dag.positions[name] for name in names]
    outside = [set(task.inputs) for task in tasks]
    for (_, d), files in passed.items():
        outside[d].difference_update(files)
    made = {
        place[i]: _total(task.outputs, sizes)
        for i, task in enumerate(tasks)
        if task.outputs is not None
    }
    return Workflow(
        name=name,
        dag=dag,
        run_s={
            place[i]: float(task.run_s) for i, task in enumerate(tasks) if task.run_s is not None
        },
        output_bytes=made,
        edge_bytes={(place[u], place[d]): _total(files, sizes) for (u, d), files in passed.items()},
        external_bytes={place[d]: _total(files, sizes) for d, files in enumerate(outside) if files},
        makespan_s=makespan_s,
    )


def _total(files: Iterable[str], sizes: Mapping[str, int]) -> int:
    """Bytes of these files, each counted once. Raises GraphError for a file whose size is not given."""
    distinct = set(files)
    for file in distinct:
        if file not in sizes:
            raise GraphError(
                f"file '{file}' is read or written, and has no size. List it in specification.files."
            )
    return sum(sizes[file] for file in distinct)


def _declared(tasks: Sequence[_Task]) -> dict[tuple[int, int], None]:
    """(upstream, task) as positions in this list, of what tasks say of their parents or of their children."""
    known: dict[str, int] = {}
    for position, task in enumerate(tasks):
        for alias in task.aliases:
            known.setdefault(alias, position)
    edges: dict[tuple[int, int], None] = {}
    for position, task in enumerate(tasks):
        for kind, others in (("parent", task.parents), ("child", task.children)):
            for other in others:
                if other not in known:
                    raise GraphError(
                        f"task '{task.name}' has the {kind} '{other}', which does not exist. "
                        f"Add that task, or leave the {kind} out."
                    )
                edges[
                    (known[other], position) if kind == "parent" else (position, known[other])
                ] = None
    return edges


def _passed(
    tasks: Sequence[_Task], declared: Mapping[tuple[int, int], None]
) -> dict[tuple[int, int], list[str]]:
    """(upstream, task) -> the files that go there, one at least."""
    writers: dict[str, list[int]] = defaultdict(list)
    for position, task in enumerate(tasks):
        for file in dict.fromkeys(task.outputs or ()):
            writers[file].append(position)
    passed: dict[tuple[int, int], list[str]] = defaultdict(list)
    for position, task in enumerate(tasks):
        for file in dict.fromkeys(task.inputs):
            makers = [u for u in writers.get(file, ()) if u != position]
            upstream = [u for u in makers if (u, position) in declared] or (
                makers if len(makers) == 1 else []
            )
            for u in upstream:
                passed[u, position].append(file)
    return dict(passed)
