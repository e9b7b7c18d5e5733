"""The program of a run: from a plan to what the store holds, and back to what a worker needs.

    header    stored once, by content: functions and their options, argument bytes that several
              calls share, and the hashes of the archive of the user's modules, of cells, of
              modules made in memory
    contents  stored once, by content: pickled functions, large arguments, the archive;
              arrays in shared memory are not stored, and have a name instead of a hash
    records   one for each task: links (see layout.py) and a signed body

A body says which function to call and with which argument bytes, so a worker never needs the whole
graph. The text of the notebook cells with the code is stored, too, to show source lines of
failures.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any, TypeAlias

import msgpack

from dagnb.graph.brief import brief
from dagnb.graph.identity import identity
from dagnb.graph.lineage import lineage
from dagnb.graph.payload import Signer, encode_function
from dagnb.graph.pickling.flat import FlatContainers
from dagnb.graph.pickling.packing import Content, unpack
from dagnb.graph.task import Node, Task
from dagnb.planning.plan import Plan
from dagnb.protocol.layout import Kinds, submission
from dagnb.protocol.messages import Submission
from dagnb.protocol.naming import ordinals_of

INLINE_CALL_BYTES = 256 * 1024
"""Argument bytes up to this size are in the record of their call, larger ones among the contents.

A record is read by scripts on the server, one at a time, and must not keep it busy for long.
"""

HEADER_CALL_BYTES = 256 * 1024
"""Argument bytes of all calls that are in the header, at most: every worker reads it first."""

WriteArray: TypeAlias = Callable[[memoryview], str]
"""memory of an array -> the name by which workers find it; '' when it belongs to the contents"""


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionLine:
    """One function of the program.

    content: hash of its pickle. identity: lasting hash of its code, which the history uses.
    """

    name: str
    content: str
    identity: str
    timeout_s: float | None
    backoff_s: float
    pure: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The first thing that every worker of a run reads.

    archive: content hash of the user's modules in files. cells: of the text of cells.
    modules: of modules made in memory. '' where there are none.
    calls: argument bytes that several calls share, as most tasks do that read other tasks only.
    """

    functions: tuple[FunctionLine, ...]
    archive: str = ""
    cells: str = ""
    modules: str = ""
    calls: tuple[bytes, ...] = ()

    __repr__ = brief

    def pack(self) -> bytes:
        """Returns MessagePack: the functions as arrays, three content hashes, the calls."""
        lines = [astuple(function) for function in self.functions]
        packed: bytes = msgpack.packb([lines, self.archive, self.cells, self.modules, self.calls])
        return packed

    @classmethod
    def unpack(cls, packed: bytes) -> Header:
        """Read what pack wrote."""
        lines, archive, cells, modules, calls = msgpack.unpackb(packed)
        functions = []
        for name, content, lasting, timeout_s, backoff_s, pure in lines:
            functions.append(
                FunctionLine(
                    name=name,
                    content=content,
                    identity=lasting,
                    timeout_s=timeout_s,
                    backoff_s=backoff_s,
                    pure=pure,
                )
            )
        return cls(
            functions=tuple(functions),
            archive=archive,
            cells=cells,
            modules=modules,
            calls=tuple(calls),
        )


Cells: TypeAlias = Mapping[str, tuple[str, str]]
"""file -> (name as people know it, like 'Cell In[4]'; its text)"""


def pack_cells(cells: Cells) -> bytes:
    """Returns MessagePack; equal cells give equal bytes."""
    # Text that was typed may hold lone surrogates, which strict UTF-8 refuses.
    packed: bytes = msgpack.packb(
        sorted((file, *cell) for file, cell in cells.items()), unicode_errors="surrogatepass"
    )
    return packed


def unpack_cells(packed: bytes) -> Cells:
    """Read what pack_cells wrote."""
    lines = msgpack.unpackb(packed, unicode_errors="surrogatepass")
    return {file: (name, text) for file, name, text in lines}


