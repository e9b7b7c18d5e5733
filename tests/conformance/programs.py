"""Random programs: what a notebook builds before it runs. Data first, so that each launcher gets
values of its own.
"""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import fractions
import functools
import math
import operator
import pathlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from hypothesis import strategies as st

from dagnb.graph.task import Node

MOST_CALLS = 9
LARGE = 40_000
"""bytes of a value that travels as shared content"""

Spec = tuple[Any, ...]
"""A value before it is made: its kind, then what it is made of"""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of a task. function: its name in the cell. arguments: specs, ('node', i) for that of
    an earlier call.
    """

    function: str
    arguments: tuple[Spec, ...] = ()
    named: tuple[tuple[str, Spec], ...] = ()
    retries: int = 0


@dataclass(frozen=True, kw_only=True)
class Program:
    """Calls in order. changed: numbers of shared values that are changed between the calls and the
    run.
    """

    calls: tuple[Call, ...]
    changed: tuple[int, ...] = ()


@dataclass
class Built:
    """A program as nodes. shared: the values that stand in several places, by number."""

    nodes: list[Node[Any]] = field(default_factory=list)
    shared: dict[int, Any] = field(default_factory=dict)


def built(
    program: Program, cell: ModuleType, called: Callable[[Node[Any]], None] = lambda node: None
) -> Built:
    """Fresh nodes and values; then what the program changes is changed. called: told of each node
    once it is made.
    """
    made = Built()
    for call in program.calls:
        task = getattr(cell, call.function)
        if call.retries:
            task = task.with_options(retries=call.retries, backoff_s=0.0)
        arguments = [value(spec, cell, made) for spec in call.arguments]
        named = {name: value(spec, cell, made) for name, spec in call.named}
        node = task(*arguments, **named)
        made.nodes.append(node)
        called(node)
    for number in program.changed:
        if number in made.shared:
            cell.changed(made.shared[number])
    return made


def value(spec: Spec, cell: ModuleType, made: Built) -> Any:
    """What the spec stands for, made anew."""
    kind, *parts = spec
    if kind == "plain":
        return parts[0]
    if kind == "node":
        return made.nodes[parts[0]]
    if kind == "shared":
        if parts[0] not in made.shared:
            made.shared[parts[0]] = value(parts[1], cell, made)
        return made.shared[parts[0]]
    if kind in MADE:
        return MADE[kind]()
    if kind == "given":
        return cell.GIVEN[parts[0]]()
    if kind == "pairs":
        keys = [part for part, _ in parts[1]]
        values = [value(held, cell, made) for _, held in parts[1]]
        return HOLDERS[parts[0]](dict(zip(keys, values, strict=True)))
    items = [value(part, cell, made) for part in parts[1:]]
    if parts[0] in HOLDERS:
        return HOLDERS[parts[0]](items)
    return getattr(cell, parts[0])(*items)


HOLDERS: dict[str, Callable[[Any], Any]] = {
    "list": list,
    "tuple": tuple,
    "deque": lambda items: collections.deque(items, maxlen=4),
    "dict": dict,
    "Counter": lambda pairs: collections.Counter(dict.fromkeys(pairs, 2)),
    "OrderedDict": collections.OrderedDict,
    "defaultdict": lambda pairs: collections.defaultdict(list, pairs),
    "UserDict": collections.UserDict,
}

MADE: dict[str, Callable[[], Any]] = {
    "huge integer": lambda: -(10**5000),
    "long range": lambda: range(0, 10**20, 3),
    "large bytes": lambda: b"b" * LARGE,
    "large bytearray": lambda: bytearray(LARGE),
    "large text": lambda: "t" * LARGE,
    "fraction": lambda: fractions.Fraction(10**30, 7),
    "decimal": lambda: decimal.Decimal("-0.10"),
    "moment": lambda: dt.datetime(2024, 2, 29, 12, tzinfo=dt.timezone(dt.timedelta(hours=5.5))),
    "path": lambda: pathlib.PurePosixPath("some/where"),
    "slice": lambda: slice(1, None, 2),
    "bytearray": lambda: bytearray(b"abc"),
    "partial": lambda: functools.partial(operator.add, [1]),
    "small array": lambda: _arange(5),
    "large array": lambda: _arange(LARGE // 8),
    "matrix": lambda: _arange(6).reshape(2, 3).T,
    "scalar of numpy": lambda: _arange(3)[2],
    "array of no dimension": lambda: _arange(1).sum(keepdims=False).reshape(()),
    "records": lambda: _arange(3).view([("a", "f4"), ("b", "f4")]),
    "array of objects": lambda: _arange(3).astype(object),
}


def _arange(n: int) -> Any:
    import numpy as np

    return np.arange(float(n))


# ---- strategies ----

_TEXT = st.text(st.characters(codec=None), max_size=4) | st.sampled_from(
    ["", "\ud800", "a\0b", "naïve", "\u2028"]
)
_PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.sampled_from([2**64, -(2**63) - 1]),
    st.floats(allow_nan=False),
    st.sampled_from([math.nan, math.inf, -math.inf, -0.0]),
    _TEXT,
    st.binary(max_size=4),
    st.sampled_from(
        [range(0, 10, 3), complex(0.0, -0.0), int, KeyError, len, Ellipsis, NotImplemented]
    ),
    st.frozensets(st.integers(0, 3) | _TEXT, max_size=3),
)
_KEYS = st.one_of(st.integers(0, 4), _TEXT, st.sampled_from([(1, "a"), None, 1.5]))
_ARRAYS = (
    "small array",
    "large array",
    "matrix",
    "array of objects",
    "scalar of numpy",
    "array of no dimension",
    "records",
)
_READABLE = (
    *(
        "loop",
        "closure",
        "lambda",
        "class",
        "instance",
        "function",
        "partial",
        "builtin",
        "shared",
        "deque",
        "method",
    ),
    *(
        "recursive",
        "flags",
        "made",
        "keyed",
        "module",
        "logger",
        "namespace",
        "chain map",
        "pattern",
        "alias",
        "error",
    ),
)
_LAME = ("no way back", "odd exception", "inside a list", "quitter")
_UNGIVEN = ("lock", "generator", "no way out")
RAISED = (
    *(
        "plain",
        "key",
        "system",
        "odd",
        "mute",
        "group",
        "base group",
        "cause",
        "context",
        "note",
        "stop",
        "stop async",
    ),
    *(
        "exit",
        "exit text",
        "interrupt",
        "cancelled",
        "generator exit",
        "unicode",
        "assertion",
        "zero",
        "class",
    ),
    *("no exception", "surrogate", "ours"),
)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What programs may hold. arrays: of numpy."""

    arrays: bool = True

    def some(self, kinds: Iterable[str]) -> st.SearchStrategy[str]:
        """One of these that programs may hold."""
        return st.sampled_from([kind for kind in kinds if self.arrays or kind not in _ARRAYS])


