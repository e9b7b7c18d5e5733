"""Finds the part of an object that cannot be pickled, its place, and the cure for its kind.

The culprit is the last object that the pickler looked at before it failed. A walk over the parts of
functions, classes, containers and objects then finds the shortest path to it, as in "`conn` in
`g`". Of an object of a known kind on that path, the outermost is named: a thread, not the lock
inside it. Both run only after pickling has failed.
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

# Limit of objects visited in the search for the path to one of them.
_MOST = 200_000

# Types that can be pickled and have no parts to search.
_PLAIN = frozenset({str, bytes, int, float, bool, complex, type(None), CodeType, ModuleType})


@dataclass(frozen=True, slots=True)
class Blame:
    """The reason why an object cannot be pickled, naming the part by its path, and the cure.

    result_cure: the cure for a task that returns it; '' where only the general one fits.
    """

    reason: str
    cure: str = ""
    result_cure: str = ""


@dataclass(frozen=True, slots=True)
class _Step:
    """One step of a path.

    own: the text is a name of its own, such as that of a global; otherwise it extends the step
    before, as `.x` does.
    """

    text: str
    own: bool = False


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of object that cannot be pickled.

    words: its name. cure: for one that is passed to a task. result_cure: for one that a task
    returns.
    """

    words: str
    cure: str
    result_cure: str = ""


def blame(
    value: object,
    reason: str,
    *,
    root: str = "",
    user: str = "",
    apart: type | tuple[()] = (),
) -> Blame:
    """Find the part of a value at which pickling failed; the reason alone where none is found.

    reason: the error of pickling. root: the name of the value, '' for a function whose globals are
    named.
    user: the task whose function the value is, for "used by task". apart: objects of this class are
    pickled elsewhere, and not searched.
    """
    culprit = _last_visited(value, apart)
    way = _way(value, culprit) if culprit is not None else None
    if not way:  # the value itself, or something that only the pickler can reach
        kind = _kind_of(value)
        return Blame(reason) if kind is None else Blame(reason, kind.cure, kind.result_cure)

    way, kind = _outermost_known(way)
    subject = f"`{_path(root, [step for step, _ in way])}`"
    if user:
        subject += f", used by task {user!r},"
    _, part = way[-1]
    name = _type_name(part)
    if kind is None:
        return Blame(f"{subject} is of type {name}: {reason}")
    return Blame(f"{subject} is {kind.words} ({name})", kind.cure, kind.result_cure)


class _Nowhere:
    """A file that discards what is written to it."""

    def write(self, data: Any) -> int:
        """Returns the length, as files do."""
        return len(data)


class _Tracer(ByValuePickler):
    """Remembers the last object that it was asked about."""

    last: Any = None
    apart: type | tuple[()] = ()

    def persistent_id(self, item: Any) -> object:
        """Returns a name for objects that are not pickled here."""
        return "apart" if isinstance(item, self.apart) else None

    def reducer_override(self, item: Any) -> Any:
        """Note the object, and pickle it by value."""
        self.last = item
        return super().reducer_override(item)


def _last_visited(value: object, apart: type | tuple[()]) -> Any:
    """Returns the object at which pickling fails; None if it does not, or fails for its depth."""
    tracer = _Tracer(_Nowhere(), protocol=5, buffer_callback=lambda buffer: None)
    tracer.files, tracer.apart = set(), apart
    try:
        tracer.dump(value)
    # Pickling runs the user's code, which may raise anything, also SystemExit.
    except BaseException as error:  # noqa: BLE001  # as above
        # Nested too deep, no single part is the cause.
        return None if isinstance(error.__cause__, RecursionError) else tracer.last
    return None


_Way = list[tuple[_Step, Any]]


def _way(start: object, wanted: object) -> _Way | None:
    """Returns the shortest path from an object to a part of it: steps with what they lead to.

    None if there is none among the first _MOST objects. Breadth first.
    """
    if start is wanted:
        return []
    reached_from: dict[int, tuple[int, _Step, Any]] = {}  # id -> id of its holder, step, object
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
            reached_from[id(part)] = (id(holder), step, part)
            if part is wanted:
                return _trace_back(reached_from, id(part))
            waiting.append(part)
    return None


def _trace_back(reached_from: Mapping[int, tuple[int, _Step, Any]], end: int) -> _Way:
    way: _Way = []
    while end in reached_from:
        end, step, part = reached_from[end]
        way.append((step, part))
    return way[::-1]


def _parts(thing: Any) -> Iterable[tuple[_Step, Any]]:
    """Returns the parts of an object that pickling by value would pickle next."""
    if isinstance(thing, FunctionType):
        return _parts_of_function(thing)
    if isinstance(thing, type):
        return _parts_of_class(thing)
    return _parts_of_object(thing)


