"""DAGs of named shapes, without functions; `built` makes real nodes of one.

In the pictures arrows point downstream. Tasks are named by letters, or a letter and a number.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from dagnb.graph.dag import Dag
from dagnb.graph.task import Node, Task


def drawn(*edges: str, sinks: Sequence[str] = ()) -> Dag:
    """Returns a DAG from chains such as "a b d", "a c d"; tasks are in order of appearance."""
    names: dict[str, None] = {}  # a set that keeps its order
    pairs: list[tuple[str, str]] = []
    for edge in edges:
        chain_names = edge.split()
        names |= dict.fromkeys(chain_names)
        pairs += itertools.pairwise(chain_names)
    return Dag.from_edges(list(names), pairs, sinks=sinks)


def lone() -> Dag:
    """a"""
    return drawn("a")


def chain(n: int) -> Dag:
    """t0 -> t1 -> ... -> t(n-1)"""
    return drawn(" ".join(f"t{i}" for i in range(n)))


def fan_out(n: int) -> Dag:
    """a -> b0
    |-> b1
    `-> ... b(n-1), all of them sinks
    """
    return drawn("a", *(f"a b{i}" for i in range(n)))


def fan_in(n: int) -> Dag:
    """a0 -----> b
    a1 -----/
    ... a(n-1)
    """
    return drawn(*(f"a{i} b" for i in range(n)))


def diamond() -> Dag:
    """a -> b -> d
    `-> c -/
    """
    return drawn("a b d", "a c d")


def wide(n: int) -> Dag:
    """a -> b0 ---> c
    |-> b1 --/
    `-> ... b(n-1)
    """
    return drawn("a", *(f"a b{i} c" for i in range(n)))


def diamond_of_diamonds() -> Dag:
    """a -> b -> d     each letter x is a diamond:   x0 -> x1 -> x3     an edge x -> y is x3 -> y0
    `-> c -/                                      `-> x2 -/
    """
    inner = []
    for x in "abcd":
        inner += [f"{x}0 {x}1 {x}3", f"{x}0 {x}2 {x}3"]
    return drawn(*inner, "a3 b0", "a3 c0", "b3 d0", "c3 d0")


def tree_in(depth: int) -> Dag:
    """l0 -> m0 -> r       a binary reduction; level k has the tasks t{k}_{i}, leaves are level 0
    l1 -/      /
    l2 -> m1 -/
    l3 -/
    """
    names, edges = [], []
    for level in range(depth + 1):
        for i in range(2 ** (depth - level)):
            names.append(f"t{level}_{i}")
            if level < depth:
                edges.append(f"t{level}_{i} t{level + 1}_{i // 2}")
    return drawn(*names, *edges)  # names first, for the order of levels


def tree_out(depth: int) -> Dag:
    """r -> m0 -> l0       a binary spread; level k has the tasks t{k}_{i}, the root is t0_0
    |      `-> l1
    `-> m1 -> l2
           `-> l3
    """
    if depth == 0:
        return drawn("t0_0")
    edges = []
    for level in range(depth):
        edges += [f"t{level}_{i // 2} t{level + 1}_{i}" for i in range(2 ** (level + 1))]
    return drawn(*edges)


def bipartite(n: int, m: int) -> Dag:
    """a0 -> b0     every a to every b
    >< X ><
    a1 -> b1
    """
    return drawn(*(f"a{i} b{j}" for i in range(n) for j in range(m)))


def shared_subgraph() -> Dag:
    """a -> b -> c -> e     b is an input of c, d and e: one task, read three times
    |-> d -/
    `------/
    """
    return drawn("a b c e", "b d e", "b e")


def two_components() -> Dag:
    """a -> b
    c -> d
    """
    return drawn("a b", "c d")


def sink_inside() -> Dag:
    """a -> [b] -> [c]      b is a sink, and read by c, too"""
    return drawn("a b c", sinks=("c", "b"))


def ladder(n: int) -> Dag:
    """a0 -> a1 -> ... -> a(n-1)
     |     |               |
     v     v               v
    b0 -> b1 -> ... -> b(n-1)
    """
    rungs = [f"a{i} b{i}" for i in range(n)]
    return drawn(*rungs, " ".join(f"a{i}" for i in range(n)), " ".join(f"b{i}" for i in range(n)))


def layered(width: int, depth: int) -> Dag:
    """t0_0 -> t1_0 -> ...  each task reads two columns of the level above, its own and the next
         \\-> t1_1
    t0_1 -> t1_1 -> ...
    """
    names, edges = [], []
    for level in range(depth):
        for i in range(width):
            names.append(f"t{level}_{i}")
            if level:
                edges += [f"t{level - 1}_{j} t{level}_{i}" for j in (i, (i + 1) % width)]
    return drawn(*names, *edges)


SMALL: dict[str, Dag] = {
    "lone": lone(),
    "chain": chain(5),
    "fan_out": fan_out(4),
    "fan_in": fan_in(4),
    "diamond": diamond(),
    "wide": wide(5),
    "diamond_of_diamonds": diamond_of_diamonds(),
    "tree_in": tree_in(3),
    "tree_out": tree_out(3),
    "bipartite": bipartite(3, 3),
    "shared_subgraph": shared_subgraph(),
    "two_components": two_components(),
    "sink_inside": sink_inside(),
    "ladder": ladder(4),
    "layered": layered(4, 3),
}
"""Name -> DAG of at most 16 tasks: each shape once, for tests that try them all."""


def built(dag: Dag, function: Callable[[str, list[Any]], Any]) -> tuple[Node[Any], ...]:
    """Returns nodes of the same shape, one for each sink. Tasks call function(name, inputs).

    `Dag.of` of them has the same tasks in the same order, if each is an ancestor of a sink.
    """
    marked = Task(function)
    nodes: list[Node[Any]] = []
    for call in dag.calls:
        nodes.append(marked(call.name, [nodes[u] for u in call.upstream]))
    return tuple(nodes[sink] for sink in dag.sinks)


def told(name: str, inputs: list[str]) -> str:
    """Returns the whole computation as text, "d(b(a()),c(a()))": a function for `built`.

    Only for small shapes: the text doubles with each diamond.
    """
    return f"{name}({','.join(inputs)})"


def reference(dag: Dag, function: Callable[[str, list[Any]], Any]) -> tuple[Any, ...]:
    """Returns the values of the sinks, computed here in the DAG's order, to compare runs with."""
    values: list[Any] = []
    for call in dag.calls:
        values.append(function(call.name, [values[u] for u in call.upstream]))
    return tuple(values[sink] for sink in dag.sinks)


def with_effects(dag: Dag) -> Dag:
    """Returns the same DAG of tasks whose values are always stored, since they have effects."""
    calls = [replace(call, options=replace(call.options, pure=False)) for call in dag.calls]
    return replace(dag, calls=tuple(calls))