@st.composite
def programs(draw: st.DrawFn, choice: Choice = Choice()) -> Program:  # frozen
    """A DAG of calls with their values, some of them shared between arguments and calls."""
    shared = [("shared", i, draw(_changeable(choice))) for i in range(draw(st.integers(0, 2)))]
    calls = [
        draw(_calls(choice, tuple(shared), i)) for i in range(draw(st.integers(2, MOST_CALLS)))
    ]
    # One argument that cannot travel refuses the whole program, so it is rare.
    if draw(st.integers(0, 29)) == 17:
        calls.append(Call(function="look", arguments=(("given", draw(st.sampled_from(_UNGIVEN))),)))
    changed = draw(st.sets(st.integers(0, 1))) if shared else set()
    return Program(calls=tuple(calls), changed=tuple(sorted(changed)))


@st.composite
def _calls(draw: st.DrawFn, choice: Choice, shared: tuple[Spec, ...], n_before: int) -> Call:
    nodes = st.integers(max(0, n_before - 4), max(0, n_before - 1)).map(lambda i: ("node", i))
    own = st.sampled_from(shared) if shared else _values(choice, ())
    some = st.one_of(
        _values(choice, shared),
        own,
        *([nodes, nodes] if n_before else []),
        *([_held(nodes)] if n_before else []),
    )
    function = draw(st.sampled_from(_FUNCTIONS))
    arguments = draw(st.lists(some, max_size=3))
    retries = draw(st.sampled_from((0, 0, 0, 1, 2)))
    lead: list[Spec] = []
    if function == "flaky":
        lead = [("plain", draw(st.integers(0, 2)))]
    elif function == "fail":
        lead = [("plain", draw(st.sampled_from(RAISED)))]
    elif function == "give":
        lead = [
            (
                "plain",
                draw(st.sampled_from((*_READABLE, *_LAME, *_UNGIVEN, "jumper", "none", "large"))),
            )
        ]
    elif function == "call":
        lead = [
            (
                "given",
                draw(
                    st.sampled_from(
                        ("closure", "lambda", "function", "class", "method", "recursive")
                    )
                ),
            )
        ]
    named = {"key": draw(some)} if function == "look" and draw(st.booleans()) else {}
    return Call(
        function=function,
        arguments=(*lead, *arguments),
        named=tuple(named.items()),
        retries=retries,
    )


