"""Code as it is written in notebooks: executed as `__main__` by the test of placement, never
imported by workers.

Only the standard library is imported at the top, because containers of these tests have no other
packages.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import enum
import functools
import logging
import operator
import re
import threading
import types
from typing import Any, NamedTuple

import dagnb
from dagnb import task

# ---- values ----


class Box:
    """A class of the notebook with attributes."""

    def __init__(self, content: Any) -> None:
        self.content = content

    def opened(self, *values: Any) -> Any:
        """A method that may be passed around."""
        return [self.content, *values]


class Tint(enum.Flag):
    """Flags of the notebook, to be combined."""

    LIGHT = 1
    DARK = 2


class Meta(type):
    """A metaclass of the notebook."""

    def __call__(cls, *args: Any) -> Any:
        made = super().__call__(*args)
        made.made_by = cls.__name__
        return made


class Made(metaclass=Meta):
    """A class that it makes, and whose objects have more than their constructor gives."""


class Keyed(dict):  # type: ignore[type-arg]
    """A dictionary whose constructor takes something else."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name)
        self.name = name


class Colour(enum.Enum):
    """An enumeration of the notebook."""

    RED = 1
    BLUE = (2, "b")


class Pair(NamedTuple):
    """A named tuple of the notebook."""

    left: Any
    right: Any


@dataclasses.dataclass
class Card:
    """A dataclass whose field may hold a node."""

    content: Any
    note: str = "plain"


@dataclasses.dataclass(frozen=True)
class Frozen:
    """A frozen one."""

    content: Any


@dataclasses.dataclass(slots=True)
class Slim:
    """One with slots."""

    content: Any


class Bag(list):  # type: ignore[type-arg]
    """A subclass of a container, with an attribute."""

    label = "none"


class NoWayOut:
    """It cannot be pickled: that raises an error of its own."""

    def __reduce__(self) -> Any:
        raise ValueError("it does not go")


class Jumper:
    """Pickling it raises what is no Exception."""

    def __reduce__(self) -> Any:
        raise KeyboardInterrupt("pickled")


class NoWayBack:
    """It can be pickled, and unpickling it raises an error of its own."""

    def __init__(self) -> None:
        self.size = 3

    def __setstate__(self, state: Any) -> None:
        raise ValueError("it does not come back")


class Quitter(NoWayBack):
    """Unpickling it raises what is no Exception."""

    def __setstate__(self, state: Any) -> None:
        raise SystemExit("unpickled")


class Odd(Exception):  # noqa: N818  # as somebody may call it
    """An exception whose constructor takes other arguments than `args` holds, so its pickle cannot
    be read.
    """

    def __init__(self, code: int, body: str) -> None:
        super().__init__(f"{code}: {body}")
        self.code = code


