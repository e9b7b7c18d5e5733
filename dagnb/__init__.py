"""dagnb: notebook functions as a DAG, planned, and run by workers that coordinate over Redis without a scheduler.

Holds: the public names; the hub that the three arms (kernel_ext, workers, planners) import.
May import: its own rooms.
Must not know: the arms; they are found by name through entry points.
Start at: client.py.

A public name is loaded when it is first used, with the room it is of and no other: agents and workers start three times
faster for it, and a task in a container, where the packages of the client are missing, still has `dagnb.context()`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dagnb import errors
    from dagnb.analysis import compare, export, history, predict
    from dagnb.client import attach, plan, run, runs, simulate, workers
    from dagnb.errors import TaskFailedError
    from dagnb.graph.context import context
    from dagnb.graph.resources import Resources
    from dagnb.graph.task import task
    from dagnb.handle import Run
    from dagnb.session import Redis, configure
    from dagnb.trace.upload import AtExit, EachTask, Every, WhenFull

__version__ = "0.1.0"

__all__ = [
    "AtExit",
    "EachTask",
    "Every",
    "Redis",
    "Resources",
    "Run",
    "TaskFailedError",
    "WhenFull",
    "attach",
    "compare",
    "configure",
    "context",
    "errors",
    "export",
    "history",
    "plan",
    "predict",
    "run",
    "runs",
    "simulate",
    "task",
    "workers",
]

_ROOMS = {
    **dict.fromkeys(("attach", "plan", "run", "runs", "simulate", "workers"), "dagnb.client"),
    "TaskFailedError": "dagnb.errors",
    "context": "dagnb.graph.context",
    "Resources": "dagnb.graph.resources",
    "task": "dagnb.graph.task",
    "Run": "dagnb.handle",
    **dict.fromkeys(("AtExit", "EachTask", "Every", "WhenFull"), "dagnb.trace.upload"),
    **dict.fromkeys(("Redis", "configure"), "dagnb.session"),
    **dict.fromkeys(("compare", "export", "history", "predict"), "dagnb.analysis"),
}
"""public name -> its room"""


def __getattr__(name: str) -> Any:
    """A public name, on first use (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module 'dagnb' has no attribute {name!r}")
    found = importlib.import_module("dagnb.errors") if name == "errors" else _of_room(name)
    return globals().setdefault(name, found)


def _of_room(name: str) -> Any:
    return getattr(importlib.import_module(_ROOMS[name]), name)


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted({*globals(), *__all__})


def load_ipython_extension(ipython: Any) -> None:
    """`%load_ext dagnb`: hand over to the notebook arm."""
    _extension("ipython")(ipython)


def unload_ipython_extension(ipython: Any) -> None:
    """`%unload_ext dagnb`: take back what load_ipython_extension gave."""
    _extension("ipython_unload")(ipython)


def _extension(name: str) -> Any:
    return importlib.import_module("dagnb.registry").find("extension", name)