_FUNCTIONS = (
    *("look", "look", "keep", "first", "change", "change", "change_and_look", "change_and_look"),
    *("say", "within", "call", "wait", "give", "give", "flaky", "fail"),
)


def _changeable(choice: Choice) -> st.SearchStrategy[Spec]:
    """Values that two arguments or calls may share, and that can be changed in place."""
    inner = _values(choice, ())
    return st.one_of(
        st.builds(lambda one: ("items", "list", one), inner),
        st.builds(lambda one: ("items", "tuple", ("items", "list", one)), inner),
        st.builds(lambda one: ("items", "Card", ("items", "list", one)), inner),
        st.builds(lambda key, one: ("pairs", "dict", ((key, one),)), _KEYS, inner),
        choice.some(("large bytearray", "large array", "loop")).map(
            lambda kind: ("given", kind) if kind == "loop" else (kind,)
        ),
    )


def _held(nodes: st.SearchStrategy[Spec]) -> st.SearchStrategy[Spec]:
    """Containers in which dagnb looks for nodes."""
    return st.one_of(
        st.builds(lambda node: ("items", "list", node, ("plain", 1), node), nodes),
        st.builds(lambda node: ("items", "tuple", node), nodes),
        st.builds(lambda node: ("items", "Pair", node, ("plain", 2)), nodes),
        st.builds(lambda node: ("items", "Card", node), nodes),
        st.builds(lambda node: ("items", "Frozen", node), nodes),
        st.builds(lambda node, key: ("pairs", "dict", ((key, node),)), nodes, _KEYS),
    )


def _values(choice: Choice, shared: tuple[Spec, ...]) -> st.SearchStrategy[Spec]:
    ends = [
        st.builds(lambda plain: ("plain", plain), _PLAIN),
        choice.some(MADE).map(lambda kind: (kind,)),
        choice.some(_READABLE).map(lambda name: ("given", name)),
        st.just(("items", "Colour", ("plain", 1))),
        *([st.sampled_from(shared)] * 2 if shared else []),
    ]
    few = st.sampled_from(_LAME).map(lambda name: ("given", name))
    return st.recursive(
        st.one_of(*ends, *ends, *ends, few)
        if shared
        else st.one_of(*ends),  # shared ones go to many calls
        lambda inner: st.one_of(
            st.builds(
                lambda kind, items: ("items", kind, *items),
                choice.some(("list", "list", "tuple", "deque", "Bag")),
                st.lists(inner, max_size=3),
            ).map(
                lambda spec: (
                    ("items", "Bag", ("items", "list", *spec[2:])) if spec[1] == "Bag" else spec
                )
            ),
            st.builds(
                lambda kind, pairs: ("pairs", kind, tuple(pairs.items())),
                st.sampled_from(
                    ("dict", "dict", "Counter", "OrderedDict", "defaultdict", "UserDict")
                ),
                st.dictionaries(_KEYS, inner, max_size=3),
            ),
            st.builds(
                lambda kind, one: ("items", kind, one),
                choice.some(("Box", "Card", "Frozen", "Slim")),
                inner,
            ),
            st.builds(lambda one, other: ("items", "Pair", one, other), inner, inner),
        ),
        max_leaves=5,
    )
