"""Finds planners, launchers and programs by name.

Entry points connect the hub with its arms: the hub imports no arm, and other packages add planners
and launchers of their own to the same groups.
"""

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

# Objects that add() registered. find() alone looks here first; other processes only know entry
# points.
_added: dict[tuple[str, str], Any] = {}


def add(kind: str, name: str, thing: Any) -> None:
    """Register a thing of this process under a name.

    It hides an entry point of the same name, so that a notebook may try a variant of a planner.
    """
    _added[kind, name] = thing


def find(kind: str, name: str) -> Any:
    """Returns the thing registered under the name.

    Raises UnknownNameError, which suggests the nearest name.
    """
    if (kind, name) in _added:
        return _added[kind, name]
    points = _points(kind)
    if name not in points:
        raise UnknownNameError(kind, name, names(kind))
    return points[name].load()


def module(kind: str, name: str) -> str:
    """Returns the module of an entry point, not imported: another process will run it.

    Raises UnknownNameError.
    """
    points = _points(kind)
    if name not in points:
        raise UnknownNameError(kind, name, names(kind))
    return points[name].module


def names(kind: str) -> tuple[str, ...]:
    """Returns every name of a kind, sorted."""
    added = [name for known, name in _added if known == kind]
    return tuple(sorted({*_points(kind), *added}))


# Reading the metadata of all installed packages takes tens of milliseconds.
@functools.cache
def _points(kind: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUPS[kind])}
