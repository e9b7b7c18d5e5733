"""The picture of a DAG or a plan as data: boxes and edges, folded until a person can take it in.

Live view, plan image, report and terminal all draw this. Few tasks are one box each. Above, tasks of one function,
level and worker share a box; if that is still too much (a deep chain), bands of levels do; at last whatever a band
holds.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from dagnb.graph import shape
from dagnb.graph.brief import brief
from dagnb.graph.dag import Dag
from dagnb.planning.plan import Plan

MAX_BOXES = 60
MAX_EDGES = 240
"""what a person can take in: no picture has more"""

PRESSING = ("failed", "retrying", "running", "ready", "cancelled", "waiting", "skipped", "done")
"""states by how much they want to be seen: a box shows the first that any of its tasks is in"""

_Key: TypeAlias = Callable[[int], Hashable]


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """One box. tasks: positions it stands for, ascending. function: None when they are of several.

    place: the worker in a plan, `~resources` for a pool, "" in a DAG or when the box holds several.
    level: of its first task, counted from the sources.
    """

    id: str
    label: str
    function: str | None
    level: int
    tasks: tuple[int, ...]
    place: str = ""

    __repr__ = brief


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """An arrow between two boxes, by their positions in the picture; it stands for `n` edges between tasks."""

    tail: int
    head: int
    n: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a box is. counts: state -> tasks, in the order of PRESSING; state: the most pressing of them."""

    state: str
    counts: Mapping[str, int]

    __repr__ = brief


@dataclass(frozen=True)
class Picture:
    """Boxes in the order of their first tasks, and edges between different boxes, each pair once."""

    boxes: tuple[Box, ...]
    edges: tuple[Edge, ...]

    __repr__ = brief

    @cached_property
    def box_of(self) -> dict[int, int]:
        """task position -> position of its box."""
        return {task: i for i, box in enumerate(self.boxes) for task in box.tasks}

    @property
    def is_folded(self) -> bool:
        """Whether some box stands for several tasks."""
        return any(len(box.tasks) > 1 for box in self.boxes)

    def to_dict(self, states: Mapping[int, str] | None = None) -> dict[str, object]:
        """The picture for JSON; with states also each box's state and counts."""
        boxes = []
        for box in self.boxes:
            entry: dict[str, object] = {
                "id": box.id,
                "label": box.label,
                "function": box.function,
                "level": box.level,
            }
            entry |= {"place": box.place, "tasks": list(box.tasks)}
            if states is not None:
                now = progress(box, states)
                entry |= {"state": now.state, "counts": dict(now.counts)}
            boxes.append(entry)
        return {
            "boxes": boxes,
            "edges": [{"tail": e.tail, "head": e.head, "n": e.n} for e in self.edges],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cells:
    """What folding needs of a DAG or plan, position by position."""

    names: Sequence[str]
    functions: Sequence[str]
    levels: Sequence[int]
    upstream: Sequence[Sequence[int]]
    places: Sequence[str]


def of_dag(dag: Dag) -> Picture:
    """The picture of a DAG; tasks are positions in Dag.calls. O((tasks + edges) log depth)."""
    calls = dag.calls
    return _folded(
        _Cells(
            names=[call.name for call in calls],
            functions=[call.function for call in calls],
            levels=shape.levels(dag),
            upstream=[call.upstream for call in calls],
            places=[""] * len(calls),
        )
    )


def of_plan(plan: Plan) -> Picture:
    """The picture of a plan; tasks are positions in Plan.steps. Different workers have different boxes if possible."""
    levels = shape.levels(plan.dag)
    return _folded(
        _Cells(
            names=plan.names,
            levels=[levels[step.task] for step in plan.steps],
            functions=[plan.dag.calls[step.task].function for step in plan.steps],
            upstream=[step.upstream for step in plan.steps],
            places=[
                f"~{step.resources.label()}" if step.worker is None else step.worker
                for step in plan.steps
            ],
        )
    )


def progress(box: Box, states: Mapping[int, str]) -> Progress:
    """How far a box is; tasks without a state are waiting."""
    tally = Counter(states.get(task, "waiting") for task in box.tasks)
    counts = {state: tally[state] for state in PRESSING if tally[state]}
    return Progress(state=next(iter(counts), "waiting"), counts=counts)


def _folded(cells: _Cells) -> Picture:
    """The finest picture with few enough boxes."""
    groups: list[list[int]] = []
    edges: tuple[Edge, ...] = ()
    for key in _keys(cells):
        groups = _grouped(key, len(cells.names))
        if len(groups) <= MAX_BOXES:
            edges = _edges(groups, cells.upstream)
            if len(edges) <= MAX_EDGES:
                break
    calls = Counter(cells.functions)
    return Picture(tuple(_box(i, group, cells, calls) for i, group in enumerate(groups)), edges)


def _edges(groups: Sequence[Sequence[int]], upstream: Sequence[Sequence[int]]) -> tuple[Edge, ...]:
    """Each pair of boxes once. Of two boxes that lead to one another only forth: a DAG has no cycles."""
    box_of = {task: i for i, group in enumerate(groups) for task in group}
    pairs = Counter((box_of[u], box_of[task]) for task, mine in enumerate(upstream) for u in mine)
    for a, b in sorted(pairs):
        if a > b and (b, a) in pairs:
            pairs[b, a] += pairs.pop((a, b))
    return tuple(Edge(tail=a, head=b, n=n) for (a, b), n in sorted(pairs.items()) if a != b)


def _keys(cells: _Cells) -> Iterator[_Key]:
    """Ways to fold, the finest first; the last gives one box."""
    functions, levels, places = cells.functions, cells.levels, cells.places
    bands = [2**i for i in range(1, (max(levels) + 1).bit_length() + 1)]
    yield lambda i: i
    yield lambda i: (functions[i], levels[i], places[i])
    yield lambda i: (functions[i], levels[i])
    for band in bands:
        yield lambda i, band=band: (functions[i], levels[i] // band)  # type: ignore[misc]  # the default binds the loop's value
    for band in (1, *bands):
        yield lambda i, band=band: levels[i] // band  # type: ignore[misc]  # as above


def _grouped(key: _Key, n: int) -> list[list[int]]:
    """Positions by key, in order of first appearance."""
    groups: dict[Hashable, list[int]] = {}
    for i in range(n):
        groups.setdefault(key(i), []).append(i)
        if len(groups) > MAX_BOXES:
            break  # too many already: whoever asked tries the next key
    return list(groups.values())


def _box(position: int, group: Sequence[int], cells: _Cells, calls: Counter[str]) -> Box:
    functions = {cells.functions[i] for i in group}
    places = {cells.places[i] for i in group}
    function = functions.pop() if len(functions) == 1 else None
    if function is None:
        label = f"{len(functions)} functions"
    else:
        label = cells.names[group[0]] if len(group) == 1 and calls[function] > 1 else function
    return Box(
        id=f"b{position}",
        label=label,
        function=function,
        level=cells.levels[group[0]],
        tasks=tuple(group),
        place=places.pop() if len(places) == 1 else "",
    )


def ranges(positions: Sequence[int]) -> str:
    """Ascending positions in short.

    >>> ranges([0, 1, 2, 5, 7, 8])
    '0-2,5,7-8'
    """
    parts = []
    for _, run in itertools.groupby(enumerate(positions), key=lambda pair: pair[1] - pair[0]):
        numbers = [position for _, position in run]
        parts.append(f"{numbers[0]}-{numbers[-1]}" if len(numbers) > 1 else str(numbers[0]))
    return ",".join(parts)