class Mute(Exception):  # noqa: N818  # as somebody may call it
    """An exception whose message raises."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def double(value: Any) -> Any:
    """A helper that tasks call, or are given."""
    return [value, value]


def countdown(values: Any) -> Any:
    """A function that finds itself among its globals."""
    return [*values[:1], *countdown(values[1:])] if values else []


def adder(step: int) -> Any:
    """A closure."""

    def add(value: Any) -> Any:
        return (step, told(value))

    return add


def looped() -> list[Any]:
    """A list that holds itself, and a dictionary that holds the list."""
    loop: list[Any] = [1]
    loop.extend([loop, {"loop": loop}])
    return loop


GIVEN = {
    "lock": threading.Lock,
    "generator": lambda: (number for number in range(3)),
    "no way out": NoWayOut,
    "jumper": Jumper,
    "no way back": NoWayBack,
    "quitter": Quitter,
    "odd exception": lambda: Odd(404, "nope"),
    "inside a list": lambda: [1, {"deep": NoWayBack()}],
    "loop": looped,
    "closure": lambda: adder(3),
    "lambda": lambda: lambda value: (value, "lambda"),
    "class": lambda: Box,
    "instance": lambda: Box([1, Colour.BLUE]),
    "function": lambda: double,
    "partial": lambda: functools.partial(double, 4),
    "builtin": lambda: operator.neg,
    "method": lambda: Box([5]).opened,
    "recursive": lambda: countdown,
    "flags": lambda: Tint.LIGHT | Tint.DARK,
    "made": Made,
    "keyed": lambda: Keyed("n"),
    "module": lambda: operator,
    "logger": lambda: logging.getLogger("mine"),
    "namespace": lambda: types.SimpleNamespace(one=[1], two=None),
    "chain map": lambda: collections.ChainMap({1: []}, {2: 3}),
    "pattern": lambda: re.compile("a+", re.IGNORECASE),
    "alias": lambda: dict[str, Box],
    "error": lambda: ValueError("a value", [1]),
    "none": lambda: None,
    "large": lambda: bytearray(b"large") * 60_000,
    "shared": lambda: [[[]] * 2, {}],
    "deque": lambda: collections.deque([[]], maxlen=2),
}
"""What a task may give by name; some of it cannot be pickled, some cannot be read"""

UNREADABLE = ("no way back", "quitter", "odd exception", "inside a list")

# ---- telling ----


def told(value: Any, seen: dict[int, Any] | None = None) -> str:  # noqa: C901, PLR0911, PLR0912  # a line a kind
    """Type, content and sharing of a value as text: equal texts for values that nobody can tell
    apart.
    """
    seen = {} if seen is None else seen
    kind = type(value).__qualname__
    if value is None or isinstance(value, bool | float | complex | range | slice):
        return repr(value)
    if type(value) is int:
        return hex(value)  # a large one has no decimal digits by default
    if isinstance(value, str):
        return ascii(value)
    if isinstance(value, enum.Enum | bytes):
        return f"{kind} {value!r}"
    if isinstance(value, types.FunctionType):
        cells = [told(cell.cell_contents, seen) for cell in value.__closure__ or ()]
        return f"function {value.__qualname__} {told(value.__defaults__, seen)} {cells}"
    if isinstance(value, types.ModuleType | logging.Logger):
        return f"{kind} {getattr(value, 'name', getattr(value, '__name__', ''))}"
    if isinstance(value, types.MethodType):
        return f"method {value.__name__} of {told(value.__self__, seen)}"
    if isinstance(value, types.GenericAlias):
        return repr(value)
    if isinstance(value, type | types.BuiltinFunctionType):
        return f"{value.__qualname__}"
    if isinstance(value, set | frozenset):
        return f"{kind} {sorted(told(item) for item in value)}"
    if isinstance(value, tuple):
        return f"{kind}({', '.join(told(item, seen) for item in value)})"
    if id(value) in seen:
        return f"#{list(seen).index(id(value))}"
    seen[id(value)] = value
    return f"{kind}<{_inside(value, seen)}>"


def _inside(value: Any, seen: dict[int, Any]) -> str:
    parts = []
    if isinstance(value, bytearray):
        parts.append(repr(bytes(value[:8])) + str(len(value)) + str(sum(value)))
    elif type(value).__name__ == "ndarray":
        parts.append(
            f"{value.dtype} {value.shape} {value.flags.writeable} {value.tolist()[:9]} {value.tolist()[9:][-9:]}"
        )
    elif isinstance(value, functools.partial):
        parts.append(told((value.func, value.args, value.keywords), seen))
    elif isinstance(value, dict):
        parts += [f"{told(key, seen)}: {told(held, seen)}" for key, held in value.items()]
        parts.append(told(getattr(value, "default_factory", None)))
    elif isinstance(value, list | collections.deque):
        parts += [told(item, seen) for item in value]
        parts.append(told(getattr(value, "maxlen", None)))
    elif isinstance(value, BaseException):
        parts.append(told(value.args, seen))
    if hasattr(value, "__dict__"):
        parts.append(told(vars(value), seen))
    elif dataclasses.is_dataclass(value):
        parts += [
            f"{field.name}={told(getattr(value, field.name), seen)}"
            for field in dataclasses.fields(value)
        ]
    elif not parts:
        parts.append(repr(value))  # Fraction, Decimal, datetime, Path
    return ", ".join(parts)


def changed(value: Any) -> None:
    """Change it in place, where that can be; of a tuple or a box what it holds."""
    if isinstance(value, dict):
        value["changed"] = len(value)
    elif isinstance(value, list | bytearray | collections.deque):
        value.append(len(value) % 256)
    elif isinstance(value, set):
        value.add("changed")
    elif type(value).__name__ == "ndarray":
        value.flat[0] = 1 if value.flat[0] != 1 else 2
    elif isinstance(value, tuple):
        for item in value:
            changed(item)
    elif isinstance(value, collections.UserDict):
        changed(value.data)
    elif isinstance(value, Box | Card | Frozen | Slim):
        changed(value.content)


# ---- tasks ----


@task
def look(*values: Any, **named: Any) -> str:
    """What it sees of its arguments."""
    return told((values, named))


@task
def keep(*values: Any) -> Any:
    """All of them, as it got them."""
    return list(values)


@task
def first(value: Any = None, *others: Any) -> Any:
    """The argument itself."""
    return value


@task
def change(value: Any = None, *others: Any) -> Any:
    """The argument itself, changed in place."""
    changed(value)
    return value


@task
def change_and_look(value: Any = None, *others: Any) -> str:
    """Something else, after all arguments were changed in place."""
    changed(value)
    for other in others:
        changed(other)
    return told((value, others))


@task
def say(value: Any = None, *others: Any) -> Any:
    """Print, then give its last argument."""
    print("said", len(told(value)))  # noqa: T201  # what a task prints
    return others[-1] if others else value


@task
def within(value: Any = None, *others: Any) -> Any:
    """Call tasks and a helper as functions: an ordinary call."""
    return [first(value), look(*others), double(1), keep(value)]


@task
def call(function: Any = None, *values: Any) -> Any:
    """Call what it is given."""
    return function(values)


@task
async def wait(value: Any = None, *others: Any) -> Any:
    """A coroutine."""
    await asyncio.sleep(0)
    return (value, len(others))


@task
def give(name: str, *others: Any) -> Any:
    """Something by name."""
    return GIVEN[name]()


@task
def flaky(n: int, value: Any = None, *others: Any) -> Any:
    """Change the argument and fail, in so many first attempts; then give it as it came."""
    if dagnb.context().attempt <= n:
        changed(value)
        raise ConnectionError(f"attempt {dagnb.context().attempt}: {told(value)[-50:]}")
    return value


@task
def fail(how: str, *others: Any) -> None:
    """Raise something by name."""
    RAISED[how]()


def _raise(error: Any) -> None:
    raise error


def _from_another() -> None:
    try:
        {}["left"]  # it is there to raise
    except KeyError as error:
        raise LookupError("from another") from error


def _while_handling() -> None:
    try:
        _from_another()
    except LookupError:
        raise Odd(500, "while handling")  # noqa: B904  # a context and no cause


def _noted() -> None:
    error = ValueError("with a note")
    error.add_note("note 1")
    raise error


RAISED = {
    "plain": lambda: _raise(ValueError("plain")),
    "key": lambda: _raise(KeyError("left")),
    "system": lambda: _raise(OSError(2, "not there", "/file")),
    "odd": lambda: _raise(Odd(404, "nope")),
    "mute": lambda: _raise(Mute("x")),
    "group": lambda: _raise(
        ExceptionGroup("many", [ValueError("one"), ExceptionGroup("more", [Odd(1, "two")])])
    ),
    "base group": lambda: _raise(BaseExceptionGroup("many", [KeyboardInterrupt("one")])),
    "cause": _from_another,
    "context": _while_handling,
    "note": _noted,
    "stop": lambda: _raise(StopIteration("stop")),
    "stop async": lambda: _raise(StopAsyncIteration("stop")),
    "exit": lambda: _raise(SystemExit(3)),
    "exit text": lambda: _raise(SystemExit("bye")),
    "interrupt": lambda: _raise(KeyboardInterrupt("own")),
    "cancelled": lambda: _raise(asyncio.CancelledError("own")),
    "generator exit": lambda: _raise(GeneratorExit("own")),
    "unicode": "\ud800".encode,
    "assertion": lambda: _raise(AssertionError),
    "zero": lambda: 1 // 0,
    "class": lambda: _raise(LookupError),
    "no exception": lambda: _raise("text"),
    "surrogate": lambda: _raise(ValueError("half \ud800")),
    "ours": lambda: _raise(dagnb.errors.GraphError("raised by a task")),
}
