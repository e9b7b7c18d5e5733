"""The frozen DAG: calls in topological order, edges as positions; and the targets it is made of.

    what a run is asked for -> Targets: nodes, and the structure that held them
                            -> Dag: the calls of these nodes and of all that they need

Plans, stores and simulations see only this. A task's *position* is its index in `Dag.calls`; arrays
everywhere in dagnb are indexed by it, and every edge leads from a smaller to a larger position, so
one pass over the calls in order meets each task after all of its upstream tasks.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from typing import Any

from dagnb.errors import CycleError, GraphError, NoNodeError
from dagnb.failure import reason_of
from dagnb.graph.brief import brief, cut, number
from dagnb.graph.client_hook import Shown
from dagnb.graph.options import TaskOptions
from dagnb.graph.pickling.packing import pack, unpack
from dagnb.graph.resources import Resources
from dagnb.graph.task import Node

NO_OPTIONS = TaskOptions()

_FUNCTIONS_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One task of a DAG. upstream: positions in Dag.calls, each smaller than this call's own."""

    name: str
    function: str
    upstream: tuple[int, ...] = ()
    options: TaskOptions = NO_OPTIONS

    __repr__ = brief


@dataclass(frozen=True)
class Dag(Shown):
    """Calls in topological order, and the sinks: the positions whose values are the result.

    sinks: in the order in which they were asked for. nodes: the user's node of each call; empty for
    a DAG made from names alone.
    """

    calls: tuple[Call, ...]
    sinks: tuple[int, ...]
    nodes: tuple[Node[Any], ...] = field(default=(), repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the invariants: topological order, sinks that exist, one name per task."""
        if not self.calls or not self.sinks:
            raise GraphError("the DAG is empty. Give at least one node: dagnb.run(node).")

        for position, call in enumerate(self.calls):
            for u in call.upstream:
                if not 0 <= u < position:
                    raise GraphError(
                        f"task '{call.name}' comes before one of its upstream tasks. "
                        "Build it with Dag.from_edges."
                    )
        if any(not 0 <= s < len(self.calls) for s in self.sinks):
            raise GraphError(f"sinks {self.sinks} point outside the {len(self.calls)} tasks.")

        names = [call.name for call in self.calls]
        if len(set(names)) != len(names):
            (doubled, _), *_ = Counter(names).most_common(1)
            raise GraphError(f"two tasks are called '{doubled}'. Names must differ.")

    def __repr__(self) -> str:
        functions = Counter(call.function for call in self.calls).most_common()
        shown = [f"{n:,} {cut(name, 40)}" for name, n in functions[:_FUNCTIONS_SHOWN]]
        text = f"<DAG of {number(len(self.calls), 'task')}: {', '.join(shown)}"
        n_more = len(functions) - len(shown)
        if n_more:
            text += f" and {number(n_more, 'more function')}"
        return text + ">"

    def __len__(self) -> int:
        """Returns the number of tasks."""
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
    def needs(self) -> tuple[Resources, ...]:
        """The resources of each task. O(tasks), once."""
        # Equal ones are one object for all tasks of a function: comparing them takes long.
        known: dict[int, Resources] = {}
        needs = []
        for call in self.calls:
            key = id(call.options)
            if key not in known:
                known[key] = call.options.needs
            needs.append(known[key])
        return tuple(needs)

    @cached_property
    def all_needs(self) -> frozenset[Resources]:
        """The resources of all tasks, each once."""
        different = {id(needs): needs for needs in self.needs}
        return frozenset(different.values())

    @cached_property
    def positions(self) -> dict[str, int]:
        """The position of each task, by its name."""
        return {call.name: position for position, call in enumerate(self.calls)}

    @classmethod
    def of(cls, *nodes: Node[Any]) -> Dag:
        """Returns the DAG of everything these nodes need. O(tasks + edges).

        Raises GraphError for what is no node, CycleError.
        """
        for node in nodes:
            if not isinstance(node, Node):
                raise GraphError(
                    f"{type(node).__name__} {node!r:.60} is no node. "
                    "Call a @task function to get one; several go as dagnb.run(*nodes)."
                )

        ordered = _reachable(nodes)
        positions = {node: position for position, node in enumerate(ordered)}
        n_calls: dict[str, int] = {}
        functions: dict[int, str] = {}  # by id of the task: reading its name takes long
        calls = []
        for node in ordered:
            task = node.task
            function = functions.get(id(task)) or functions.setdefault(id(task), task.name)
            number = n_calls.get(function, 0)
            n_calls[function] = number + 1
            upstream = node.packed.references
            reads = tuple(map(positions.__getitem__, upstream)) if upstream else ()
            name = f"{function}-{number}"
            calls.append(Call(name=name, function=function, upstream=reads, options=task.options))
        return cls(
            tuple(calls),
            tuple(positions[node] for node in nodes),
            tuple(ordered),
        )

    @classmethod
    def from_edges(
        cls,
        names: Sequence[str],
        edges: Iterable[tuple[str, str]],
        *,
        functions: Sequence[str] = (),
        sinks: Sequence[str] = (),
    ) -> Dag:
        """Returns the DAG of these names and (upstream, downstream) edges, in a stable order.

        functions: the function name of each task, its own name by default.
        sinks: tasks without downstream by default.
        Raises CycleError naming one cycle in order; GraphError for an edge or sink of an unknown
        task.
        """
        given = {name: i for i, name in enumerate(names)}  # name -> position as given
        upstream: list[list[int]] = [[] for _ in names]
        downstream: list[list[int]] = [[] for _ in names]
        for a, b in dict.fromkeys(edges):  # each once, in the order given
            if a not in given or b not in given:
                raise GraphError(f"edge {a!r} -> {b!r} names a task that does not exist.")
            upstream[given[b]].append(given[a])
            downstream[given[a]].append(given[b])
        for sink in sinks:
            if sink not in given:
                raise GraphError(f"sink {sink!r} names a task that does not exist.")

        order = _topological(upstream, downstream)
        if len(order) < len(names):
            in_cycles = set(range(len(names))) - set(order)
            raise CycleError([names[i] for i in _find_cycle(upstream, in_cycles)])

        position = {old: new for new, old in enumerate(order)}
        calls = []
        for old in order:
            function = functions[old] if functions else names[old]
            reads = sorted(position[u] for u in upstream[old])
            calls.append(Call(name=names[old], function=function, upstream=tuple(reads)))
        ends = [position[given[sink]] for sink in sinks]
        if not ends:
            ends = sorted(position[i] for i in order if not downstream[i])
        return cls(tuple(calls), tuple(ends))


def _reachable(nodes: Iterable[Node[Any]]) -> list[Node[Any]]:
    """Returns the nodes and all their ancestors, in topological order."""
    reached: set[Node[Any]] = set()
    stack = list(nodes)
    while stack:
        node = stack.pop()
        if node not in reached:
            reached.add(node)
            stack.extend(node.packed.references)

    # A node is made after the nodes among its arguments, so its serial number is larger than
    # theirs.
    ordered = sorted(reached, key=attrgetter("serial"))
    for node in ordered:
        for u in node.packed.references:
            if u.serial >= node.serial:
                raise CycleError(_cycle_of(ordered))
    return ordered


def _cycle_of(nodes: Sequence[Node[Any]]) -> list[str]:
    """Returns the functions along a cycle; only a node changed by object.__setattr__ is in one."""
    positions = {node: i for i, node in enumerate(nodes)}
    upstream = [list(map(positions.__getitem__, node.upstream)) for node in nodes]
    return [nodes[i].task.name for i in _find_cycle(upstream, set(positions.values()))]


def _topological(
    upstream: Sequence[Sequence[int]], downstream: Sequence[Sequence[int]]
) -> list[int]:
    """Returns Kahn's order, smallest position first; shorter than the input if there is a cycle."""
    n_missing = list(map(len, upstream))
    ready = [i for i, n in enumerate(n_missing) if n == 0]  # ascending, so already a heap
    order = []
    while ready:
        position = heapq.heappop(ready)
        order.append(position)
        for d in downstream[position]:
            n_missing[d] -= 1
            if n_missing[d] == 0:
                heapq.heappush(ready, d)
    return order


def _find_cycle(upstream: Sequence[Sequence[int]], among: set[int]) -> list[int]:
    """Returns one cycle among these positions, in the direction of the edges.

    Precondition: there is one. A position may also lie downstream of a cycle without being in it.
    """
    position = min(among)
    path: list[int] = []
    while position not in path:
        path.append(position)
        inside = [u for u in upstream[position] if u in among]
        if inside:
            position = inside[0]
        else:  # a dead end, which is in no cycle: the walk begins again without it
            among = among - {position}
            path, position = [], min(among)
    # The walk went upstream, against the edges.
    return path[path.index(position) :][::-1]


# ---- targets ----


@dataclass(frozen=True, slots=True)
class Targets:
    """Nodes to compute.

    structure: the pickle of the structure that contains them; b'' for nodes given one by one.
    """

    nodes: tuple[Node[Any], ...]
    structure: bytes = b""

    __repr__ = brief

    @classmethod
    def of(cls, *targets: Any) -> Targets:
        """Returns the nodes asked for: one, several, or structures of nodes, such as a list.

        Raises NoNodeError for a structure without a node, GraphError if it cannot be pickled.
        """
        if targets and all(isinstance(target, Node) for target in targets):
            return cls(targets)

        for target in targets:
            if not isinstance(target, Node) and not _packed(target)[0]:
                raise NoNodeError(type(target).__name__, f"{target!r:.60}")
        if not targets:
            raise GraphError("there is nothing to run. Give at least one node: dagnb.run(node).")
        return cls(*_packed(targets[0] if len(targets) == 1 else targets))


def shaped(structure: bytes, values: Sequence[Any]) -> Any:
    """Returns the structure with a value in the place of each node.

    The bytes must be verified: unpickling runs code.
    """
    return unpack(structure, values, ())


def _packed(value: Any) -> tuple[tuple[Node[Any], ...], bytes]:
    try:
        packed = pack(value, Node, in_band=True)
    except Exception as error:  # pickling runs the user's code, which may raise anything
        raise GraphError(
            f"the {type(value).__name__} that was asked for cannot be pickled: "
            f"{reason_of(error)}. "
            "Put only nodes and plain data into it."
        ) from error
    return packed.references, packed.body
