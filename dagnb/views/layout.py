"""The layout of a DAG or a plan: which boxes and edges are drawn, and where.

    Dag or Plan -> Picture   boxes and edges, folded until a person can take them in
    Picture     -> Placed    positions of boxes and curves, computed by Graphviz

Live view, plan image, report and terminal all draw this picture. A small DAG has one box per task.
For a larger one these foldings are tried, the finest first, until boxes and edges are few enough:

    a box a                                     shown as
    task                                        count-0   count-1   count-2
    function, level and worker                  count on w0   count on w1
    function and level                          count
    function and band of 2, 4, 8, ... levels    count      (deep chains)
    level, then band of 2, 4, 8, ... levels     7 functions

Graphviz computes positions only; this room draws. The SVG of Graphviz can neither carry data
attributes and progress bars nor follow a notebook's theme. It is the only program that this room
starts.
"""

from __future__ import annotations

import functools
import itertools
import shlex
import shutil
import subprocess
import sysconfig
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import graphviz

from dagnb.errors import ConfigError
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

    @functools.cached_property
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


# ---- positions ----

Point: TypeAlias = tuple[float, float]

LIMIT_S = 60.0
"""seconds; no picture with so few boxes takes Graphviz longer, unless it hangs"""

_CURE = (
    "Install Graphviz (apt install graphviz, brew install graphviz, conda install graphviz) "
    "or its wheel: pip install graphviz-pure."
)
_INCH = 72.0
"""pixels in an inch, the unit of all lengths that Graphviz reads and writes"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Positions in pixels from the top left corner.

    centres: of each box. curves: of each edge, the 3n + 1 points of a Bezier spline.
    """

    width: float
    height: float
    centres: tuple[Point, ...]
    curves: tuple[tuple[Point, ...], ...]

    __repr__ = brief


def place(picture: Picture, *, box_width: float, box_height: float) -> Placed:
    """Place boxes of one size. Raises ConfigError with the cure when there is no Graphviz."""
    placed = _plain(_source(picture, box_width, box_height))
    pairs = [(edge.tail, edge.head) for edge in picture.edges]
    return _read(placed, len(picture.boxes), pairs)


def dot_program() -> str:
    """Path of `dot`, or of `graphviz-pure`. Raises ConfigError with the cure."""
    if dot := shutil.which("dot"):
        return dot
    # A kernel's PATH often lacks the scripts of its own environment, where pip puts graphviz-pure.
    scripts = sysconfig.get_path("scripts")
    pure = shutil.which("graphviz-pure", path=scripts) or shutil.which("graphviz-pure")
    if pure is None:
        raise ConfigError(
            f"no Graphviz here: neither 'dot' on PATH nor 'graphviz-pure' in {scripts}. {_CURE}"
        )
    return pure


def _source(picture: Picture, box_width: float, box_height: float) -> str:
    """The picture in DOT; ids hold letters, digits and underscores only."""
    # Edges leave and enter at the middle of a side: e, w, s and n are sides of a box.
    direction, ranksep, tail, head = "TB", "0.38", "s", "n"
    if _is_rightwards(picture, box_width):
        direction, ranksep, tail, head = "LR", "0.6", "e", "w"
    graph = graphviz.Digraph("dagnb")
    graph.attr(
        "graph",
        rankdir=direction,
        nodesep="0.22",
        ranksep=ranksep,
        splines="true",
    )
    size = {"width": f"{box_width / _INCH:.4f}", "height": f"{box_height / _INCH:.4f}"}
    # Sizes are fixed, because Graphviz does not know our font; arrow heads are drawn by us.
    graph.attr("node", shape="box", fixedsize="true", label="", **size)
    graph.attr("edge", arrowhead="none", tailport=tail, headport=head)
    for position in range(len(picture.boxes)):
        graph.node(f"n{position}")
    for edge in picture.edges:
        graph.edge(f"n{edge.tail}", f"n{edge.head}")
    return str(graph.source)


def _is_rightwards(picture: Picture, box_width: float) -> bool:
    """Returns whether levels go from left to right.

    They do unless the picture would be too wide for a page, and narrower from top to bottom.
    """
    on_level = Counter(box.level for box in picture.boxes)
    rightwards = len(on_level) * (box_width + 43)  # ranksep of 0.6 inches
    downwards = max(on_level.values()) * (box_width + 16)  # nodesep of 0.22 inches
    return rightwards <= 1100 or rightwards <= downwards


@functools.lru_cache(maxsize=64)
def _plain(source: str) -> str:
    """Run Graphviz. Returns its output in the plain format.

    The output is cached: a live view and its final picture need the same positions.
    """
    command = [dot_program(), "-Kdot", "-Tplain"]
    try:
        done = subprocess.run(
            command,
            input=source,
            encoding="utf-8",
            capture_output=True,
            timeout=LIMIT_S,
            check=True,
        )
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"'{command[0]}' placed nothing within {LIMIT_S:g} s. {_CURE}") from error
    except subprocess.CalledProcessError as error:
        raise ConfigError(
            f"'{command[0]}' cannot be used: {error} It said: {error.stderr.strip()}. {_CURE}"
        ) from error
    except OSError as error:
        raise ConfigError(f"'{command[0]}' cannot be used: {error}. {_CURE}") from error
    return str(done.stdout)


def _read(text: str, n_boxes: int, pairs: Sequence[tuple[int, int]]) -> Placed:
    """Read the statements `graph`, `node` and `edge` of the plain format.

    graph SCALE WIDTH HEIGHT; node NAME X Y ...; edge TAIL HEAD N X1 Y1 ... XN YN ...; y grows
    upwards. pairs: tails and heads of the edges, in the order of the picture.
    """
    width = height = 0.0
    centres: dict[int, Point] = {}
    curves: dict[tuple[int, int], tuple[Point, ...]] = {}
    for line in text.replace("\\\n", "").splitlines():  # a backslash joins long lines
        kind, *rest = shlex.split(line)
        if kind == "graph":
            width, height = float(rest[1]) * _INCH, float(rest[2]) * _INCH
        elif kind == "node":
            centres[int(rest[0][1:])] = (float(rest[1]) * _INCH, height - float(rest[2]) * _INCH)
        elif kind == "edge":
            points = []
            for i in range(3, 3 + 2 * int(rest[2]), 2):
                x, y = float(rest[i]) * _INCH, float(rest[i + 1]) * _INCH
                points.append((x, height - y))
            curves[int(rest[0][1:]), int(rest[1][1:])] = tuple(points)
    return Placed(
        width=width,
        height=height,
        centres=tuple(centres[i] for i in range(n_boxes)),
        curves=tuple(curves.get(pair, ()) for pair in pairs),
    )
