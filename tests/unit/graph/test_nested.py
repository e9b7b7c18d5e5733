"""The walk over nested arguments."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest

from dagnb.errors import GraphError
from dagnb.graph import nested


class Leaf:
    """What the walk looks for here; hashable by identity, like a node."""

    def __init__(self, name: str = "x") -> None:
        self.name = name


Point = namedtuple("Point", "x y")


class Typed(NamedTuple):
    left: Any
    right: Any = 7


@dataclass
class Plain:
    value: Any
    note: str = "kept"


@dataclass(frozen=True)
class Frozen:
    value: Any
    note: str = "kept"


@dataclass(frozen=True, slots=True)
class Slotted:
    value: Any
    note: str = "kept"


@dataclass
class Derived:
    value: Any
    half: float = field(init=False, default=0.5)


@dataclass
class Lazy:
    value: Any
    later: int = field(init=False)


class Tags(list[Any]):
    """A user's own kind of list."""


CONTAINERS: dict[str, Callable[[Any], Any]] = {
    "list": lambda leaf: [1, leaf],
    "tuple": lambda leaf: (1, leaf),
    "own list": lambda leaf: Tags([1, leaf]),
    "set": lambda leaf: {1, leaf},
    "frozenset": lambda leaf: frozenset({1, leaf}),
    "namedtuple": lambda leaf: Point(1, leaf),
    "typed namedtuple": Typed,
    "dict value": lambda leaf: {"k": leaf, "n": 1},
    "dict key": lambda leaf: {leaf: "v", "n": 1},
    "ordered dict": lambda leaf: OrderedDict(a=1, b=leaf),
    "dataclass": Plain,
    "frozen dataclass": Frozen,
    "slotted dataclass": Slotted,
    "dataclass with derived field": Derived,
}


@pytest.mark.parametrize("make", CONTAINERS.values(), ids=CONTAINERS)
def test_a_leaf_is_found_in_every_kind_of_container(make: Callable[[Any], Any]) -> None:
    leaf = Leaf()

    assert nested.leaves(make(leaf), Leaf) == [leaf]


@pytest.mark.parametrize("make", CONTAINERS.values(), ids=CONTAINERS)
def test_a_leaf_is_replaced_in_every_kind_of_container_and_all_else_is_kept(make: Callable[[Any], Any]) -> None:
    before = make(Leaf())

    after = nested.rebuild(before, Leaf, lambda leaf: leaf.name)

    assert after == make("x")
    assert type(after) is type(before)


@pytest.mark.parametrize("make", CONTAINERS.values(), ids=CONTAINERS)
def test_the_original_is_not_changed_by_a_rebuild(make: Callable[[Any], Any]) -> None:
    leaf = Leaf()
    before = make(leaf)

    nested.rebuild(before, Leaf, lambda _: "other")

    assert nested.leaves(before, Leaf) == [leaf]


@pytest.mark.parametrize("make", CONTAINERS.values(), ids=CONTAINERS)
def test_a_container_without_a_leaf_is_shared_and_not_copied(make: Callable[[Any], Any]) -> None:
    value = [make("no leaf")]

    assert nested.rebuild(value, Leaf, lambda leaf: leaf) is value


def test_only_the_containers_above_a_leaf_are_copied() -> None:
    untouched = ["big"]
    before = {"a": untouched, "b": [Leaf("n")]}

    after = nested.rebuild(before, Leaf, lambda leaf: leaf.name)

    assert after == {"a": ["big"], "b": ["n"]}
    assert after["a"] is untouched
    assert after is not before
    assert after["b"] is not before["b"]


def test_leaves_come_in_reading_order_and_a_repeated_one_is_repeated() -> None:
    a, b, c = Leaf("a"), Leaf("b"), Leaf("c")

    found = nested.leaves([a, {"k": b, c: (a,)}, Point(b, 1)], Leaf)

    assert [leaf.name for leaf in found] == ["a", "b", "c", "a", "b"]


def test_a_value_that_is_itself_a_leaf_is_found_and_replaced() -> None:
    leaf = Leaf("alone")

    assert nested.leaves(leaf, Leaf) == [leaf]
    assert nested.rebuild(leaf, Leaf, lambda found: found.name) == "alone"


