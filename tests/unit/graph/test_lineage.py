"""Keys of calls: equal for equal calls on equal inputs, in every kernel."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dagnb.graph.dag import Dag
from dagnb.graph.lineage import lineage
from dagnb.graph.node import Node
from dagnb.graph.task import task
from tests import graphs


@task
def part(x: Any = None, **more: Any) -> Any:
    return x


@task
def other(x: Any = None) -> Any:
    return x


class Opaque:
    pass


def key(node: Node[Any]) -> str:
    """Of the last task of its DAG."""
    return lineage(Dag.of(node))[-1]


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (0.2, 0.5),
        (1, True),
        (1, 1.0),
        (1, "1"),
        ("a", b"a"),
        (None, "None"),
        ("ab", "abc"),
        ("x" * 90, "x" * 91),
        ([1, 2], [2, 1]),
        ([1, 2], (1, 2)),
        ({"a": 1}, {"a": 2}),
        ([[1], [2]], [[1], [3]]),
        (Opaque(), 1),
    ],
)
def test_other_arguments_give_another_key(one: Any, two: Any) -> None:
    assert key(part(one)) != key(part(two))


@pytest.mark.parametrize(
    "value", [0.2, "text", b"bytes", [1, {"a": (2, None)}], {3, 1, 2}, "\ud800", 10**30, 1j]
)
def test_equal_arguments_give_equal_keys(value: Any) -> None:
    assert key(part(value)) == key(part(value))
    assert len(key(part(value))) == 8
    assert key(part(value)) != key(other(value))


def test_opaque_objects_count_by_their_type() -> None:
    assert key(part(Opaque())) == key(part(Opaque()))


def test_inputs_count_all_the_way_up() -> None:
    assert key(other(other(part(1)))) == key(other(other(part(1))))
    assert key(other(other(part(1)))) != key(other(other(part(2))))
    assert key(other([part(1), part(2)])) != key(other([part(2), part(1)]))


def test_names_of_arguments_count() -> None:
    assert key(part(a=1)) != key(part(b=1))


def test_a_dag_without_nodes_has_no_keys() -> None:
    assert lineage(graphs.diamond()) == ()


def test_a_long_container_counts_by_its_length_and_its_first_items() -> None:
    assert key(part(list(range(1000)))) == key(part([*range(999), -1]))
    assert key(part(list(range(1000)))) != key(part(list(range(1001))))


def test_keys_are_the_same_in_every_process(tmp_path: Path) -> None:
    """Sets and texts are hashed differently there."""
    code = (
        "from tests.unit.graph.test_lineage import key, part\n"
        "print(key(part({'a', 'b', 'c'}, y='text', z=[1.5, None])))"
    )
    command = [sys.executable, "-c", code]
    root = Path(__file__).parents[3]
    printed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout

    assert printed.strip() == key(part({"a", "b", "c"}, y="text", z=[1.5, None]))
