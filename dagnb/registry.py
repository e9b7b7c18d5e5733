"""Finds planners, launchers and programs by name, through entry points; nobody imports an arm directly."""

from __future__ import annotations

import functools
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from dagnb.errors import UnknownNameError

GROUPS = {
    "planner": "dagnb.planners",
    "launcher": "dagnb.launchers",
    "extension": "dagnb.extension",
    "program": "dagnb.programs",
    "host": "dagnb.hosts",
    "notebook": "dagnb.notebooks",
    "stand-in": "dagnb.stand_ins",
}
"""kind of thing -> entry-point group that holds it"""

_added: dict[tuple[str, str], Any] = {}


def add(kind: str, name: str, thing: Any) -> None:
    """Register a thing of this process under a name; it hides an entry point of the same name."""
    _added[kind, name] = thing


def find(kind: str, name: str) -> Any:
    """The thing registered under the name. Raises UnknownNameError with the nearest name there is."""
    if (kind, name) in _added:
        return _added[kind, name]
    points = _points(kind)
    if name not in points:
        raise UnknownNameError(kind, name, names(kind))
    return points[name].load()


def module(kind: str, name: str) -> str:
    """The module of what is registered under the name, for who executes it. Raises UnknownNameError."""
    points = _points(kind)
    if name not in points:
        raise UnknownNameError(kind, name, names(kind))
    return points[name].module


def names(kind: str) -> tuple[str, ...]:
    """Every name of a kind, sorted."""
    return tuple(sorted({*_points(kind), *(name for known, name in _added if known == kind)}))


@functools.cache
def _points(kind: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUPS[kind])}
