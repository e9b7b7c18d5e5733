"""Laws of the walk over nested arguments, for any nesting of any containers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from dagnb.graph import nested


@dataclass(frozen=True)
class Leaf:
    """Equal by name, so that trees can be compared."""

    name: int


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclass(frozen=True)
class Box:
    content: Any


def trees(of: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Nestings of every container around these leaves and plain constants."""
    ends = st.one_of(of, st.none(), st.integers(), st.text(max_size=2))
    flat = st.one_of(st.frozensets(ends, max_size=3), st.sets(ends, max_size=3))
    return st.recursive(
        st.one_of(ends, flat),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.lists(inner, max_size=3).map(tuple),
            st.dictionaries(ends, inner, max_size=3),
            st.builds(Pair, inner, inner),
            st.builds(Box, inner),
        ),
        max_leaves=12,
    )


LEAVES = st.builds(Leaf, st.integers(0, 9))


@given(trees(LEAVES))
def test_replacing_leaves_by_themselves_gives_an_equal_value(value: Any) -> None:
    assert nested.rebuild(value, Leaf, lambda leaf: leaf) == value


@given(trees(LEAVES))
def test_every_leaf_is_replaced_and_the_new_ones_are_where_the_old_ones_were(value: Any) -> None:
    marked = nested.rebuild(value, Leaf, lambda leaf: Leaf(leaf.name + 100))

    assert sorted(leaf.name - 100 for leaf in nested.leaves(marked, Leaf)) == sorted(
        leaf.name for leaf in nested.leaves(value, Leaf)
    )
    assert nested.rebuild(marked, Leaf, lambda leaf: Leaf(leaf.name - 100)) == value


@given(trees(st.just("no leaf")))
def test_a_value_without_leaves_is_given_back_itself(value: Any) -> None:
    assert nested.leaves(value, Leaf) == []
    assert nested.rebuild(value, Leaf, lambda leaf: leaf) is value


@given(trees(LEAVES))
def test_what_is_found_is_what_is_replaced(value: Any) -> None:
    replaced: list[Leaf] = []

    def note(leaf: Leaf) -> Leaf:
        replaced.append(leaf)
        return leaf

    nested.rebuild(value, Leaf, note)

    assert [leaf.name for leaf in replaced] == [leaf.name for leaf in nested.leaves(value, Leaf)]