def _parts_of_function(function: FunctionType) -> Iterator[tuple[_Step, Any]]:
    # Pickling by value takes of the globals only those that the code names.
    names, _ = names_and_texts(function.__code__)
    for name in sorted(names & function.__globals__.keys()):
        yield _Step(name, own=True), function.__globals__[name]
    for name, cell in zip(
        function.__code__.co_freevars,
        function.__closure__ or (),
        strict=False,
    ):
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
    if kind.__module__ == "builtins":  # importable everywhere
        return
    for name, value in vars(kind).items():
        yield _Step(f".{name}"), value
    for base in kind.__bases__:
        yield _Step(base.__name__, own=True), base


def _parts_of_object(thing: Any) -> Iterator[tuple[_Step, Any]]:
    # Copies, as another thread may change a container meanwhile.
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


# Attributes of methods, partials, properties and the like, which have no dictionary.
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


def _attributes(thing: Any) -> Iterator[tuple[str, Any]]:
    held = getattr(thing, "__dict__", None)
    if isinstance(held, dict):
        yield from list(held.items())

    names: list[str] = []
    for kind in type(thing).__mro__:
        names += _slots(kind)
    if _is_holder(thing):
        names += _HOLDERS
    for name in names:
        # Statically first: the user's __getattr__ must not run for names that are not there.
        if inspect.getattr_static(thing, name, None) is not None:
            yield name, getattr(thing, name, None)


def _slots(kind: type) -> Iterable[str]:
    slots = vars(kind).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else slots


_HOLDER_KINDS = (
    MethodType,
    functools.partial,
    property,
    classmethod,
    staticmethod,
)


def _is_holder(thing: Any) -> bool:
    # By the module's name: this file cannot import task.py, which imports this file.
    is_wrapper = type(thing).__module__ in {"functools", "dagnb.graph.task"}
    return is_wrapper or isinstance(thing, _HOLDER_KINDS)


def _outermost_known(way: _Way) -> tuple[_Way, _Kind | None]:
    """Returns the path up to the first object of a known kind, and that kind."""
    for i, (_, part) in enumerate(way):
        if (kind := _kind_of(part)) is not None:
            return way[: i + 1], kind
    return way, None


def _path(root: str, steps: Iterable[_Step]) -> str:
    """Returns "conn` in `g" for the global conn of the function g that the root uses."""
    scopes = [root] if root else []
    for step in steps:
        if step.text in _SEEN_THROUGH:
            continue
        if step.own:
            scopes.append(step.text)
        elif scopes:
            scopes[-1] += step.text
        else:  # an attribute of a root without a name
            scopes.append(step.text.lstrip("."))
    return "` in `".join(reversed(scopes))


# Steps from a decorated function to the original, which has the same name, so paths omit them.
_SEEN_THROUGH = {".__wrapped__", ".__func__"}


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
    # There are too many database drivers to list, but their classes have similar names.
    is_connection = type(thing).__name__.lower().endswith(("connection", "cursor"))
    return _CONNECTION if is_connection else None


_CONNECTION = _Kind(
    "an open connection",
    "Open it inside the task, and pass what opens it: a path, a URL.",
)
_FILE = _Kind("an open file", "Open it inside the task, and pass its path.")
_LOCK = _Kind(
    "a lock",
    "It guards threads of one process, and a task has another one: "
    "make it inside the task, or leave it out.",
)
_ACTIVITY = _Kind("an activity of this process", "Start it inside the task.")
_ONCE = _Kind(
    "an iterator that can be read only once",
    "Make it inside the task, or pass a list of what it gives.",
    "Return a list of what it gives instead.",
)
_POINTER = _Kind(
    "an object of a loaded C library",
    "Load the library inside the task.",
)
_QUEUE = _Kind(
    "a queue of this process",
    "Pass values as arguments and results of tasks instead.",
    "Return what is in it as a list instead.",
)
_HANDLER = _Kind(
    "a handler of log records",
    "Take the logger instead: logging.getLogger(...) inside the task.",
)
_NODE = _Kind(
    "a node, whose value is not computed yet",
    "Pass it as an argument of the task, which then gets its value.",
    "Pass it as an argument of the task, which then gets its value to return.",
)
_LOCAL = _Kind("a thread-local or context variable", "Make it inside the task.")
_WINDOW = _Kind(
    "a widget of this process",
    "Keep it where it is, and pass what it holds: plain data.",
    "Return what it holds instead: plain data.",
)
_WEAK = _Kind(
    "a weak reference",
    "Hold the object itself, or look it up inside the task.",
    "Return the object itself instead.",
)

# full name of a class -> the kind of its instances.
#
# By name, because most programs never import these modules.
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
    "dagnb.graph.task.Node": _NODE,
    "_thread._local": _LOCAL,
    "_contextvars.ContextVar": _LOCAL,
    "tkinter.Misc": _WINDOW,
    "ipywidgets.widgets.widget.Widget": _WINDOW,
    "weakref.ReferenceType": _WEAK,
    "builtins.generator": _ONCE,
    "builtins.coroutine": _ONCE,
    "builtins.async_generator": _ONCE,
}
