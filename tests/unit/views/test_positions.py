"""Where Graphviz puts boxes, and what happens without it."""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path

import pytest

from dagnb.errors import ConfigError
from dagnb.views.layout import Placed, dot_program, of_dag, place
from tests import graphs

needs_dot = pytest.mark.skipif(shutil.which("dot") is None, reason="no dot on PATH")
needs_wheel = pytest.mark.skipif(
    shutil.which("graphviz-pure", path=sysconfig.get_path("scripts")) is None,
    reason="graphviz-pure is not installed",
)


def close(a: float, b: float) -> bool:
    return abs(a - b) < 1.5


def laid(placed: Placed) -> None:
    """Boxes of 90 by 30 lie inside, apart from one another."""
    for x, y in placed.centres:
        assert 45 <= x + 1 <= placed.width - 43
        assert 15 <= y + 1 <= placed.height - 13
    pairs = [(a, b) for i, a in enumerate(placed.centres) for b in placed.centres[i + 1 :]]
    assert all(abs(a[0] - b[0]) >= 90 or abs(a[1] - b[1]) >= 30 for a, b in pairs)


@pytest.mark.parametrize("name", graphs.SMALL)
def test_boxes_lie_apart_and_curves_lead_from_box_to_box(name: str) -> None:
    picture = of_dag(graphs.SMALL[name])
    placed = place(picture, box_width=90, box_height=30)

    laid(placed)
    for edge, curve in zip(picture.edges, placed.curves, strict=True):
        (x1, y1), (x2, y2) = placed.centres[edge.tail], placed.centres[edge.head]
        begin, end = curve[0], curve[-1]
        assert len(curve) % 3 == 1
        rightwards = (
            close(begin[0], x1 + 45)
            and close(begin[1], y1)
            and close(end[0], x2 - 45)
            and close(end[1], y2)
        )
        downwards = (
            close(begin[1], y1 + 15)
            and close(begin[0], x1)
            and close(end[1], y2 - 15)
            and close(end[0], x2)
        )
        assert rightwards or downwards


def test_levels_go_from_left_to_right_unless_there_are_many() -> None:
    few = place(of_dag(graphs.chain(4)), box_width=90, box_height=30)
    many = place(of_dag(graphs.chain(40)), box_width=90, box_height=30)

    assert few.width > few.height
    assert many.height > many.width
    assert [y for _, y in many.centres] == sorted(y for _, y in many.centres)


@needs_dot
@needs_wheel
def test_the_wheel_alone_gives_the_same_sizes_as_the_program(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    by_program = place(of_dag(graphs.diamond()), box_width=91, box_height=31)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Path(dot_program()).name == "graphviz-pure"

    by_wheel = place(of_dag(graphs.diamond()), box_width=91.5, box_height=31)
    assert len(by_wheel.curves) == 4
    assert abs(by_wheel.width - by_program.width) < 10


def bare(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """A machine with nothing but this folder."""
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(folder))


def test_without_graphviz_the_error_tells_both_cures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bare(monkeypatch, tmp_path)

    with pytest.raises(ConfigError, match=r"apt install graphviz.*pip install graphviz-pure"):
        place(of_dag(graphs.diamond()), box_width=92, box_height=32)


def test_a_broken_graphviz_is_named_in_the_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "dot"
    broken.write_text("#!/bin/sh\necho no library >&2\nexit 3\n")
    broken.chmod(0o700)
    bare(monkeypatch, tmp_path)

    with pytest.raises(ConfigError, match=f"'{broken}' cannot be used.*no library"):
        place(of_dag(graphs.diamond()), box_width=93, box_height=33)


def test_a_dot_on_the_path_goes_before_the_wheel(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("dot", "graphviz-pure"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o700)
    bare(monkeypatch, tmp_path)

    assert dot_program() == str(tmp_path / "dot")
