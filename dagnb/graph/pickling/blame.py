"""Finds the part of an object that cannot be pickled, where it is held, and the cure for its kind.

The pickler itself says which part: the last one it looked at. A walk over what functions, classes, containers and
objects hold then finds the shortest way there. Both run only after pickling has failed.
"""

from __future__ import annotations

import functools
import inspect
import io
import reprlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from dagnb.graph.pickling.by_value import ByValuePickler
from dagnb.graph.pickling.code import names_and_texts
from dagnb.graph.pickling.reduction import full_name

_MOST = 200_000
"""objects that are looked at to find the way to one of them"""

_PLAIN = frozenset({str, bytes, int, float, bool, complex, type(None), CodeType, ModuleType})
"""types of objects that travel, and hold nothing that is looked at"""


@dataclass(frozen=True, slots=True)
class Blame:
    """The reason why something cannot travel, naming the part by its path, and the cure.

    result_cure: for a task that returns it, '' where only the general one fits.
    """

    reason: str
    cure: str = ""
    result_cure: str = ""


@dataclass(frozen=True, slots=True)
class _Step:
    """One step of a path. own: the text stands alone, as the name of a global does; other texts go on, as `.x` does."""

    text: str
    own: bool = False


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of object that cannot travel. words: its name; cure: for who gives it; result_cure: for who returns it."""

    words: str
    cure: str
    result_cure: str = ""


def blame(
    value: object, reason: str, *, root: str = "", user: str = "", apart: type | tuple[()] = ()
) -> Blame:
    """Find the part of a value that pickling failed at, and say what it is; the reason alone where none is found.

    reason: what pickling raised. root: how the value itself is called, '' for a function whose globals are named.
    user: the task whose function the value is, for "used by task". apart: objects of this class travel in another way.
    """
    culprit = _last_met(value, apart)
    way = _way(value, culprit) if culprit is not None else None
    if not way:
        kind = _kind_of(value)
        return Blame(reason) if kind is None else Blame(reason, kind.cure, kind.result_cure)
    way, kind = _outermost_known(way)
    where = (
        f"`{_path(root, [step for step, _ in way])}`{f', used by task {user!r},' if user else ''}"
    )
    name = _type_name(way[-1][1])
    if kind is None:
        return Blame(f"{where} is of type {name}: {reason}")
    return Blame(f"{where} is {kind.words} ({name})", kind.cure, kind.result_cure)


class _Nowhere:
    """A file that keeps nothing."""

    def write(self, data: Any) -> int:
        """Only count."""
        return len(data)


class _Tracer(ByValuePickler):
    """Remembers what it looks at."""

    last: Any = None
    apart: type | tuple[()] = ()

    def persistent_id(self, item: Any) -> object:
        """Something for what is not pickled here."""
        return "apart" if isinstance(item, self.apart) else None

    def reducer_override(self, item: Any) -> Any:
        """See ByValuePickler; notes what it is asked about."""
        self.last = item
        return super().reducer_override(item)


def _last_met(value: object, apart: type | tuple[()]) -> Any:
    tracer = _Tracer(_Nowhere(), protocol=5, buffer_callback=lambda buffer: None)
    tracer.files, tracer.apart = set(), apart
    try:
        tracer.dump(value)
    except BaseException as error:  # noqa: BLE001  # pickling runs the user's code: it may raise SystemExit, too
        return None if isinstance(error.__cause__, RecursionError) else tracer.last
    return None


_Way = list[tuple[_Step, Any]]


def _way(start: object, wanted: object) -> _Way | None:
    """The shortest way, by what holds what: each step with what it leads to."""
    if start is wanted:
        return []
    came: dict[int, tuple[int, _Step, Any]] = {}
    kept: list[Any] = [start]  # so that no id is taken by another object meanwhile
    seen = {id(start)}
    waiting = deque([start])
    while waiting and len(seen) < _MOST:
        holder = waiting.popleft()
        for step, part in _parts(holder):
            if type(part) in _PLAIN or id(part) in seen:
                continue
            seen.add(id(part))
            kept.append(part)
            came[id(part)] = (id(holder), step, part)
            if part is wanted:
                return _back(came, id(part))
            waiting.append(part)
    return None


def _back(came: Mapping[int, tuple[int, _Step, Any]], at: int) -> _Way:
    way: _Way = []
    while at in came:
        before, step, part = came[at]
        way.append((step, part))
        at = before
    return way[::-1]


def _parts(thing: Any) -> Iterable[tuple[_Step, Any]]:
    """The parts to which pickling an object by value goes on."""
    if isinstance(thing, FunctionType):
        return _parts_of_function(thing)
    if isinstance(thing, type):
        return _parts_of_class(thing)
    return _parts_of_object(thing)


def _parts_of_function(function: FunctionType) -> Iterator[tuple[_Step, Any]]:
    names, _ = names_and_texts(function.__code__)
    for name in sorted(names & function.__globals__.keys()):
        yield _Step(name, own=True), function.__globals__[name]
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield _Step(name, own=True), cell.cell_contents
        except ValueError:  # not filled yet
            continue
    for name, default in _defaults(function):
        yield _Step(name, own=True), default
    for name, value in vars(function).items():
        yield _Step(f".{name}"), value
    for name, value in function.__annotations__.items():
        yield _Step(name, own=True), value


def _defaults(function: FunctionType) -> Iterator[tuple[str, Any]]:
    code = function.__code__
    positional = function.__defaults__ or ()
    last = code.co_varnames[: code.co_argcount][code.co_argcount - len(positional) :]
    yield from zip(last, positional, strict=True)
    yield from (function.__kwdefaults__ or {}).items()


def _parts_of_class(kind: type) -> Iterator[tuple[_Step, Any]]:
    if kind.__module__ == "builtins":
        return
    for name, value in vars(kind).items():
        yield _Step(f".{name}"), value
    for base in kind.__bases__:
        yield _Step(base.__name__, own=True), base


def _parts_of_object(thing: Any) -> Iterator[tuple[_Step, Any]]:
    if isinstance(thing, Mapping) and not isinstance(thing, type):
        for key, value in list(thing.items()):
            yield _Step(f"[{reprlib.repr(key)}]"), value
            yield _Step(f" key {reprlib.repr(key)}"), key
    elif isinstance(thing, list | tuple | set | frozenset | deque):
        for i, value in enumerate(list(thing)):
            yield _Step(f"[{i}]"), value
    for name, value in _attributes(thing):
        yield _Step(f".{name}"), value
    yield _Step(type(thing).__name__, own=True), type(thing)


_HOLDERS = (
    "__func__",
    "__self__",
    "__wrapped__",
    "func",
    "args",
    "keywords",
    "fget",
    "fset",
    "fdel",
    "function",
)
"""attributes of methods, partials, properties and the like, which have no dictionary"""


def _attributes(thing: Any) -> Iterator[tuple[str, Any]]:
    held = getattr(thing, "__dict__", None)
    if isinstance(held, dict):
        yield from list(held.items())
    slots = [name for kind in type(thing).__mro__ for name in _slots(kind)]
    for name in (*slots, *(_HOLDERS if _is_holder(thing) else ())):
        value = inspect.getattr_static(thing, name, None)
        if value is not None:
            yield name, getattr(thing, name, None)


def _slots(kind: type) -> Iterable[str]:
    slots = vars(kind).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else slots


def _is_holder(thing: Any) -> bool:
    return isinstance(
        thing, MethodType | functools.partial | property | classmethod | staticmethod
    ) or type(thing).__module__ in {"functools", "dagnb.graph.task"}


def _outermost_known(way: _Way) -> tuple[_Way, _Kind | None]:
    """The way up to the first object of a known kind: a thread rather than the lock inside it."""
    for i, (_, part) in enumerate(way):
        if (kind := _kind_of(part)) is not None:
            return way[: i + 1], kind
    return way, None


def _path(root: str, steps: Iterable[_Step]) -> str:
    """'conn` in `g' for the global conn of the function g that the root uses."""
    scopes = [root] if root else []
    for step in steps:
        if step.text in _SEEN_THROUGH:
            continue
        if step.own:
            scopes.append(step.text)
        elif scopes:
            scopes[-1] += step.text
        else:
            scopes.append(step.text.lstrip("."))
    return "` in `".join(reversed(scopes))


_SEEN_THROUGH = {".__wrapped__", ".__func__"}
"""steps to the function that a decorator holds: it has the name of what it became"""


def _type_name(thing: Any) -> str:
    kind = type(thing)
    return full_name(kind).removeprefix("builtins.").removeprefix("__main__.")


def _kind_of(thing: Any) -> _Kind | None:
    if isinstance(thing, type | FunctionType):
        return None
    if isinstance(thing, io.IOBase):
        return _FILE
    for base in type(thing).__mro__:
        if (kind := _KINDS.get(full_name(base))) is not None:
            return kind
    return _CONNECTION if type(thing).__name__.lower().endswith(("connection", "cursor")) else None


_CONNECTION = _Kind(
    "an open connection", "Open it inside the task, and pass what opens it: a path, a URL."
)
_FILE = _Kind("an open file", "Open it inside the task, and pass its path.")
_LOCK = _Kind(
    "a lock",
    "It guards threads of one process, and a task has another one: make it inside the task, or leave it out.",
)
_ACTIVITY = _Kind("something that runs in this process", "Start it inside the task.")
_ONCE = _Kind(
    "an iterator that is under way",
    "Make it inside the task, or pass a list of what it gives.",
    "Return a list of what it gives instead.",
)
_POINTER = _Kind("something of a library that is loaded here", "Load the library inside the task.")
_QUEUE = _Kind(
    "a queue of this process",
    "Pass values as arguments and results of tasks instead.",
    "Return what is in it as a list instead.",
)
_HANDLER = _Kind(
    "a handler of log records", "Take the logger instead: logging.getLogger(...) inside the task."
)
_NODE = _Kind(
    "a node, whose value is not computed yet",
    "Pass it as an argument of the task, which then gets its value.",
    "Pass it as an argument of the task, which then gets its value to return.",
)
_LOCAL = _Kind("something that each thread has for itself", "Make it inside the task.")
_WINDOW = _Kind(
    "a part of a window or page",
    "Keep it where it is, and pass what it holds: plain data.",
    "Return what it holds instead: plain data.",
)
_WEAK = _Kind(
    "a weak reference",
    "Hold the object itself, or look it up inside the task.",
    "Return the object itself instead.",
)
_BUILTIN_ITERATORS = ("generator", "coroutine", "async_generator")

_KINDS: dict[str, _Kind] = {
    "sqlite3.Connection": _CONNECTION,
    "sqlite3.Cursor": _CONNECTION,
    "socket.socket": _CONNECTION,
    "_socket.socket": _CONNECTION,
    "ssl.SSLContext": _CONNECTION,
    "tempfile._TemporaryFileWrapper": _FILE,
    "mmap.mmap": _FILE,
    "zipfile.ZipFile": _FILE,
    "_thread.lock": _LOCK,
    "_thread.RLock": _LOCK,
    "threading.Condition": _LOCK,
    "threading.Event": _LOCK,
    "threading.Semaphore": _LOCK,
    "threading.Barrier": _LOCK,
    "threading.Thread": _ACTIVITY,
    "subprocess.Popen": _ACTIVITY,
    "concurrent.futures._base.Executor": _ACTIVITY,
    "concurrent.futures._base.Future": _ACTIVITY,
    "multiprocessing.process.BaseProcess": _ACTIVITY,
    "multiprocessing.pool.Pool": _ACTIVITY,
    "asyncio.events.AbstractEventLoop": _ACTIVITY,
    "_asyncio.Future": _ACTIVITY,
    "queue.Queue": _QUEUE,
    "_queue.SimpleQueue": _QUEUE,
    "multiprocessing.queues.Queue": _QUEUE,
    "asyncio.queues.Queue": _QUEUE,
    "ctypes.CDLL": _POINTER,
    "_ctypes._Pointer": _POINTER,
    "_ctypes.CFuncPtr": _POINTER,
    "_ctypes._SimpleCData": _POINTER,
    "logging.Handler": _HANDLER,
    "dagnb.graph.node.Node": _NODE,
    "_thread._local": _LOCAL,
    "_contextvars.ContextVar": _LOCAL,
    "tkinter.Misc": _WINDOW,
    "ipywidgets.widgets.widget.Widget": _WINDOW,
    "weakref.ReferenceType": _WEAK,
    **{f"builtins.{name}": _ONCE for name in _BUILTIN_ITERATORS},
}
"""full name of a class -> what its instances are; names, because most programs never import these modules"""
