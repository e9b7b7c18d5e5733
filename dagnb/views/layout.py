"""The picture of a DAG or a plan as data: boxes and edges, folded until a person can take it in.

Live view, plan image, report and terminal all draw this picture. A small DAG has one box per task.
For a larger one these foldings are tried, the finest first, until boxes and edges are few enough:

    a box a                                     shown as
    task                                        count-0   count-1   count-2
    function, level and worker                  count on w0   count on w1
    function and level                          count
    function and band of 2, 4, 8, ... levels    count      (deep chains)
    level, then band of 2, 4, 8, ... levels     7 functions
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeAlias

from dagnb.graph import shape
from dagnb.graph.brief import brief
from dagnb.graph.dag import Dag
from dagnb.graph.resources import Resources
from dagnb.planning.plan import Plan, Step

MAX_BOXES = 60
MAX_EDGES = 240
"""boxes and edges of a picture: what a person can take in"""

PRESSING = ("failed", "retrying", "running", "ready", "cancelled", "waiting", "skipped", "done")
"""states, the most urgent for a reader first: a box shows the first that any of its tasks is in"""

_Key: TypeAlias = Callable[[int], Hashable]


class Placement(NamedTuple):
    """The placement of steps of a plan: a worker with a name, or any worker of a pool."""

    worker: str | None
    pool: Resources | None

    @classmethod
    def of(cls, step: Step) -> Placement:
        """The placement of a step."""
        if step.worker is not None:
            return cls(step.worker, None)
        return cls(None, step.resources)


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """One box. tasks: positions it stands for, ascending. function: None when they are of several.

    placement: None in a DAG, or when its steps have several. level: of its first task, from the
    sources.
    """

    id: str
    label: str
    function: str | None
    level: int
    tasks: tuple[int, ...]
    placement: Placement | None = None

    __repr__ = brief

    @property
    def is_floating(self) -> bool:
        """Returns whether any worker of one pool may take all its steps."""
        return self.placement is not None and self.placement.pool is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """An arrow between two boxes, by their positions; it stands for `n` edges between tasks."""

    tail: int
    head: int
    n: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """States of the tasks of a box.

    counts: state -> tasks, in the order of PRESSING. state: the first of them.
    """

    state: str
    counts: Mapping[str, int]

    __repr__ = brief


@dataclass(frozen=True)
class Picture:
    """Boxes in the order of their first tasks, and edges between them, each pair once."""

    boxes: tuple[Box, ...]
    edges: tuple[Edge, ...]

    __repr__ = brief

    @cached_property
    def box_of(self) -> dict[int, int]:
        """Position of a task -> position of its box."""
        return {task: i for i, box in enumerate(self.boxes) for task in box.tasks}

    @property
    def is_folded(self) -> bool:
        """Returns whether some box stands for several tasks."""
        return any(len(box.tasks) > 1 for box in self.boxes)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cells:
    """The properties of a DAG's tasks or a plan's steps that folding needs, by position."""

    names: Sequence[str]
    functions: Sequence[str]
    levels: Sequence[int]
    upstream: Sequence[Sequence[int]]
    placements: Sequence[Placement | None]


def of_dag(dag: Dag) -> Picture:
    """The picture of a DAG; tasks are positions in Dag.calls. O((tasks + edges) log depth)."""
    calls = dag.calls
    return _folded(
        _Cells(
            names=[call.name for call in calls],
            functions=[call.function for call in calls],
            levels=shape.levels(dag),
            upstream=[call.upstream for call in calls],
            placements=[None] * len(calls),
        )
    )


def of_plan(plan: Plan) -> Picture:
    """The picture of a plan; tasks are positions in Plan.steps.

    Steps of different workers are in different boxes, unless there are too many of them.
    """
    levels = shape.levels(plan.dag)
    return _folded(
        _Cells(
            names=plan.names,
            levels=[levels[step.task] for step in plan.steps],
            functions=step_functions(plan),
            upstream=[step.upstream for step in plan.steps],
            placements=list(map(Placement.of, plan.steps)),
        )
    )


def step_functions(plan: Plan) -> list[str]:
    """The function of each step of a plan."""
    return [plan.dag.calls[step.task].function for step in plan.steps]


def progress(box: Box, states: Mapping[int, str]) -> Progress:
    """The states of a box; tasks without a state are waiting."""
    tally = Counter(states.get(task, "waiting") for task in box.tasks)
    counts = {state: tally[state] for state in PRESSING if tally[state]}
    return Progress(state=next(iter(counts), "waiting"), counts=counts)


def _folded(cells: _Cells) -> Picture:
    """The finest picture with few enough boxes and edges."""
    groups: list[list[int]] = []
    edges: tuple[Edge, ...] = ()
    # The last key gives one box without edges, so some key fits.
    for key in _keys(cells):
        groups = _grouped(key, len(cells.names))
        if len(groups) <= MAX_BOXES:
            edges = _edges(groups, cells.upstream)
            if len(edges) <= MAX_EDGES:
                break
    calls = Counter(cells.functions)
    boxes = [_box(i, group, cells, calls) for i, group in enumerate(groups)]
    return Picture(tuple(boxes), edges)


def _edges(groups: Sequence[Sequence[int]], upstream: Sequence[Sequence[int]]) -> tuple[Edge, ...]:
    """The edges between groups, each pair once."""
    box_of = {task: i for i, group in enumerate(groups) for task in group}
    pairs: Counter[tuple[int, int]] = Counter()
    for task, before in enumerate(upstream):
        for u in before:
            pairs[box_of[u], box_of[task]] += 1

    # Folding may give two boxes with edges in both directions. Only the forward edge is drawn: with
    # both, the picture would show a cycle, which the DAG does not have.
    for a, b in sorted(pairs):
        if a > b and (b, a) in pairs:
            pairs[b, a] += pairs.pop((a, b))
    return tuple(Edge(tail=a, head=b, n=n) for (a, b), n in sorted(pairs.items()) if a != b)


def _keys(cells: _Cells) -> Iterator[_Key]:
    """The ways to fold, the finest first; the last gives one box."""
    functions, levels, placements = cells.functions, cells.levels, cells.placements
    bands = [2**i for i in range(1, (max(levels) + 1).bit_length() + 1)]
    yield lambda i: i
    yield lambda i: (functions[i], levels[i], placements[i])
    yield lambda i: (functions[i], levels[i])
    for band in bands:
        yield _by_function_and_band(functions, levels, band)
    for band in (1, *bands):
        yield _by_band(levels, band)


def _by_function_and_band(functions: Sequence[str], levels: Sequence[int], band: int) -> _Key:
    return lambda i: (functions[i], levels[i] // band)


def _by_band(levels: Sequence[int], band: int) -> _Key:
    return lambda i: levels[i] // band


def _grouped(key: _Key, n: int) -> list[list[int]]:
    """Positions by key, in order of first appearance; incomplete when there are too many groups."""
    groups: dict[Hashable, list[int]] = {}
    for i in range(n):
        groups.setdefault(key(i), []).append(i)
        if len(groups) > MAX_BOXES:
            break  # too many already: the next key is tried
    return list(groups.values())


def _box(position: int, group: Sequence[int], cells: _Cells, calls: Counter[str]) -> Box:
    first = group[0]
    functions = {cells.functions[i] for i in group}
    function = None
    if len(functions) > 1:
        label = f"{len(functions)} functions"
    else:
        function = cells.functions[first]
        label = function
        # The name 'load-0' says no more than 'load' when `load` is called once.
        if len(group) == 1 and calls[function] > 1:
            label = cells.names[first]
    placements = {cells.placements[i] for i in group}
    return Box(
        id=f"b{position}",
        label=label,
        function=function,
        level=cells.levels[first],
        tasks=tuple(group),
        placement=placements.pop() if len(placements) == 1 else None,
    )


def ranges(positions: Sequence[int]) -> str:
    """Ascending positions as text, short even for ten thousand tasks.

    >>> ranges([0, 1, 2, 5, 7, 8])
    '0-2,5,7-8'
    """
    parts = []
    # Within a run of successive positions, position minus index is constant.
    for _, run in itertools.groupby(enumerate(positions), key=lambda pair: pair[1] - pair[0]):
        first, *others = [position for _, position in run]
        parts.append(f"{first}-{others[-1]}" if others else str(first))
    return ",".join(parts)
