"""From a plan to what the store holds of it, and back to what a worker needs of one task.

The header (functions and their options, the archive of the user's modules) is stored once by content; each task is a
record of links and a body: which function, which argument bytes. A worker never needs the whole graph. The text of the
cells that code comes from travels along, for who looks at it when it fails.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeAlias

import msgpack

from dagnb.errors import VersionMismatchError
from dagnb.graph.brief import brief
from dagnb.graph.identity import identity
from dagnb.graph.lineage import lineage
from dagnb.graph.node import Node
from dagnb.graph.payload import Signer, encode_function
from dagnb.graph.pickling.packing import unpack
from dagnb.graph.resources import Resources
from dagnb.graph.task import Task
from dagnb.planning.forecast import Forecast
from dagnb.planning.plan import Plan
from dagnb.planning.planner import Pool
from dagnb.protocol.invocation import python_version
from dagnb.protocol.layout import Kinds, lay_out
from dagnb.protocol.messages import Submission

INLINE_CALL_BYTES = 256 * 1024
"""Argument bytes up to this size lie in the record of their call, larger ones among the contents"""


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionLine:
    """One function of the program. content: where its bytes lie; identity: the lasting hash that history uses."""

    name: str
    content: str
    identity: str
    timeout_s: float | None
    backoff_s: float
    pure: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What every worker of a run reads first.

    archive, cells, modules: content hash of the user's modules in files, of cells, of modules made in memory, or ''.
    """

    functions: tuple[FunctionLine, ...]
    archive: str = ""
    cells: str = ""
    modules: str = ""

    __repr__ = brief

    def pack(self) -> bytes:
        """MessagePack."""
        lines = [
            [f.name, f.content, f.identity, f.timeout_s, f.backoff_s, f.pure]
            for f in self.functions
        ]
        packed: bytes = msgpack.packb([lines, self.archive, self.cells, self.modules])
        return packed

    @classmethod
    def unpack(cls, packed: bytes) -> Header:
        """What pack wrote."""
        lines, archive, cells, modules = msgpack.unpackb(packed)
        names = ("name", "content", "identity", "timeout_s", "backoff_s", "pure")
        functions = tuple(FunctionLine(**dict(zip(names, line, strict=True))) for line in lines)
        return cls(functions=functions, archive=archive, cells=cells, modules=modules)


Cells: TypeAlias = Mapping[str, tuple[str, str]]
"""file -> (how people call it, its text)"""


def pack_cells(cells: Cells) -> bytes:
    """MessagePack; equal cells give equal bytes."""
    packed: bytes = msgpack.packb(
        sorted((file, *told) for file, told in cells.items()), unicode_errors="surrogatepass"
    )
    return packed


def unpack_cells(packed: bytes) -> Cells:
    """What pack_cells wrote."""
    return {
        file: (name, text)
        for file, name, text in msgpack.unpackb(packed, unicode_errors="surrogatepass")
    }


