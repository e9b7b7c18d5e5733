"""Where boxes and curves go: the only caller of Graphviz, and the only file of this room that starts a program.

Graphviz places; we draw. Its own SVG could neither carry data attributes and progress bars nor follow a notebook's
theme.
"""

from __future__ import annotations

import functools
import shlex
import shutil
import subprocess
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import graphviz

from dagnb.errors import ConfigError
from dagnb.graph.brief import brief
from dagnb.views.layout import Picture

Point: TypeAlias = tuple[float, float]

LIMIT_S = 60.0
"""no picture of ours takes Graphviz longer, unless it hangs"""

_CURE = (
    "Install Graphviz (apt install graphviz, brew install graphviz, conda install graphviz) "
    "or its wheel: pip install graphviz-pure."
)
_INCH = 72.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Pixels from the top left. centres: one a box; curves: one an edge, points of a Bezier spline, 3n + 1 each."""

    width: float
    height: float
    centres: tuple[Point, ...]
    curves: tuple[tuple[Point, ...], ...]

    __repr__ = brief


def place(picture: Picture, *, box_width: float, box_height: float) -> Placed:
    """Places for boxes of one size. Raises ConfigError with the cure when there is no Graphviz."""
    source = _source(picture, box_width, box_height)
    return _read(
        _plain(source), len(picture.boxes), [(edge.tail, edge.head) for edge in picture.edges]
    )


def program() -> str:
    """Path of `dot`, or of `graphviz-pure` beside this interpreter. Raises ConfigError with the cure."""
    scripts = sysconfig.get_path("scripts")
    found = (
        shutil.which("dot")
        or shutil.which("graphviz-pure", path=scripts)
        or shutil.which("graphviz-pure")
    )
    if found is None:
        raise ConfigError(
            f"no Graphviz here: neither 'dot' on PATH nor 'graphviz-pure' in {scripts}. {_CURE}"
        )
    return found


def _source(picture: Picture, box_width: float, box_height: float) -> str:
    """The picture in DOT; ids hold letters, digits and underscores only."""
    rightwards = _is_rightwards(picture, box_width)
    graph = graphviz.Digraph("dagnb")
    direction, ranksep, tail, head = (
        ("LR", "0.6", "e", "w") if rightwards else ("TB", "0.38", "s", "n")
    )
    graph.attr("graph", rankdir=direction, nodesep="0.22", ranksep=ranksep, splines="true")
    size = {"width": f"{box_width / _INCH:.4f}", "height": f"{box_height / _INCH:.4f}"}
    graph.attr("node", shape="box", fixedsize="true", label="", **size)
    graph.attr("edge", arrowhead="none", tailport=tail, headport=head)
    for position in range(len(picture.boxes)):
        graph.node(f"n{position}")
    for edge in picture.edges:
        graph.edge(f"n{edge.tail}", f"n{edge.head}")
    return str(graph.source)


def _is_rightwards(picture: Picture, box_width: float) -> bool:
    """Whether levels go from left to right: unless that is too wide for a page and downwards is less so."""
    on_level: dict[int, int] = {}
    for box in picture.boxes:
        on_level[box.level] = on_level.get(box.level, 0) + 1
    across = len(on_level) * (box_width + 43)
    return across <= 1100 or across <= max(on_level.values()) * (box_width + 16)


@functools.lru_cache(maxsize=64)
def _plain(source: str) -> str:
    """Graphviz' plain output; a live view asks for the same picture again and again."""
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
    """The statements `graph`, `node` and `edge` of the plain format; y grows upwards there."""
    width = height = 0.0
    centres: dict[int, Point] = {}
    curves: dict[tuple[int, int], tuple[Point, ...]] = {}
    for line in text.replace("\\\n", "").splitlines():
        kind, *rest = shlex.split(line)
        if kind == "graph":
            width, height = float(rest[1]) * _INCH, float(rest[2]) * _INCH
        elif kind == "node":
            centres[int(rest[0][1:])] = (float(rest[1]) * _INCH, height - float(rest[2]) * _INCH)
        elif kind == "edge":
            flat = [float(number) * _INCH for number in rest[3 : 3 + 2 * int(rest[2])]]
            points = tuple((x, height - y) for x, y in zip(flat[::2], flat[1::2], strict=True))
            curves[int(rest[0][1:]), int(rest[1][1:])] = points
    return Placed(
        width=width,
        height=height,
        centres=tuple(centres[i] for i in range(n_boxes)),
        curves=tuple(curves.get(pair, ()) for pair in pairs),
    )
