"""Named shapes. Each returns a `Dag` drawn from data alone; `built` makes real nodes of one.

Tasks are named by letters as in the pictures, or a letter and a number where there are many. Arrows point downstream.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from dagnb.graph.dag import Dag
from dagnb.graph.node import Node
from dagnb.graph.task import Task


def drawn(*edges: str, sinks: Sequence[str] = ()) -> Dag:
    """A DAG from chains such as "a b d", "a c d"; a single name is a lone task. Names stand in order of appearance."""
    chains = [chain.split() for chain in edges]
    names = list(dict.fromkeys(name for chain in chains for name in chain))
    pairs = [pair for chain in chains for pair in itertools.pairwise(chain)]
    return Dag.from_edges(names, pairs, sinks=sinks)


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
    """a -> b -> d     where each letter x is a diamond itself:   x0 -> x1 -> x3     and an edge x -> y is x3 -> y0
    `-> c -/                                                  `--> x2 --/
    """
    inner = [edge for x in "abcd" for edge in (f"{x}0 {x}1 {x}3", f"{x}0 {x}2 {x}3")]
    return drawn(*inner, "a3 b0", "a3 c0", "b3 d0", "c3 d0")


def tree_in(depth: int) -> Dag:
    """l0 -> m0 -> r       a binary reduction; level k holds t{k}_{i}, the leaves are level 0; in order of levels
    l1 -/      /
    l2 -> m1 -/
    l3 -/
    """
    names = [f"t{k}_{i}" for k in range(depth + 1) for i in range(2 ** (depth - k))]
    return drawn(
        *names,
        *(f"t{k}_{i} t{k + 1}_{i // 2}" for k in range(depth) for i in range(2 ** (depth - k))),
    )


def tree_out(depth: int) -> Dag:
    """r -> m0 -> l0       a binary spread; level k holds t{k}_{i}, the root is t0_0
    |      `-> l1
    `-> m1 -> l2
           `-> l3
    """
    if depth == 0:
        return drawn("t0_0")
    return drawn(
        *(f"t{k}_{i // 2} t{k + 1}_{i}" for k in range(depth) for i in range(2 ** (k + 1)))
    )


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
    """a -> [b] -> [c]      b is asked for, and needed by c, too"""
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
    """t0_0 -> t1_0 -> ...  each task reads its own and the next column (around) of the level above
         \\-> t1_1
    t0_1 -> t1_1 -> ...
    """
    names = [f"t{k}_{i}" for k in range(depth) for i in range(width)]
    edges = [
        f"t{k}_{j} t{k + 1}_{i}"
        for k in range(depth - 1)
        for i in range(width)
        for j in (i, (i + 1) % width)
    ]
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
"""name -> DAG of at most 16 tasks: every shape once, for tests that try them all"""


def built(dag: Dag, function: Callable[[str, list[Any]], Any]) -> tuple[Node[Any], ...]:
    """Real nodes of the same shape: each task calls function(its name, values of its upstream); one node a sink.

    `Dag.of` of them holds the same tasks in the same order, as long as each is an ancestor of a sink.
    """
    marked = Task(function)
    nodes: list[Node[Any]] = []
    for call in dag.calls:
        nodes.append(marked(call.name, [nodes[u] for u in call.upstream]))
    return tuple(nodes[sink] for sink in dag.sinks)


def told(name: str, inputs: list[str]) -> str:
    """A function for `built`: its value tells the whole computation, "d(b(a()),c(a()))". Only for small shapes."""
    return f"{name}({','.join(inputs)})"


def reference(dag: Dag, function: Callable[[str, list[Any]], Any]) -> tuple[Any, ...]:
    """The values of the sinks, computed here, in the DAG's order: what every run must give."""
    values: list[Any] = []
    for call in dag.calls:
        values.append(function(call.name, [values[u] for u in call.upstream]))
    return tuple(values[sink] for sink in dag.sinks)