@dataclass(frozen=True, slots=True)
class Body:
    """One call.

    function: number in the header. ordinal: of the call, among calls of that function.
    contents: hashes of the contents that the call needs, or names of arrays in shared memory.
    call: argument bytes; if b'', they are the last of the contents, or there are no arguments.
    """

    function: int
    ordinal: int
    contents: tuple[str, ...]
    call: bytes

    __repr__ = brief

    def seal(
        self,
        signer: Signer,
        run: str,
        task: int,
        upstream: Sequence[int],
        pack: Callable[[Any], bytes] = msgpack.packb,
        number: int = -1,
    ) -> bytes:
        """Returns signed bytes, bound to this run, this task and its upstream tasks.

        Otherwise the bytes of one call could replace those of another. pack: of a Packer that the
        caller keeps for many bodies, since making one takes longer than packing.
        number: of the argument bytes in the header, which takes their place; -1 where they are not
        there.
        """
        call = self.call if number < 0 else number
        packed = pack((self.function, self.ordinal, self.contents, call))
        return signer.seal(_call_name(run, task, upstream), packed)

    def arguments(
        self,
        inputs: Sequence[Any],
        contents: Mapping[str, bytes | memoryview],
        flat: FlatContainers | None = None,
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Unpickle positional and named arguments, from verified bytes only.

        inputs: values of the upstream tasks, in order. contents: bytes by hash; an array uses a
            writable view as its memory.
        flat: see packing.unpack.
        """
        parts: list[bytes | memoryview] = []
        used: set[str] = set()
        for name in self.contents:
            # Equal arrays have one content, but each needs memory of its own.
            parts.append(bytes(contents[name]) if name in used else contents[name])
            used.add(name)
        call = self.call or (parts.pop() if parts else b"")
        if not call:
            return (), {}
        arguments: tuple[tuple[Any, ...], dict[str, Any]] = unpack(call, inputs, parts, flat)
        return arguments

    @classmethod
    def open(
        cls,
        sealed: bytes,
        signer: Signer,
        run: str,
        task: int,
        upstream: Sequence[int],
        calls: Sequence[bytes] = (),
    ) -> Body:
        """Verify and read what seal made. calls: of the header. Raises SignatureError."""
        function, ordinal, contents, call = msgpack.unpackb(
            signer.open(_call_name(run, task, upstream), sealed)
        )
        if isinstance(call, int):
            call = calls[call]
        return cls(function, ordinal, tuple(contents), call)


def _call_name(run: str, task: int, upstream: Sequence[int]) -> str:
    reads = ",".join(map(str, upstream)) if upstream else ""
    return f"call:{run}:{task}:{reads}"


@dataclass(frozen=True, kw_only=True)
class Program:
    """A plan ready to be submitted.

    contents: hash -> bytes to share. header: hash of the header among them.
    codes: lasting hash of each function. code: position in `codes`, for each step.
    keys: of the call of each step, see graph.lineage. ordinals: of each step, see naming.
    """

    submission: Submission
    contents: dict[str, bytes]
    header: str
    codes: tuple[str, ...] = ()
    code: tuple[int, ...] = ()
    keys: tuple[str, ...] = ()
    ordinals: tuple[int, ...] = ()

    __repr__ = brief

    @property
    def n_bytes(self) -> int:
        """Bytes of all records: the size of the DAG itself."""
        return sum(map(len, self.submission.records))


@dataclass
class _Collector:
    """Collects content.

    An argument that is given to many tasks is hashed, or written to shared memory, once.
    write_array: see build. known: key of an argument -> the name of its content.
    shared: summary -> an array in shared memory, and its name.
    files: source files of code that is pickled by value.
    functions, calls: pickles, to be searched for modules of the user; equal ones once.
    shared_calls: of the header. occurred: argument bytes -> their number there, -1 for none.
    room: bytes of calls that the header may still take.
    lines: of the header. numbers: id of a Task object -> the number of its line. code: the line of
    each step.
    """

    signer: Signer
    write_array: WriteArray | None
    contents: dict[str, bytes] = field(default_factory=dict)
    known: dict[Hashable, str] = field(default_factory=dict)
    shared: dict[Hashable, tuple[Content, str]] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)
    functions: list[bytes] = field(default_factory=list)
    calls: list[bytes] = field(default_factory=list)
    shared_calls: list[bytes] = field(default_factory=list)
    occurred: dict[bytes, int] = field(default_factory=dict)
    room: int = field(default_factory=lambda: HEADER_CALL_BYTES)
    lines: list[FunctionLine] = field(default_factory=list)
    numbers: dict[int, int] = field(default_factory=dict)
    code: list[int] = field(default_factory=list)

    def put(self, data: bytes) -> str:
        """Add bytes. Returns their content hash."""
        name = self.signer.content_name(data)
        self.contents[name] = data
        return name

    def function(self, task: Task[..., Any]) -> int:
        """Returns the number of a function; the first time, pickle it and add its line."""
        if id(task) not in self.numbers:
            pickled = encode_function(task, self.files)
            self.functions.append(pickled)
            self.numbers[id(task)] = len(self.lines)
            self.lines.append(
                FunctionLine(
                    name=task.name,
                    content=self.put(pickled),
                    identity=identity(task.function),
                    timeout_s=task.options.timeout_s,
                    backoff_s=task.options.backoff_s,
                    pure=task.options.pure,
                )
            )
        return self.numbers[id(task)]

    def shared_number(self, call: bytes) -> int:
        """Returns the number of argument bytes in the header, where they go the second time.

        -1 the first time, and where the header has no room.
        """
        number = self.occurred.get(call)
        if number is None:
            number = self.occurred[call] = -1
            self.calls.append(call)
        elif number < 0 and len(call) <= self.room:
            number = self.occurred[call] = len(self.shared_calls)
            self.shared_calls.append(call)
            self.room -= len(call)
        return number

    def share(self, node: Node[Any], name: str) -> tuple[str, ...]:
        """Add the large arguments of a call. Returns the names of their contents.

        name: of the call, for the error. Raises ArgumentChangedError.
        """
        packed = node.packed
        self.files |= packed.files
        if not packed.contents:
            return ()
        for content in packed.contents:
            if content.key not in self.known:
                added = self._add(content)
                if added is None:
                    raise node.change_error(name, content)
                self.known[content.key] = added
        return tuple(self.known[content.key] for content in packed.contents)

    def _add(self, content: Content) -> str | None:
        """Add one large argument. Returns its name; None if it has changed since the call."""
        if isinstance(content.data, bytes):
            self.calls.append(content.data)  # a pickle may name modules, memory of arrays none
        elif self.write_array is not None:
            # Each pickle of a data frame shows the same memory as another object.
            other, name = self.shared.get(content.summary, (content, ""))
            if name and content.equals(other):
                return name
            if name := self.write_array(content.data):
                self.shared.setdefault(content.summary, (content, name))
                # After the copy: what is written to the array from now on is not in it.
                return name if content.is_unchanged() else None
        data = content.copied()
        return None if data is None else self.put(data)


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
    write_array: WriteArray | None = None,
    **terms: Any,
) -> Program:
    """Pickle, sign and lay out a plan. O(steps + edges + bytes).

    cap: members of each pool.
    archive: makes the archive of the user's modules that these pickles of functions and of
        arguments need; None where workers share files with this process.
    modules: pickle of modules made in memory.
    cells: returns the text of source files; it is called with those of the functions.
    by_kind: workers of different resources need different instances; else any serves any.
    write_array: writes memory of an array where workers can map it, instead of the contents.
    terms: more fields of Submission.
    Raises UnserialisableError naming the task, ArgumentChangedError naming task and argument.
    """
    collector = _Collector(signer, write_array)
    ordinals = ordinals_of(plan.names)
    kinds = Kinds.RESOURCES if by_kind else Kinds.ONE
    bodies = _bodies(plan, run, ordinals, collector)
    submitted = submission(plan, run, bodies, cap=cap, kinds=kinds, **terms)

    # Made after the bodies, because only their pickles show which files and modules are needed.
    written = cells(collector.files)
    packed = archive(collector.functions, collector.calls) if archive is not None else b""
    header = Header(
        functions=tuple(collector.lines),
        archive=collector.put(packed) if packed else "",
        cells=collector.put(pack_cells(written)) if written else "",
        modules=collector.put(modules) if modules else "",
        calls=tuple(collector.shared_calls),
    )

    keys = lineage(plan.dag)
    return Program(
        submission=submitted,
        contents=collector.contents,
        header=collector.put(header.pack()),
        codes=tuple(line.identity for line in collector.lines),
        code=tuple(collector.code),
        keys=tuple(keys[step.task] for step in plan.steps),
        ordinals=ordinals,
    )


def _bodies(
    plan: Plan, run: str, ordinals: Sequence[int], collector: _Collector
) -> Iterator[bytes]:
    """Yields the sealed body of each step; collects what all of them need."""
    pack = msgpack.Packer().pack
    for position, step in enumerate(plan.steps):
        body = _body(plan, step.task, ordinals[position], collector)
        number = collector.shared_number(body.call) if body.call else -1
        yield body.seal(collector.signer, run, position, step.upstream, pack, number)


def _body(plan: Plan, task: int, ordinal: int, collector: _Collector) -> Body:
    node = plan.dag.nodes[task]
    function = collector.function(node.task)
    contents, call = collector.share(node, plan.dag.calls[task].name), node.packed.body
    collector.code.append(function)
    if len(call) > INLINE_CALL_BYTES:
        collector.calls.append(call)
        contents, call = (*contents, collector.put(call)), b""
    return Body(function, ordinal, contents, call)
