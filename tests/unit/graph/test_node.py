"""Nodes: values that do not exist yet."""

from __future__ import annotations

import collections
import copy
import operator
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from dagnb.errors import GraphError
from dagnb.graph.task import Node, task


@task
def leaf(number: int = 0) -> int:
    return number


@task
def gather(*parts: Any, **named: Any) -> Any:
    return parts, named


def sorted_with_another(node: Node[Any]) -> list[Any]:
    return sorted([node, leaf(2)])


def test_a_node_keeps_its_task_and_arguments() -> None:
    node = gather(1, "two", three=3)

    assert node.task is gather
    assert (node.args, node.kwargs) == ((1, "two"), {"three": 3})
    assert node.upstream == ()


def test_upstream_are_the_nodes_among_the_arguments_in_order_and_once_each() -> None:
    a, b, c = leaf(1), leaf(2), leaf(3)

    node = gather([a, {"k": b}], a, last=(c, b))

    assert node.upstream == (a, b, c)


@dataclass(frozen=True)
class Parts:
    one: Any
    more: Any


def test_nodes_are_found_in_dataclasses_sets_and_as_keys() -> None:
    a, b, c, d = leaf(1), leaf(2), leaf(3), leaf(4)

    node = gather(Parts(a, [b]), {c}, {d: 1})

    assert node.upstream == (a, b, c, d)


@pytest.mark.parametrize("where", ["list", "dict", "set"])
def test_a_node_put_into_a_container_after_the_call_is_no_upstream(where: str) -> None:
    a, late = leaf(1), leaf(2)
    held: Any = {"list": [a], "dict": {"k": a}, "set": {a}}[where]
    node = gather(held)

    if where == "list":
        held.append(late)
    elif where == "dict":
        held["late"] = late
    else:
        held.add(late)

    assert node.upstream == (a,)


def test_keyword_arguments_are_a_dict_of_the_nodes_own() -> None:
    given = {"three": 3}
    node = gather(**given)

    given["four"] = 4

    assert node.kwargs == {"three": 3}


def test_a_container_without_a_node_is_passed_on_and_not_copied() -> None:
    big = [0] * 10

    assert gather(big).args[0] is big


@pytest.mark.parametrize("name", ["args", "task", "serial", "anything"])
def test_a_node_cannot_be_changed(name: str) -> None:
    node = leaf()

    with pytest.raises(
        GraphError, match=rf"a node cannot be changed .*'{name}'.* Call the task again"
    ):
        setattr(node, name, 1)


def test_nodes_are_equal_only_to_themselves() -> None:
    one, same_call = leaf(1), leaf(1)

    assert one == one  # noqa: PLR0124  # the law under test
    assert one != same_call
    assert len({one, same_call, one}) == 2


def test_nodes_may_be_kept_in_sets_and_as_keys() -> None:
    one, other = leaf(1), leaf(2)

    assert {one: "first", other: "second", 3: "a number"}[one] == "first"
    assert other in {one, other}
    assert [one, other].index(other) == 1
    assert collections.Counter([one, one, other])[one] == 2


@pytest.mark.parametrize(
    ("use", "complaint"),
    [
        (bool, "has no truth value yet"),
        (lambda node: "yes" if node else "no", "has no truth value yet"),
        (len, "has no length yet"),
        (list, "cannot be iterated yet"),
        (iter, "cannot be iterated yet"),
        (lambda node: [*node], "cannot be iterated yet"),
        (lambda node: node[0], "has no items yet"),
        (lambda node: operator.setitem(node, 0, 1), "has no items yet"),
        (lambda node: operator.delitem(node, 0), "has no items yet"),
        (lambda node: 1 in node, "has no items yet"),
        (lambda node: f"{node}", "cannot be put into a text yet"),
        (lambda node: f"{node:>10}", "cannot be put into a text yet"),
        ("{}".format, "cannot be put into a text yet"),
        (lambda node: node == 1, "cannot be compared yet"),
        (lambda node: node != 1, "cannot be compared yet"),
        (lambda node: node == None, "cannot be compared yet"),  # noqa: E711  # as users write it
        (lambda node: node < 1, "cannot be compared yet"),
        (lambda node: node <= 1, "cannot be compared yet"),
        (sorted_with_another, "cannot be compared yet"),
        (lambda node: node + 1, "cannot be calculated with yet"),
        (lambda node: 1 - node, "cannot be calculated with yet"),
        (lambda node: -node, "cannot be calculated with yet"),
        (lambda node: operator.iadd(node, 1), "cannot be calculated with yet"),
        (lambda node: node @ [1], "cannot be calculated with yet"),
        (lambda node: 2**node, "cannot be calculated with yet"),
        (lambda node: divmod(7, node), "cannot be calculated with yet"),
        (lambda node: sum([node, node]), "cannot be calculated with yet"),
        (lambda node: np.float64(2) * node, "cannot be calculated with yet"),
        (lambda node: np.arange(3) + node, "cannot be calculated with yet"),
        (lambda node: node & True, "cannot be calculated with yet"),
        (int, "is no number yet"),
        (float, "is no number yet"),
        (round, "is no number yet"),
        (lambda node: [1, 2][node], "is no number yet"),
        (range, "is no number yet"),
    ],
)
def test_using_a_node_as_its_value_is_refused_with_the_cure(
    use: Callable[[Any], Any], complaint: str
) -> None:
    with pytest.raises(GraphError) as caught:
        use(leaf(1))

    message = str(caught.value)
    assert message.startswith(f"the result of 'leaf' {complaint}: it is not computed.")
    assert (
        "leaf(...) only made a node, which stands for the result. Take .run().result(), or "
        in message
    )
    assert message.endswith("inside a task.")


def test_an_attribute_of_a_result_is_refused_with_the_cure_and_seems_not_to_be_there() -> None:
    node = leaf(1)

    with pytest.raises(
        AttributeError,
        match=r"the result of 'leaf' has no attribute 'shape' yet: it is not computed",
    ):
        _ = node.shape  # type: ignore[attr-defined]  # what is tested
    assert not hasattr(node, "shape")
    assert not hasattr(node, "_repr_html_")


def test_a_node_is_not_callable() -> None:
    assert not callable(leaf(1))
    with pytest.raises(TypeError, match="'Node' object is not callable"):
        leaf(1)()  # type: ignore[operator]  # what is tested


def test_a_node_can_be_printed() -> None:
    node = leaf(1)

    assert str(node) == repr(node) == f"{node!r}" == "<node leaf of 0 upstream; .run() computes it>"


def test_pickling_a_node_is_refused_with_the_cure() -> None:
    with pytest.raises(
        GraphError, match=r"the node of task 'leaf' cannot be pickled: .* Pass it as an argument"
    ):
        pickle.dumps([leaf(1)])


def test_copying_a_node_gives_the_node() -> None:
    node = gather([leaf(1)])

    assert copy.copy(node) is node
    assert copy.deepcopy([node])[0] is node


def test_a_node_shows_what_it_is_and_how_to_get_its_value() -> None:
    assert repr(gather(leaf(), leaf())) == "<node gather of 2 upstream; .run() computes it>"


def test_a_chain_of_nodes_may_be_longer_than_pythons_stack() -> None:
    node: Node[Any] = leaf(0)
    for _ in range(5_000):
        node = gather(node)

    assert len(node.upstream) == 1
