"""The frozen DAG: from nodes and from edges."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dagnb.errors import CycleError, GraphError
from dagnb.graph.dag import Call, Dag
from dagnb.graph.resources import Resources
from dagnb.graph.task import Node, Task, task
from tests import graphs


@task
def make(*parts: Any) -> Any:
    return parts


@task
def join(*parts: Any) -> Any:
    return parts


def names(dag: Dag, positions: tuple[int, ...]) -> list[str]:
    return [dag.calls[p].name for p in positions]


def test_tasks_are_numbered_by_function_in_the_order_they_were_called() -> None:
    """make-0 -> join-0 -> join-1
    make-1 ---/
    """
    a, b = make(1), make(2)
    c = join(a, b)

    dag = Dag.of(join(c))

    assert [(call.name, call.function, call.upstream) for call in dag.calls] == [
        ("make-0", "make", ()),
        ("make-1", "make", ()),
        ("join-0", "join", (0, 1)),
        ("join-1", "join", (2,)),
    ]
    assert dag.sinks == (3,)


def test_upstream_stand_in_the_order_of_the_arguments() -> None:
    a, b = make(1), make(2)

    dag = Dag.of(join([b], {"k": a}, b))

    assert dag.calls[2].upstream == (1, 0)


def test_each_call_has_its_node() -> None:
    a = make(1)
    b = join(a)

    dag = Dag.of(b)

    assert dag.nodes == (a, b)


def test_tasks_that_no_result_needs_are_left_out() -> None:
    a = make(1)
    join(a, make(2))

    dag = Dag.of(join(a))

    assert [call.name for call in dag.calls] == ["make-0", "join-0"]


def test_several_results_stand_in_the_order_they_were_asked_for() -> None:
    a, b = make(1), make(2)

    dag = Dag.of(b, a)

    assert names(dag, dag.sinks) == ["make-1", "make-0"]


def test_a_result_may_be_asked_for_twice_and_is_one_task() -> None:
    a = make(1)

    dag = Dag.of(a, a)

    assert len(dag) == 1
    assert dag.sinks == (0, 0)


def test_a_result_may_be_needed_by_another_one() -> None:
    a = make(1)
    b = join(a)

    dag = Dag.of(a, b)

    assert names(dag, dag.sinks) == ["make-0", "join-0"]


def test_a_node_used_in_many_places_is_one_task() -> None:
    """a -> b -> d      a is read three times
    |-> c -/
    `-----/
    """
    a = make(1)

    dag = Dag.of(join(join(a), join(a), a))

    assert len(dag) == 4
    assert names(dag, dag.downstream[0]) == ["join-0", "join-1", "join-2"]


@pytest.mark.parametrize(
    "thing", [3, "text", None, make, [1]], ids=lambda thing: type(thing).__name__
)
def test_what_is_no_node_is_refused_with_the_cure(thing: Any) -> None:
    with pytest.raises(GraphError, match=r"is no node. Call a @task function to get one"):
        Dag.of(make(1), thing)


def test_no_node_at_all_is_refused() -> None:
    with pytest.raises(GraphError, match="the DAG is empty"):
        Dag.of()


def test_nodes_forged_into_a_cycle_are_refused_with_the_cycle_in_order() -> None:
    a = make(1)
    b = join(a)
    object.__setattr__(a, "packed", replace(a.packed, references=(b,)))

    with pytest.raises(CycleError) as caught:
        Dag.of(b)

    assert sorted(caught.value.cycle) == ["join", "make"]


def test_a_chain_of_five_thousand_is_drawn() -> None:
    node: Node[Any] = make(0)
    for _ in range(4_999):
        node = join(node)

    dag = Dag.of(node)

    assert len(dag) == 5_000
    assert dag.calls[-1].name == "join-4998"
    assert dag.calls[-1].upstream == (4_998,)


def test_a_fan_in_of_ten_thousand_is_drawn() -> None:
    dag = Dag.of(join([make(i) for i in range(10_000)]))

    assert len(dag) == 10_001
    assert dag.calls[-1].upstream == tuple(range(10_000))


def test_dags_of_equal_calls_are_equal_whatever_their_nodes() -> None:
    assert Dag.of(join(make(1))) == Dag.of(join(make(2)))
    assert Dag.of(join(make(1))) != Dag.of(join(make(1), make(2)))


def test_edges_in_any_order_give_a_topological_order_that_keeps_the_names_order_where_it_can() -> (
    None
):
    """c -> a      b is free"""
    dag = Dag.from_edges("abcd", [("c", "a"), ("a", "d")])

    assert [call.name for call in dag.calls] == ["b", "c", "a", "d"]
    assert [call.upstream for call in dag.calls] == [(), (), (1,), (2,)]


def test_a_repeated_edge_is_one_edge() -> None:
    dag = Dag.from_edges("ab", [("a", "b"), ("a", "b")])

    assert dag.calls[1].upstream == (0,)


def test_sinks_are_the_ends_unless_others_are_asked_for() -> None:
    edges = [("a", "b"), ("a", "c")]

    by_default = Dag.from_edges("abc", edges)
    as_asked = Dag.from_edges("abc", edges, sinks=["c", "a"])

    assert names(by_default, by_default.sinks) == ["b", "c"]
    assert names(as_asked, as_asked.sinks) == ["c", "a"]


def test_functions_are_given_beside_the_names_and_follow_them() -> None:
    dag = Dag.from_edges(["x-0", "y-0"], [("y-0", "x-0")], functions=["x", "y"])

    assert [(call.name, call.function) for call in dag.calls] == [("y-0", "y"), ("x-0", "x")]


@pytest.mark.parametrize(
    ("edges", "cycle"),
    [
        ([("a", "b"), ("b", "c"), ("c", "a")], "abc"),
        ([("a", "b"), ("b", "c"), ("c", "b"), ("c", "d")], "bc"),
        ([("a", "b"), ("b", "b"), ("b", "c")], "b"),
        ([("c", "b"), ("b", "c"), ("c", "a"), ("d", "b")], "bc"),
    ],
    ids=["three", "inner", "itself", "with tasks before and behind"],
)
def test_a_cycle_is_refused_and_named_along_its_edges(
    edges: list[tuple[str, str]], cycle: str
) -> None:
    with pytest.raises(CycleError) as caught:
        Dag.from_edges("abcd", edges)

    cycle_found = caught.value.cycle
    assert sorted(cycle_found) == list(cycle)
    assert all(
        edge in edges for edge in zip(cycle_found, (*cycle_found[1:], cycle_found[0]), strict=True)
    )


def test_a_cycle_of_two_thousand_is_named_in_order() -> None:
    cycle = [f"t{i}" for i in range(2_000)]

    with pytest.raises(CycleError) as caught:
        Dag.from_edges(cycle, zip(cycle, [*cycle[1:], "t0"], strict=True))

    cycle_found = caught.value.cycle
    assert len(cycle_found) == 2_000
    assert cycle_found[(cycle_found.index("t0") + 1) % 2_000] == "t1"


def test_an_edge_or_a_sink_of_an_unknown_task_is_refused() -> None:
    with pytest.raises(GraphError, match="edge 'a' -> 'z' names a task that does not exist"):
        Dag.from_edges("ab", [("a", "z")])
    with pytest.raises(GraphError, match="sink 'z' names a task that does not exist"):
        Dag.from_edges("ab", [], sinks=["z"])


@pytest.mark.parametrize(
    ("calls", "sinks", "complaint"),
    [
        ((), (), "the DAG is empty"),
        ((Call(name="a", function="a"),), (), "the DAG is empty"),
        (
            (Call(name="a", function="a", upstream=(1,)), Call(name="b", function="b")),
            (0,),
            "'a' comes before one of its",
        ),
        ((Call(name="a", function="a", upstream=(0,)),), (0,), "'a' comes before one of its"),
        ((Call(name="a", function="a", upstream=(-1,)),), (0,), "'a' comes before one of its"),
        ((Call(name="a", function="a"),), (1,), "point outside the 1 tasks"),
        ((Call(name="a", function="a"),), (-1,), "point outside the 1 tasks"),
        (
            (Call(name="a", function="a"), Call(name="a", function="b")),
            (0,),
            "two tasks are called 'a'",
        ),
    ],
    ids=["empty", "no sink", "order", "itself", "negative", "sink", "negative sink", "name"],
)
def test_a_dag_that_breaks_a_law_cannot_be_made(
    calls: tuple[Call, ...], sinks: tuple[int, ...], complaint: str
) -> None:
    with pytest.raises(GraphError, match=complaint):
        Dag(calls, sinks)


def test_positions_find_a_task_by_name() -> None:
    dag = graphs.diamond()

    assert {name: dag.calls[p].name for name, p in dag.positions.items()} == {n: n for n in "abcd"}


@pytest.mark.parametrize("name", sorted(graphs.SMALL))
def test_every_named_shape_built_of_real_nodes_is_the_same_dag(name: str) -> None:
    drawn = graphs.SMALL[name]

    dag = Dag.of(*graphs.built(drawn, graphs.told))

    assert [call.upstream for call in dag.calls] == [call.upstream for call in drawn.calls]
    assert dag.sinks == drawn.sinks


def test_the_resources_of_equal_options_are_one_object_and_are_listed_once() -> None:
    large = Resources(memory_mb=512)
    dag = Dag.of(join([make(i) for i in range(3)], join.with_options(resources=large)()))

    assert dag.needs == (Resources(), Resources(), Resources(), large, Resources())
    assert dag.needs[0] is dag.needs[2]
    assert dag.all_needs == {Resources(), large}


def test_the_name_of_each_task_is_read_once_a_dag(monkeypatch: pytest.MonkeyPatch) -> None:
    n_read = 0

    def counted(task: Any) -> str:
        nonlocal n_read
        n_read += 1
        return "counted"

    nodes = [make(i) for i in range(100)]
    monkeypatch.setattr(Task, "name", property(counted))

    dag = Dag.of(*nodes)

    assert n_read == 1
    assert (dag.calls[0].name, dag.calls[99].name) == ("counted-0", "counted-99")
