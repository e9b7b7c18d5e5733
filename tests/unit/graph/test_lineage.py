"""Keys of calls: equal for equal calls on equal inputs, in every kernel."""

from __future__ import annotations

import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from dagnb.graph import lineage as lineage_module
from dagnb.graph.dag import Dag
from dagnb.graph.lineage import lineage, summary
from dagnb.graph.task import Node, task
from tests import graphs
from tests.unit.graph.cycles import lists_of_each_other


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


# ---- arguments that are hard to look at ----


class Raising:
    """Raises whenever an attribute is asked for."""

    def __getattribute__(self, name: str) -> Any:
        if name in ("__reduce_ex__", "__class__"):
            return object.__getattribute__(self, name)
        raise ValueError(name)


class Counting(list[int]):
    """Counts the calls of its own methods."""

    n_calls = 0

    def __iter__(self) -> Any:
        Counting.n_calls += 1
        return super().__iter__()

    def __len__(self) -> int:
        Counting.n_calls += 1
        return super().__len__()


class Shaped:
    """Its shape is code."""

    n_calls = 0

    @property
    def shape(self) -> tuple[int, ...]:
        Shaped.n_calls += 1
        return (1, 2)


@pytest.mark.parametrize(
    "value",
    [deque([1, "a", None]), range(10**20), lists_of_each_other(14), [[[[[[[[1]]]]]]]]],
    ids=["deque", "range", "fourteen lists", "deep"],
)
def test_values_of_any_size_and_shape_have_a_hash_that_stays(value: Any) -> None:
    assert summary((value,), {}, Node) == summary((value,), {}, Node)
    assert summary((value,), {}, Node) != summary((value, 1), {}, Node)


def test_a_walk_looks_at_a_bounded_number_of_parts() -> None:
    wide = [[[[i] for i in range(60)] for _ in range(60)] for _ in range(60)]
    walk = lineage_module._Walk(Node)

    walk.add(wide, 6)

    assert len(walk.texts) <= 1_000


def test_no_code_of_the_users_runs_for_a_hash() -> None:
    for value in (Raising(), Counting([1, 2]), Shaped()):
        assert len(summary((value,), {}, Node)) == 8

    assert (Counting.n_calls, Shaped.n_calls) == (0, 0)


def test_a_container_that_changes_under_the_walk_ends_it_quietly() -> None:
    class Growing(type):
        """A metaclass that changes the dictionary while it is read."""

        @property
        def __module__(cls) -> str:  # type: ignore[override]  # a text for each class
            held["new"] = 1
            return "mine"

    class Item(metaclass=Growing):
        pass

    held: dict[str, Any] = {"a": Item(), "b": Item()}

    assert len(summary((held,), {}, Node)) == 8


def test_two_ranges_count_whole() -> None:
    assert key(part([range(5), range(6)])) != key(part([range(5), range(7)]))


@pytest.mark.parametrize(
    ("args", "named", "expected"),
    [
        ((1, "a", None, 2.5, True), {}, "185e747d2814876d"),
        (([1, {"b": (2, None)}], {3, 1}), {"x": b"c"}, "59e52c67d4fb2604"),
    ],
)
def test_the_history_recognises_calls_of_earlier_releases(
    args: tuple[Any, ...], named: dict[str, Any], expected: str
) -> None:
    assert summary(args, named, Node).hex() == expected


def test_plain_arguments_have_the_hash_that_a_walk_gives() -> None:
    walk = lineage_module._Walk(Node)
    args, named = (1, -7, "é\ud800", b"x" * 99, 1.5, True, None), {"a": 1, "b": "two"}

    walk.add(args, 6)
    walk.add(named, 6)

    assert lineage_module._plain_texts(args, named) == walk.texts
