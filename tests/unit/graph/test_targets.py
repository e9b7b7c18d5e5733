"""The targets of a run, and the shape of its result."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest

from dagnb.errors import GraphError
from dagnb.graph.dag import Targets, shaped
from dagnb.graph.task import task


@task
def leaf(number: int = 0) -> int:
    return number


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclass
class Held:
    value: Any


def test_nodes_given_one_by_one_have_no_structure() -> None:
    a, b = leaf(1), leaf(2)

    assert Targets.of(a, b, a) == Targets((a, b, a))
    assert Targets.of(a) == Targets((a,))


@pytest.mark.parametrize(
    ("make", "n_nodes"),
    [
        (lambda a, b: [a, b], 2),
        (lambda a, b: [a], 1),
        (lambda a, b: (a, b), 2),
        (lambda a, b: {"x": a, "y": [b, a]}, 2),
        (lambda a, b: OrderedDict(x=a), 1),
        (Pair, 2),
        (lambda a, b: Held([a, b]), 2),
        (lambda a, b: [a, 3, "text", None], 1),
        (lambda a, b: [[], [a]], 1),
    ],
)
def test_a_structure_gives_its_nodes_and_takes_their_values(make: Any, n_nodes: int) -> None:
    a, b = leaf(1), leaf(2)

    asked = Targets.of(make(a, b))

    assert asked.nodes == (a, b)[:n_nodes]
    assert shaped(asked.structure, ["A", "B"][:n_nodes]) == make("A", "B")


def test_several_structures_give_a_tuple() -> None:
    a, b = leaf(1), leaf(2)

    asked = Targets.of([a], b, {"again": a})

    assert asked.nodes == (a, b)
    assert shaped(asked.structure, [1, 2]) == ([1], 2, {"again": 1})


def test_large_data_in_a_structure_comes_back_with_it() -> None:
    numbers = np.arange(100_000)

    asked = Targets.of({"x": leaf(), "numbers": numbers})

    assert shaped(asked.structure, [5])["numbers"].tolist() == numbers.tolist()


@pytest.mark.parametrize(
    "asked", [(), ([],), (3,), ({"x": 1},), (leaf,), (leaf(), "text")], ids=repr
)
def test_what_holds_no_node_is_refused_with_the_cure(asked: tuple[Any, ...]) -> None:
    with pytest.raises(GraphError, match=r"not a node and contains none|nothing to run"):
        Targets.of(*asked)


def test_a_structure_that_cannot_be_pickled_is_refused_with_the_reason() -> None:
    with pytest.raises(
        GraphError, match=r"the list that was asked for cannot be pickled: .*lock.* Put only nodes"
    ):
        Targets.of([leaf(), threading.Lock()])
