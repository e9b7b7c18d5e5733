"""Flat containers that one worker reads for many calls: copies, equal to what unpickling gives."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagnb.graph.pickling.flat import FlatContainers, is_flat
from dagnb.graph.pickling.packing import pack_call, unpack

ATOM = st.one_of(
    st.integers(), st.text(), st.binary(), st.booleans(), st.none(), st.floats(allow_nan=False)
)
FLAT = st.one_of(
    st.lists(ATOM), st.dictionaries(ATOM, ATOM), st.lists(ATOM).map(tuple), st.sets(ATOM)
)
NESTED = st.one_of(FLAT, st.lists(FLAT))


class Loads:
    """Counts how often a pickle is read."""

    def __init__(self, value: Any) -> None:
        self.pickled, self.n = pickle.dumps(value), 0

    def through(self, flat: FlatContainers) -> Any:
        """Returns the value, read through the held containers."""
        return flat.load(self.pickled, self.unpickle)

    def unpickle(self) -> Any:
        """Returns the value, and counts."""
        self.n += 1
        return pickle.loads(self.pickled)


@given(NESTED)
def test_every_reader_gets_an_equal_value_of_its_own(value: Any) -> None:
    flat, loads = FlatContainers(), Loads(value)
    for _ in range(3):
        read = loads.through(flat)
        assert repr(read) == repr(pickle.loads(loads.pickled))
        if isinstance(read, list):
            read.append("changed")
            if value and isinstance(read[0], list):
                read[0].append("changed")
        if isinstance(read, dict):
            read["changed"] = 1


@pytest.mark.parametrize(
    ("value", "n"),
    [({"a": 1}, 1), ([1, "b"], 1), ((None, b"c"), 1), ({1, 2}, 3), ([[1]], 3), ("text", 3)],
)
def test_only_flat_lists_tuples_and_dicts_are_read_once(value: Any, n: int) -> None:
    flat, loads = FlatContainers(), Loads(value)
    for _ in range(3):
        loads.through(flat)
    assert loads.n == n


def test_a_subclass_of_an_atom_is_no_atom() -> None:
    class Tagged(str):  # noqa: SLOT000  # attributes are what the test is about
        """A text with attributes, which a task may change."""

    assert not is_flat([Tagged("a")])
    assert not is_flat({Tagged("a"): 1})
    assert is_flat({"a": True})


def test_the_least_recently_used_are_dropped_beyond_the_limit() -> None:
    old, new, large = Loads([1] * 10), Loads([2] * 10), Loads([3] * 1000)
    flat = FlatContainers(limit_bytes=len(old.pickled) + len(new.pickled))
    for loads in (old, new, old, large, Loads([4] * 10), old, new):
        loads.through(flat)
    assert (old.n, new.n) == (1, 2)

    large.through(flat)
    assert large.n == 2  # it alone exceeds the limit, so it dropped no other one


def test_calls_with_one_large_dict_unpickle_it_once() -> None:
    large = {number: f"text {number}" for number in range(10_000)}
    flat = FlatContainers()
    read_first: dict[str, str] = {}
    for number in range(3):
        packed = pack_call((large, number), {}, _NoNode)
        contents = [content.copied() or b"" for content in packed.contents]
        unpack(packed.body, (), contents, flat)[0][0].clear()

        (copy, arrived), _ = unpack(packed.body, (), contents, flat)
        assert (copy, arrived) == (large, number)
        assert copy[9_999] is read_first.setdefault("value", copy[9_999])


class _NoNode:
    """A type of which no argument is."""