@dataclass(frozen=True, slots=True)
class Body:
    """One call: the number of its function, its ordinal among calls of that name, contents it takes, argument bytes.

    Without argument bytes they are the last of the contents, if there are any.
    """

    function: int
    ordinal: int
    contents: tuple[str, ...]
    call: bytes

    __repr__ = brief

    def seal(self, signer: Signer, run: str, task: int, upstream: Sequence[int]) -> bytes:
        """Signed bytes, bound to this task of this run and to whose values it reads."""
        packed: bytes = msgpack.packb([self.function, self.ordinal, self.contents, self.call])
        return signer.seal(_call_name(run, task, upstream), packed)

    def arguments(
        self, inputs: Sequence[Any], contents: Mapping[str, bytes]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Returns positional and named arguments, unpickled: verified bytes only. contents: bytes by name."""
        parts = [contents[name] for name in self.contents]
        call = self.call or (parts.pop() if parts else b"")
        found: tuple[tuple[Any, ...], dict[str, Any]] = (
            unpack(call, inputs, parts) if call else ((), {})
        )
        return found

    @classmethod
    def open(
        cls, sealed: bytes, signer: Signer, run: str, task: int, upstream: Sequence[int]
    ) -> Body:
        """What seal made. Raises SignatureError."""
        function, ordinal, contents, call = msgpack.unpackb(
            signer.open(_call_name(run, task, upstream), sealed)
        )
        return cls(function, ordinal, tuple(contents), call)


def _call_name(run: str, task: int, upstream: Sequence[int]) -> str:
    return f"call:{run}:{task}:{','.join(map(str, upstream))}"


@dataclass(frozen=True, kw_only=True)
class Program:
    """A plan ready to be submitted. contents: hash -> bytes to share; header: hash of the header among them.

    codes: the lasting hash of each function; code: which of them each step calls; keys: its call, see graph.lineage.
    """

    submission: Submission
    contents: dict[str, bytes]
    header: str
    codes: tuple[str, ...] = ()
    code: tuple[int, ...] = ()
    keys: tuple[str, ...] = ()

    __repr__ = brief

    @property
    def n_bytes(self) -> int:
        """Bytes of all records: what the DAG itself costs."""
        return sum(map(len, self.submission.records))


@dataclass
class _Shelf:
    """Collects content; an argument given to many tasks is hashed once. known: its key -> its name."""

    signer: Signer
    contents: dict[str, bytes] = field(default_factory=dict)
    known: dict[Hashable, str] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)
    functions: list[bytes] = field(default_factory=list)
    calls: list[bytes] = field(default_factory=list)

    def put(self, data: bytes) -> str:
        name = self.signer.content_name(data)
        self.contents[name] = data
        return name

    def share(self, node: Node[Any], name: str) -> tuple[str, ...]:
        """Returns the names of all contents of a call. Raises ArgumentChangedError. name: of the call."""
        self.files |= node.packed.files
        for content in node.packed.contents:
            if content.key not in self.known:
                data = content.copied()
                if data is None:
                    raise node.change_error(name, content)
                self.known[content.key] = self.put(data)
                if isinstance(
                    content.data, bytes
                ):  # a pickle; memory of the user's names no module
                    self.calls.append(data)
        return tuple(self.known[content.key] for content in node.packed.contents)


def build(
    plan: Plan,
    run: str,
    signer: Signer,
    *,
    cap: int,
    archive: Callable[[Collection[bytes], Collection[bytes]], bytes] | None = None,
    modules: bytes = b"",
    cells: Callable[[Iterable[str]], Cells] = lambda files: {},
    by_kind: bool = False,
    **terms: Any,
) -> Program:
    """Pickle, sign and lay out everything. terms: further fields of Submission. O(steps + edges + bytes).

    archive: asked for the user's modules that these pickles of functions and of arguments need; None where workers
    share files with this process. modules: those made in memory.
    cells: asked for the text of the files that the code which travels was written in.
    by_kind: workers of different resources are staffed by different instances; else any instance may staff any.
    Raises UnserialisableError naming the task, ArgumentChangedError naming task and argument.
    """
    shelf = _Shelf(signer)
    functions: dict[int, int] = {}
    lines: list[FunctionLine] = []
    bodies = [
        body.seal(signer, run, i, plan.steps[i].upstream)
        for i, body in enumerate(_bodies(plan, shelf, functions, lines))
    ]
    told = cells(shelf.files)
    packed = archive(shelf.functions, shelf.calls) if archive is not None else b""
    header = Header(
        functions=tuple(lines),
        archive=shelf.put(packed) if packed else "",
        cells=shelf.put(pack_cells(told)) if told else "",
        modules=shelf.put(modules) if modules else "",
    )
    laid = lay_out(plan, cap=cap, kinds=Kinds.RESOURCES if by_kind else Kinds.ONE)
    submission = laid.submission(run, bodies, **terms)
    keys = lineage(plan.dag)
    return Program(
        submission=submission,
        contents=shelf.contents,
        header=shelf.put(header.pack()),
        codes=tuple(line.identity for line in lines),
        code=tuple(functions[id(plan.dag.nodes[step.task].task)] for step in plan.steps),
        keys=tuple(keys[step.task] for step in plan.steps),
    )


def _bodies(
    plan: Plan, shelf: _Shelf, functions: dict[int, int], lines: list[FunctionLine]
) -> Iterator[Body]:
    for step in plan.steps:
        node = plan.dag.nodes[step.task]
        name = plan.dag.calls[step.task].name
        if id(node.task) not in functions:
            functions[id(node.task)] = len(lines)
            lines.append(_line(node.task, shelf))
        contents, call = shelf.share(node, name), node.packed.body
        shelf.calls.append(call)
        if len(call) > INLINE_CALL_BYTES:
            contents, call = (*contents, shelf.put(call)), b""
        yield Body(functions[id(node.task)], int(name.rsplit("-", 1)[1]), contents, call)


def _line(task: Task[..., Any], shelf: _Shelf) -> FunctionLine:
    pickled = encode_function(task, shelf.files)
    shelf.functions.append(pickled)
    return FunctionLine(
        name=task.name,
        content=shelf.put(pickled),
        identity=identity(task.function),
        timeout_s=task.options.timeout_s,
        backoff_s=task.options.backoff_s,
        pure=task.options.pure,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What else a run is remembered by. platform: name of the launcher. forecast: of the plan.

    structure: pickle of what the results are given in, see graph.targets; b'' for results without one.
    """

    deadline_s: float | None = None
    platform: str = ""
    pool: Pool | None = None
    forecast: Forecast | None = None
    structure: bytes = b""

    __repr__ = brief


def describe(
    plan: Plan, name: str, program: Program, signer: Signer, run: str, terms: Terms = Terms()
) -> str:
    """What whoever attaches must know, as JSON: names, functions, edges, placement; and the signature of all that."""
    used = sorted({step.resources for step in plan.steps}, key=Resources.label)
    told = {
        "name": name,
        "planner": plan.planner,
        "python": python_version(),
        "header": program.header,
        "names": plan.names,
        "functions": [plan.dag.calls[step.task].function for step in plan.steps],
        "codes": program.codes,
        "code": program.code,
        "keys": program.keys,
        "upstream": [step.upstream for step in plan.steps],
        "workers": [step.worker for step in plan.steps] if not plan.is_floating else [],
        "priorities": [step.priority for step in plan.steps],
        "sinks": plan.sinks,
        "resources": [step.resources.label() for step in plan.steps]
        if any(r.label() for r in used)
        else [],
        "needs": {r.label(): [r.cpus, r.memory_mb, r.requirements, r.network] for r in used},
        "structure": base64.b64encode(terms.structure).decode(),
        "deadline_s": terms.deadline_s,
        "platform": terms.platform,
        "pool": _told_pool(terms.pool),
        "forecast": asdict(terms.forecast) if terms.forecast is not None else None,
    }
    text = json.dumps(told)
    mac = signer.seal(f"story:{run}", text.encode())[: -len(text.encode())]
    return json.dumps({**told, "seal": mac.hex()})


def _told_pool(pool: Pool | None) -> dict[str, Any] | None:
    """Everything but what is warm of resources that the plan does not use; infinity as nothing."""
    if pool is None:
        return None
    told = {field.name: getattr(pool, field.name) for field in fields(pool) if field.name != "warm"}
    told = {name: None if value == math.inf else value for name, value in told.items()}
    return {**told, "warm": {resources.label(): n for resources, n in pool.warm.items()}}


def verify(description: str, signer: Signer, run: str) -> None:
    """Raises SignatureError when the description is not ours: it says which results are given, and in which order.

    Raises VersionMismatchError when the results are not for this Python: see check_python.
    """
    told = json.loads(description)
    mac = bytes.fromhex(told.pop("seal", ""))
    signer.open(f"story:{run}", mac + json.dumps(told).encode())
    check_python(description)


def check_python(description: str) -> None:
    """Raises VersionMismatchError when another minor version of Python pickled the values of the run.

    A function among them holds byte code of that version, and this process would end by a segmentation fault. Runs of
    releases that did not note their version pass.
    """
    theirs, ours = json.loads(description).get("python", ""), python_version()
    if theirs and theirs != ours:
        cure = f"Read its values with {theirs}, or run it again here; its states and errors can be looked at."
        raise VersionMismatchError(ours, theirs, cure)
