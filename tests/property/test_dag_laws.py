"""Laws of every DAG: its order, its edges both ways, and what graphlib says of the same edges."""

from __future__ import annotations

import graphlib
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagnb.errors import CycleError
from dagnb.graph import shape
from dagnb.graph.dag import Dag
from tests import graphs, strategies

Edges = list[tuple[str, str]]


@st.composite
def any_edges(draw: st.DrawFn) -> tuple[list[str], Edges]:
    """Up to seven names in any order and any edges among them: with cycles, repeated edges and
    loops.
    """
    names = draw(st.permutations("abcdefg"))[: draw(st.integers(1, 7))]
    ends = st.sampled_from(names)
    return names, draw(st.lists(st.tuples(ends, ends), max_size=12))


def reference(names: list[str], edges: Edges) -> graphlib.TopologicalSorter[str]:
    sorter = graphlib.TopologicalSorter[str]({name: [] for name in names})
    for a, b in edges:
        sorter.add(b, a)
    return sorter


@given(any_edges())
def test_edges_make_a_dag_exactly_where_graphlib_finds_an_order(
    drawn: tuple[list[str], Edges],
) -> None:
    names, edges = drawn
    try:
        reference(names, edges).prepare()
    except graphlib.CycleError:
        with pytest.raises(CycleError) as caught:
            Dag.from_edges(names, edges)
        cycle = caught.value.cycle
        assert len(set(cycle)) == len(cycle)
        assert set(zip(cycle, (*cycle[1:], cycle[0]), strict=True)) <= set(edges)
    else:
        dag = Dag.from_edges(names, edges)
        assert {(dag.calls[u].name, c.name) for c in dag.calls for u in c.upstream} == set(edges)
        assert sorted(c.name for c in dag.calls) == sorted(names)


@given(any_edges())
def test_the_order_is_the_first_of_all_topological_orders_by_the_order_of_names(
    drawn: tuple[list[str], Edges],
) -> None:
    names, edges = drawn
    try:
        dag = Dag.from_edges(names, edges)
    except CycleError:
        return
    sorter = reference(names, edges)
    sorter.prepare()
    ready, expected = set(sorter.get_ready()), []
    while ready:
        here = min(ready, key=names.index)
        expected.append(here)
        sorter.done(here)
        ready = ready - {here} | set(sorter.get_ready())

    assert [call.name for call in dag.calls] == expected


@given(strategies.dags(10))
def test_every_task_stands_behind_its_upstream(dag: Dag) -> None:
    assert all(u < position for position, call in enumerate(dag.calls) for u in call.upstream)


@given(strategies.dags(10))
def test_downstream_is_upstream_the_other_way(dag: Dag) -> None:
    down = [(u, d) for u, ds in enumerate(dag.downstream) for d in ds]

    assert sorted(down) == sorted((u, d) for d, call in enumerate(dag.calls) for u in call.upstream)
    assert all(list(ds) == sorted(ds) for ds in dag.downstream)


@given(strategies.dags(10))
def test_nodes_built_in_the_shape_of_a_dag_give_the_dag_again(dag: Dag) -> None:
    again = Dag.of(*graphs.built(dag, graphs.told))

    assert [call.upstream for call in again.calls] == [call.upstream for call in dag.calls]
    assert again.sinks == dag.sinks


@given(strategies.dags(10), st.integers(0, 1000))
def test_the_order_of_edges_does_not_matter(dag: Dag, seed: int) -> None:
    names = [call.name for call in dag.calls]
    edges = [(names[u], call.name) for call in dag.calls for u in call.upstream]
    shuffled = random.Random(seed).sample(edges, len(edges))

    assert Dag.from_edges(names, edges) == Dag.from_edges(names, shuffled)


def ways_to(dag: Dag, position: int) -> list[list[int]]:
    """Every way from a source to here."""
    call = dag.calls[position]
    return [[*way, position] for u in call.upstream for way in ways_to(dag, u)] or [[position]]


@given(strategies.dags(8))
def test_the_level_is_the_number_of_edges_on_the_longest_way(dag: Dag) -> None:
    longest = [max(map(len, ways_to(dag, i))) - 1 for i in range(len(dag))]

    assert list(shape.levels(dag)) == longest
    assert [i for level in shape.by_level(dag) for i in level] == sorted(
        range(len(dag)), key=lambda i: (longest[i], i)
    )


@given(strategies.dags(8), st.data())
def test_no_way_costs_more_than_the_critical_path(dag: Dag, data: Any) -> None:
    cost = data.draw(st.lists(st.integers(0, 5), min_size=len(dag), max_size=len(dag)))

    path = list(shape.critical_path(dag, lambda i: cost[i]))

    every = [way for i in range(len(dag)) for way in ways_to(dag, i)]
    assert path in every
    assert sum(cost[i] for i in path) == max(sum(cost[i] for i in way) for way in every)


@given(strategies.dags(10))
def test_depth_first_numbers_are_a_topological_order(dag: Dag) -> None:
    numbers = shape.depth_first(dag)

    assert sorted(numbers) == list(range(len(dag)))
    assert all(numbers[u] < numbers[d] for d, call in enumerate(dag.calls) for u in call.upstream)


@given(strategies.dags(10))
def test_depth_first_finishes_all_the_first_sink_needs_before_anything_else(dag: Dag) -> None:
    numbers = shape.depth_first(dag)
    needed = {i for way in ways_to(dag, dag.sinks[0]) for i in way}

    assert sorted(numbers[i] for i in needed) == list(range(len(needed)))
