"""The reference of placement: a program run by plain Python in this thread, one call after the
other.

Rules it follows: the arguments of a call are copied when it is written, the values of other calls
when they are read, once a call and attempt; what a task raises is its failure; who needs a failed
one is skipped; a value that cannot be pickled is the failure of who gave it, one that cannot be
unpickled the failure of who reads it.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import io
import pickle
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import cloudpickle

from dagnb.errors import UnserialisableError
from dagnb.graph.context import TaskContext, entered
from dagnb.graph.dag import Dag
from dagnb.graph.pickling.packing import SHARED_BYTES
from dagnb.graph.task import Node
from tests.conformance.programs import Program, built

Problem = tuple[str, str, str, tuple[str, ...], tuple[Any, ...]]
"""What an attempt died of: its task and attempt, type, message (or how it begins), notes, causes"""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The outcome of a program. values: task -> what its value tells, or the error of who reads it.
    printed: by task.

    refused: the type of the error when nothing ran at all, with what it names.
    """

    refused: str = ""
    states: dict[str, str] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    failures: tuple[Problem, ...] = ()
    printed: dict[str, str] = field(default_factory=dict)


UNREADABLE = "ValueUnreadableError"
UNPICKLED = "cannot be pickled: "


def serial(program: Program, cell: ModuleType) -> Outcome:
    """The program by the rules."""
    written: dict[Node[Any], bytes] = {}
    large: list[tuple[Node[Any], Any, int]] = []
    refused: list[Node[Any]] = []

    def called(node: Node[Any]) -> None:
        try:
            written[node] = _written(node, large)
        except BaseException:  # noqa: BLE001  # pickling runs the cell's code
            refused.append(node)

    try:
        nodes = built(program, cell, called).nodes
    except UnserialisableError as error:  # at the call, so wherever it would have been placed
        return Outcome(refused=f"UnserialisableError {error.task}")
    assert not refused
    dag = Dag.of(*nodes)
    names = {node: call.name for node, call in zip(dag.nodes, dag.calls, strict=True)}
    if changed := [node for node, thing, before in large if hash(bytes(thing)) != before]:
        return Outcome(
            refused=f"ArgumentChangedError {names[next(n for n in dag.nodes if n in changed)]}"
        )
    return _Play(cell, written, names).outcome(dag.nodes)


class _Writer(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Pickles arguments with a reference in the place of each node; notes large buffers."""

    def persistent_id(self, item: Any) -> int | None:
        if isinstance(item, Node):
            place: int = self.upstream.index(item)
            return place
        if (
            type(item).__name__ == "ndarray"
            and item.nbytes >= SHARED_BYTES
            and not item.dtype.hasobject
        ):
            self.large.append(item)
        return None


class _Reader(pickle.Unpickler):
    def persistent_load(self, place: Any) -> Any:
        return self.inputs[place]


def _written(node: Node[Any], large: list[tuple[Node[Any], Any, int]]) -> bytes:
    buffer = io.BytesIO()
    writer = _Writer(buffer, protocol=5)
    writer.upstream, writer.large = node.upstream, []
    writer.dump((node.args, node.kwargs))
    large += [(node, item, hash(bytes(item))) for item in writer.large]
    return buffer.getvalue()


@dataclass
class _Play:
    cell: ModuleType
    written: dict[Node[Any], bytes]
    names: dict[Node[Any], str]
    pickles: dict[Node[Any], bytes] = field(default_factory=dict)
    failures: list[Problem] = field(default_factory=list)
    printed: dict[str, str] = field(default_factory=dict)

    def outcome(self, nodes: tuple[Node[Any], ...]) -> Outcome:
        states = {}
        for node in nodes:
            if all(up in self.pickles for up in node.upstream):
                self._run(node)
                states[self.names[node]] = "done" if node in self.pickles else "failed"
            else:
                states[self.names[node]] = "skipped"
        values = {self.names[node]: self._read(node) for node in nodes if node in self.pickles}
        return Outcome(
            states=states, values=values, failures=tuple(self.failures), printed=self.printed
        )

    def _read(self, node: Node[Any]) -> str:
        try:
            return str(self.cell.told(pickle.loads(self.pickles[node])))
        except BaseException:  # noqa: BLE001  # unpickling runs the cell's code
            return UNREADABLE

    def _run(self, node: Node[Any]) -> None:
        for attempt in range(1, node.task.options.retries + 2):
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                may_retry = self._attempt(node, attempt)
            self.printed[self.names[node]] = out.getvalue()
            if not may_retry:
                return

    def _attempt(self, node: Node[Any], attempt: int) -> bool:
        """Whether it is to be tried again."""
        name = self.names[node]
        try:
            args, kwargs = self._arguments(node)
        except _UnreadableError as error:
            self.failures.append(
                (f"{name} {attempt}", type(error.__cause__).__qualname__, str(error), (), ())
            )
            return False
        here = TaskContext(run="", task=name, attempt=attempt, seed=0, worker="")
        try:
            with entered(here, whole_process=True):
                value = node.task.function(*args, **kwargs)
                if inspect.iscoroutine(value):
                    value = asyncio.run(value)
        except BaseException as error:  # noqa: BLE001  # the cell may raise anything
            self.failures.append((f"{name} {attempt}", *_told(error)))
            return isinstance(error, Exception)
        try:
            self.pickles[node] = cloudpickle.dumps(value)
        except BaseException:  # noqa: BLE001  # pickling runs the cell's code
            message = f"the result of task '{name}' {UNPICKLED}"
            self.failures.append((f"{name} {attempt}", "UnserialisableError", message, (), ()))
        return False

    def _arguments(self, node: Node[Any]) -> Any:
        inputs = []
        for up in node.upstream:
            try:
                inputs.append(pickle.loads(self.pickles[up]))
            except BaseException as error:
                told = (
                    f"the value of task '{self.names[up]}', which task '{self.names[node]}' takes,"
                )
                raise _UnreadableError(f"{told} cannot be unpickled: ") from error
        reader = _Reader(io.BytesIO(self.written[node]))
        reader.inputs = inputs
        try:
            return reader.load()
        except BaseException as error:
            raise _UnreadableError(
                f"an argument of task '{self.names[node]}' cannot be unpickled: "
            ) from error


class _UnreadableError(Exception):
    """Its cause was raised by unpickling."""


def _told(error: BaseException) -> tuple[str, str, tuple[str, ...], tuple[Any, ...]]:
    return (
        type(error).__qualname__,
        _message(error),
        tuple(getattr(error, "__notes__", ())),
        tuple(_causes(error)),
    )


def _message(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"the task called sys.exit({error.code!r}); return a value instead"
    try:
        return str(error)
    except Exception as second:  # noqa: BLE001  # __str__ of the cell
        return f"(its message cannot be shown: {type(second).__name__} in __str__)"


def _causes(error: BaseException) -> list[Any]:
    others: list[tuple[str, BaseException]] = []
    if error.__cause__ is not None:
        others.append(("cause", error.__cause__))
    elif error.__context__ is not None and not error.__suppress_context__:
        others.append(("context", error.__context__))
    if isinstance(error, BaseExceptionGroup):
        others += [("part", part) for part in error.exceptions]
    return [(how, *_told(other)) for how, other in others]
