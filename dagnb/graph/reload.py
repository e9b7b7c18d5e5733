"""Follows tasks of a module that was reloaded to the ones the module has now.

After `from module import task` the notebook holds the task of that load. `%autoreload` replaces the
code of functions and classes in place; it does not know tasks, so a call would run the old code.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from types import FunctionType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from dagnb.graph.task import Task


@dataclass(frozen=True, slots=True)
class _Origin:
    """The load of its module in which a task was made, by the module's spec.

    Each load has a spec of its own. changes: the options that the task was given since.
    """

    spec: object
    changes: dict[str, Any]


# Kept outside the tasks, because attributes of a task are pickled with it.
_origins: WeakKeyDictionary[Task[..., Any], _Origin] = WeakKeyDictionary()


def note(task: Task[..., Any]) -> None:
    """Remember in which load of its module a new task was made.

    Modules of a notebook or script have no spec, and are not loaded again.
    """
    spec = _spec(task)
    if spec is not None:
        _origins[task] = _Origin(spec, {})


def note_changes(task: Task[..., Any], before: Task[..., Any], changes: dict[str, Any]) -> None:
    """Remember the options by which a task differs from the one it was made of."""
    if task not in _origins:
        return
    known = _origins.get(before)
    earlier = known.changes if known else {}
    _origins[task] = _Origin(_origins[task].spec, {**earlier, **changes})


def newest(task: Task[..., Any]) -> Any:
    """Returns the task by which the module has replaced this one; itself if it was not reloaded."""
    origin = _origins.get(task)
    if origin is None or origin.spec is _spec(task):
        return task

    current: Any = sys.modules[task.__module__]
    name: str = vars(task)["__qualname__"]
    for part in name.split("."):
        current = getattr(current, part, None)
    if isinstance(current, type(task)):
        # Options given in the notebook outlast the reload.
        return current.with_options(**origin.changes) if origin.changes else current
    if isinstance(current, FunctionType) and isinstance(task.function, FunctionType):
        # The module has the bare function: the notebook made a task of it, as task(function).
        return replace(task, function=current, signature=None)
    return task  # the name is gone, or stands for something else


def _spec(task: Task[..., Any]) -> object:
    return getattr(sys.modules.get(task.__module__), "__spec__", None)
