"""Positions of boxes and curves, computed by Graphviz: the only file here that starts a program.

Graphviz computes positions only; this room draws. The SVG of Graphviz can neither carry data
attributes and progress bars nor follow a notebook's theme.
"""

from __future__ import annotations

import functools
import shlex
import shutil
import subprocess
import sysconfig
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import graphviz

from dagnb.errors import ConfigError
from dagnb.graph.brief import brief
from dagnb.views.layout import Picture

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


def program() -> str:
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
    command = [program(), "-Kdot", "-Tplain"]
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
