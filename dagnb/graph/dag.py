"""The frozen DAG: calls in topological order, edges as positions. Plans, stores and simulations see only this."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from dagnb.errors import CycleError, GraphError
from dagnb.graph.brief import brief, cut, number
from dagnb.graph.client_hook import Shown
from dagnb.graph.node import Node
from dagnb.graph.options import TaskOptions

NO_OPTIONS = TaskOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One task of a DAG. `upstream` holds positions in Dag.calls, each smaller than this call's own."""

    name: str
    function: str
    upstream: tuple[int, ...] = ()
    options: TaskOptions = NO_OPTIONS

    __repr__ = brief


@dataclass(frozen=True)
class Dag(Shown):
    """Calls in topological order; `sinks` are the positions whose values were asked for, in the order asked.

    `nodes` holds the user's node of each call, or nothing for a DAG drawn from data alone.
    """

    calls: tuple[Call, ...]
    sinks: tuple[int, ...]
    nodes: tuple[Node[Any], ...] = field(default=(), repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the laws: topological order, sinks that exist, one name a task."""
        if not self.calls or not self.sinks:
            raise GraphError("the DAG is empty. Give at least one node: dagnb.run(node).")
        for position, call in enumerate(self.calls):
            if any(not 0 <= u < position for u in call.upstream):
                raise GraphError(
                    f"task '{call.name}' stands before one of its upstream tasks. Build it with Dag.from_edges."
                )
        if any(not 0 <= s < len(self.calls) for s in self.sinks):
            raise GraphError(f"sinks {self.sinks} point outside the {len(self.calls)} tasks.")
        if len({call.name for call in self.calls}) != len(self.calls):
            doubled = [
                name for name, n in Counter(call.name for call in self.calls).items() if n > 1
            ]
            raise GraphError(f"two tasks are called '{doubled[0]}'. Names must differ.")

    def __repr__(self) -> str:
        functions = Counter(call.function for call in self.calls).most_common()
        told = ", ".join(f"{n:,} {cut(name, 40)}" for name, n in functions[:3])
        more = f" and {number(len(functions) - 3, 'more function')}" if len(functions) > 3 else ""
        return f"<DAG of {number(len(self.calls), 'task')}: {told}{more}>"

    def __len__(self) -> int:
        """How many tasks."""
        return len(self.calls)

    @cached_property
    def downstream(self) -> tuple[tuple[int, ...], ...]:
        """Positions of the tasks that read each task, ascending. O(tasks + edges), once."""
        lists: list[list[int]] = [[] for _ in self.calls]
        for position, call in enumerate(self.calls):
            for u in call.upstream:
                lists[u].append(position)
        return tuple(map(tuple, lists))

    @cached_property
    def positions(self) -> dict[str, int]:
        """name -> position"""
        return {call.name: position for position, call in enumerate(self.calls)}

    @classmethod
    def of(cls, *nodes: Node[Any]) -> Dag:
        """The DAG of everything these nodes need. Raises GraphError for what is no node. O(tasks + edges)."""
        for node in nodes:
            if not isinstance(node, Node):
                raise GraphError(
                    f"{type(node).__name__} {node!r:.60} is no node. "
                    "Call a @task function to get one; several go as dagnb.run(*nodes)."
                )
        ordered = _reachable(nodes)
        place = {node: position for position, node in enumerate(ordered)}
        seen: Counter[str] = Counter()
        calls = []
        for node in ordered:
            function = node.task.name
            calls.append(
                Call(
                    name=f"{function}-{seen[function]}",
                    function=function,
                    upstream=tuple(place[u] for u in node.upstream),
                    options=node.task.options,
                )
            )
            seen[function] += 1
        return cls(tuple(calls), tuple(place[node] for node in nodes), tuple(ordered))

    @classmethod
    def from_edges(
        cls,
        names: Sequence[str],
        edges: Iterable[tuple[str, str]],
        *,
        functions: Sequence[str] = (),
        sinks: Sequence[str] = (),
    ) -> Dag:
        """A DAG drawn from names and (upstream, downstream) edges, in a stable topological order.

        functions: the function name of each task, its own name by default. sinks: tasks without downstream by default.
        Raises CycleError naming one cycle in order; GraphError for an edge or sink of an unknown task.
        """
        place = {name: i for i, name in enumerate(names)}
        upstream: list[list[int]] = [[] for _ in names]
        downstream: list[list[int]] = [[] for _ in names]
        for a, b in dict.fromkeys(edges):
            if a not in place or b not in place:
                raise GraphError(f"edge {a!r} -> {b!r} names a task that does not exist.")
            upstream[place[b]].append(place[a])
            downstream[place[a]].append(place[b])
        for sink in sinks:
            if sink not in place:
                raise GraphError(f"sink {sink!r} names a task that does not exist.")
        order = _topological(upstream, downstream)
        if len(order) < len(names):
            raise CycleError(
                [names[i] for i in _a_cycle(upstream, set(range(len(names))) - set(order))]
            )
        rank = {old: new for new, old in enumerate(order)}
        calls = tuple(
            Call(
                name=names[old],
                function=functions[old] if functions else names[old],
                upstream=tuple(sorted(rank[u] for u in upstream[old])),
            )
            for old in order
        )
        ends = (
            [rank[place[s]] for s in sinks]
            if sinks
            else sorted(rank[i] for i in order if not downstream[i])
        )
        return cls(calls, tuple(ends))


def _reachable(nodes: Iterable[Node[Any]]) -> list[Node[Any]]:
    """All ancestors and the nodes themselves, in topological order: a node is born after what it holds."""
    found: set[Node[Any]] = set()
    stack = list(nodes)
    while stack:
        node = stack.pop()
        if node not in found:
            found.add(node)
            stack.extend(node.upstream)
    ordered = sorted(found, key=lambda node: node.serial)
    for node in ordered:
        if any(u.serial >= node.serial for u in node.upstream):
            names = [n.task.name for n in ordered]
            place = {n: i for i, n in enumerate(ordered)}
            raise CycleError(
                [
                    names[i]
                    for i in _a_cycle(
                        [[place[u] for u in n.upstream] for n in ordered], set(place.values())
                    )
                ]
            )
    return ordered


def _topological(
    upstream: Sequence[Sequence[int]], downstream: Sequence[Sequence[int]]
) -> list[int]:
    """Kahn's order, the smallest position first; shorter than the input when there is a cycle."""
    waiting = [len(u) for u in upstream]
    ready = [i for i, n in enumerate(waiting) if n == 0]
    order = []
    while ready:
        here = heapq.heappop(ready)
        order.append(here)
        for d in downstream[here]:
            waiting[d] -= 1
            if waiting[d] == 0:
                heapq.heappush(ready, d)
    return order


def _a_cycle(upstream: Sequence[Sequence[int]], among: set[int]) -> list[int]:
    """One cycle among these positions, in the direction of the edges. Precondition: one lies behind each of them."""
    here = min(among)
    path: list[int] = []
    while here not in path:
        path.append(here)
        inside = [u for u in upstream[here] if u in among]
        if not inside:
            among = among - {here}
            path, here = [], min(among)
            continue
        here = inside[0]
    return path[path.index(here) :][::-1]
