"""dagnb: notebook functions as a DAG, planned, and run by workers that coordinate over Redis without a scheduler.

Holds: the public names; the hub that the three arms (kernel_ext, workers, planners) import.
May import: its own rooms.
Must not know: the arms; they are found by name through entry points.
Start at: client.py.

The public names are loaded when first used, all together: agents and workers, which import rooms of this package only,
start three times faster for it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dagnb import errors
    from dagnb.client import attach, plan, run, runs, simulate, workers
    from dagnb.errors import TaskFailedError
    from dagnb.graph.context import context
    from dagnb.graph.resources import Resources
    from dagnb.graph.task import task
    from dagnb.handle import Run
    from dagnb.metrics.upload import AtExit, EachTask, Every, WhenFull
    from dagnb.session import Redis, configure
    from dagnb.whatif import compare, export, history, predict

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
    "dagnb.client": ("attach", "plan", "run", "runs", "simulate", "workers"),
    "dagnb.errors": ("TaskFailedError",),
    "dagnb.graph.context": ("context",),
    "dagnb.graph.resources": ("Resources",),
    "dagnb.graph.task": ("task",),
    "dagnb.handle": ("Run",),
    "dagnb.metrics.upload": ("AtExit", "EachTask", "Every", "WhenFull"),
    "dagnb.session": ("Redis", "configure"),
    "dagnb.whatif": ("compare", "export", "history", "predict"),
}


def __getattr__(name: str) -> Any:
    """A public name, on first use (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module 'dagnb' has no attribute {name!r}")
    for room, names in _ROOMS.items():
        loaded = importlib.import_module(room)
        globals().update({public: getattr(loaded, public) for public in names})
    globals()["errors"] = importlib.import_module("dagnb.errors")
    return globals()[name]


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