def test_a_leaf_that_is_also_a_container_is_not_looked_into() -> None:
    inner = Plain("inner")
    outer = Plain(inner)

    assert nested.leaves(outer, Plain) == [outer]


@pytest.mark.parametrize("value", [None, 0, "text", b"bytes", range(3), object, Plain, Leaf], ids=repr)
def test_what_is_no_container_is_a_leaf_of_no_interest(value: Any) -> None:
    kind = Counter

    assert nested.leaves(value, kind) == []
    assert nested.rebuild(value, kind, lambda leaf: leaf) is value


def test_a_defaultdict_keeps_its_factory() -> None:
    before: defaultdict[str, list[Any]] = defaultdict(list, a=[Leaf("n")])

    after = nested.rebuild(before, Leaf, lambda leaf: leaf.name)

    assert after == {"a": ["n"]}
    assert after["new"] == []


def test_a_dataclass_field_that_was_never_set_is_passed_over() -> None:
    before = Lazy(Leaf("n"))

    after = nested.rebuild(before, Leaf, lambda leaf: leaf.name)

    assert after.value == "n"
    assert not hasattr(after, "later")


def test_a_derived_field_of_a_dataclass_is_copied_and_not_computed_again() -> None:
    before = Derived(Leaf("n"))
    before.half = 0.25

    after = nested.rebuild(before, Leaf, lambda leaf: leaf.name)

    assert (after.value, after.half) == ("n", 0.25)


@pytest.mark.parametrize(
    "wrap", [lambda v: [v], lambda v: (v,), lambda v: {"k": v}, Frozen], ids=["list", "tuple", "dict", "dataclass"]
)
def test_two_hundred_levels_are_walked_and_rebuilt(wrap: Callable[[Any], Any]) -> None:
    value: Any = Leaf("deep")
    expected: Any = "deep"
    for _ in range(200):
        value, expected = wrap(value), wrap(expected)

    assert [leaf.name for leaf in nested.leaves(value, Leaf)] == ["deep"]
    assert nested.rebuild(value, Leaf, lambda leaf: leaf.name) == expected


def test_too_many_levels_are_refused_with_the_cure() -> None:
    value: Any = Leaf()
    for _ in range(5_000):
        value = [value]

    with pytest.raises(GraphError, match=r"nested too deep to copy\. Flatten them"):
        nested.rebuild(value, Leaf, lambda leaf: leaf)
    assert len(nested.leaves(value, Leaf)) == 1


def looped(kind: str) -> Any:
    loop: Any = {"list": [], "dict": {}, "dataclass": Plain(None)}[kind]
    if kind == "list":
        loop.append((loop,))
    elif kind == "dict":
        loop["me"] = [loop]
    else:
        loop.value = loop
    return loop


@pytest.mark.parametrize("kind", ["list", "dict", "dataclass"])
def test_a_container_that_holds_itself_and_a_leaf_is_refused(kind: str) -> None:
    with pytest.raises(GraphError, match=r"holds itself, and a node is among them\. Pass it without the loop\."):
        nested.leaves([looped(kind), Leaf()], Leaf)


@pytest.mark.parametrize("kind", ["list", "dict", "dataclass"])
def test_plain_data_may_hold_itself(kind: str) -> None:
    assert nested.leaves(looped(kind), Leaf) == []


def test_a_container_in_two_places_is_no_loop_and_stays_one_container() -> None:
    shared = [Leaf("n")]

    after = nested.rebuild([shared, {"again": shared}], Leaf, lambda leaf: leaf.name)

    assert after == [["n"], {"again": ["n"]}]
    assert after[0] is after[1]["again"]


def test_containers_shared_over_and_over_are_walked_once_each() -> None:
    """x = [x, x], forty times: 2**40 ways lead to the one leaf"""
    leaf = Leaf("n")
    value: Any = [leaf]
    for _ in range(40):
        value = [value, value]

    after = nested.rebuild(value, Leaf, lambda found: found.name)

    assert nested.leaves(value, Leaf) == [leaf]
    for _ in range(40):
        assert after[0] is after[1]
        after = after[0]
    assert after == ["n"]
