"""Tasks of a module that was reloaded: an older one, as `from module import task` left it, is what the module has now.

`%autoreload` does the same for functions and classes, whose code it replaces in place; of tasks it knows nothing.
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
    """The load of its module that a task is of, by the module's spec; and the options it was given since."""

    spec: object
    changes: dict[str, Any]


_origins: WeakKeyDictionary[Task[..., Any], _Origin] = WeakKeyDictionary()
"""beside the tasks, not in them: what a task holds travels with it"""


def note(task: Task[..., Any]) -> None:
    """Remember which load of its module a new task is of; those of a notebook or script have no such thing."""
    spec = _spec(task)
    if spec is not None:
        _origins[task] = _Origin(spec, {})


def note_changes(task: Task[..., Any], before: Task[..., Any], changes: dict[str, Any]) -> None:
    """Remember the options by which a task differs from the one it was made of."""
    if task in _origins:
        known = _origins.get(before)
        _origins[task] = _Origin(
            _origins[task].spec, {**(known.changes if known else {}), **changes}
        )


def newest(task: Task[..., Any]) -> Any:
    """The task that the module has now in the place of this one; itself where the module was not reloaded."""
    origin = _origins.get(task)
    if origin is None or origin.spec is _spec(task):
        return task
    found: Any = sys.modules[task.__module__]
    name: str = vars(task)["__qualname__"]
    for part in name.split("."):
        found = getattr(found, part, None)
    if isinstance(found, type(task)):
        return found.with_options(**origin.changes) if origin.changes else found
    if isinstance(found, FunctionType) and isinstance(task.function, FunctionType):
        return replace(task, function=found, signature=None)
    return task


def _spec(task: Task[..., Any]) -> object:
    return getattr(sys.modules.get(task.__module__), "__spec__", None)
