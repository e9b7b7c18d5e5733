"""Levels, width, fan-ins, critical path and depth-first order of named shapes."""

from __future__ import annotations

import pytest

from dagnb.graph import shape
from dagnb.graph.dag import Dag
from tests import graphs


def by_name(dag: Dag, values: tuple[int, ...]) -> dict[str, int]:
    return {call.name: value for call, value in zip(dag.calls, values, strict=True)}


def in_order(dag: Dag) -> list[str]:
    """Names in depth-first order."""
    numbers = by_name(dag, shape.depth_first(dag))
    return sorted(numbers, key=numbers.__getitem__)


@pytest.mark.parametrize(
    ("dag", "depth", "width", "n_sources", "n_fan_ins", "n_fan_outs"),
    [
        (graphs.lone(), 1, 1, 1, 0, 0),
        (graphs.chain(5), 5, 1, 1, 0, 0),
        (graphs.fan_out(4), 2, 4, 1, 0, 1),
        (graphs.fan_in(4), 2, 4, 4, 1, 0),
        (graphs.diamond(), 3, 2, 1, 1, 1),
        (graphs.wide(6), 3, 6, 1, 1, 1),
        (graphs.diamond_of_diamonds(), 9, 4, 1, 5, 5),
        (graphs.tree_in(3), 4, 8, 8, 7, 0),
        (graphs.tree_out(3), 4, 8, 1, 0, 7),
        (graphs.bipartite(3, 2), 2, 3, 3, 2, 3),
        (graphs.shared_subgraph(), 4, 2, 1, 1, 1),
        (graphs.two_components(), 2, 2, 2, 0, 0),
        (graphs.ladder(4), 5, 2, 1, 3, 3),
        (graphs.layered(4, 3), 3, 4, 4, 8, 8),
    ],
    ids=[
        "lone",
        "chain",
        "fan_out",
        "fan_in",
        "diamond",
        "wide",
        "diamonds",
        "tree_in",
        "tree_out",
        "bipartite",
        "shared",
        "two",
        "ladder",
        "layered",
    ],
)
def test_named_shapes_have_the_counts_one_reads_off_their_pictures(
    dag: Dag, depth: int, width: int, n_sources: int, n_fan_ins: int, n_fan_outs: int
) -> None:
    assert len(shape.by_level(dag)) == depth
    assert shape.width(dag) == width
    assert len(shape.sources(dag)) == n_sources
    assert len(shape.fan_ins(dag)) == n_fan_ins
    assert len(shape.fan_outs(dag)) == n_fan_outs


def test_the_level_is_the_longest_way_from_a_source() -> None:
    """a -> b -> c -> d      a -> d is the short way"""
    dag = graphs.drawn("a b c d", "a d")

    assert by_name(dag, shape.levels(dag)) == {"a": 0, "b": 1, "c": 2, "d": 3}
    assert [[dag.calls[i].name for i in level] for level in shape.by_level(dag)] == [
        ["a"],
        ["b"],
        ["c"],
        ["d"],
    ]


def test_the_critical_path_is_the_chain_of_the_largest_cost_and_not_of_most_tasks() -> None:
    """a -> b -> c -> e      d takes 10 s, all others 1 s
    `--> d ------/
    """
    dag = graphs.drawn("a b c e", "a d e")

    path = shape.critical_path(dag, lambda i: 10.0 if dag.calls[i].name == "d" else 1.0)

    assert [dag.calls[i].name for i in path] == ["a", "d", "e"]


def test_the_critical_path_may_end_before_the_last_level() -> None:
    """c      alone takes longest
    a -> b
    """
    dag = graphs.drawn("c", "a b")

    path = shape.critical_path(dag, lambda i: 5.0 if dag.calls[i].name == "c" else 1.0)

    assert [dag.calls[i].name for i in path] == ["c"]


def test_of_equal_critical_paths_the_one_of_smaller_positions_is_given() -> None:
    dag = graphs.diamond()

    assert [dag.calls[i].name for i in shape.critical_path(dag, lambda _: 1.0)] == ["a", "b", "d"]


def test_a_dag_that_costs_nothing_has_a_critical_path_still() -> None:
    assert shape.critical_path(graphs.lone(), lambda _: 0.0) == (0,)


def test_depth_first_finishes_a_branch_before_it_opens_the_next() -> None:
    """a binary reduction of four leaves"""
    dag = graphs.tree_in(2)

    assert in_order(dag) == ["t0_0", "t0_1", "t1_0", "t0_2", "t0_3", "t1_1", "t2_0"]


def test_depth_first_takes_the_deepest_branch_of_a_fan_in_first() -> None:
    """d ------------> e
    a -> b -> c --/
    """
    dag = graphs.drawn("d e", "a b c e")

    assert in_order(dag) == ["a", "b", "c", "d", "e"]


def test_depth_first_starts_with_the_sink_that_was_asked_for_first() -> None:
    dag = graphs.drawn("a b", "c d", sinks=("d", "b"))

    assert in_order(dag) == ["c", "d", "a", "b"]


def test_depth_first_numbers_what_no_sink_needs_last() -> None:
    dag = graphs.drawn("a b", "c d", sinks=("d",))

    assert in_order(dag) == ["c", "d", "a", "b"]


def test_depth_first_keeps_few_values_of_a_deep_reduction_alive() -> None:
    """A binary reduction of 256 leaves: taken in this order at most 9 values are held, not 256."""
    dag = graphs.tree_in(8)
    numbers = shape.depth_first(dag)
    live, most = set[int](), 0

    for here in sorted(range(len(dag)), key=numbers.__getitem__):
        live = live - set(dag.calls[here].upstream) | {here}
        most = max(most, len(live))

    assert most == 9


@pytest.mark.parametrize(
    "dag",
    [graphs.chain(5_000), graphs.wide(10_000), graphs.fan_in(10_000)],
    ids=["deep", "wide", "fan_in"],
)
def test_large_shapes_need_no_recursion(dag: Dag) -> None:
    assert sorted(shape.depth_first(dag)) == list(range(len(dag)))
    assert shape.levels(dag)[-1] == len(shape.by_level(dag)) - 1
    assert shape.critical_path(dag, lambda _: 1.0)[-1] == len(dag) - 1
