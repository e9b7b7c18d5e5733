"""dagnb: notebook functions as a DAG, planned and run by workers that coordinate over Redis alone.

Holds: the public names; the hub that the three arms (kernel_ext, workers, planners) import.
May import: its own rooms.
Must not know: the arms; they are found by name through entry points.
Start at: client.py.

A public name is loaded on first use, together with its own room only. So agents and workers start
three times faster, and `dagnb.context()` works in a container that lacks the packages of the
client.
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

# public name -> its room.
_ROOMS = {
    **dict.fromkeys(
        ("attach", "plan", "run", "runs", "simulate", "workers"),
        "dagnb.client",
    ),
    "TaskFailedError": "dagnb.errors",
    "context": "dagnb.graph.context",
    "Resources": "dagnb.graph.resources",
    "task": "dagnb.graph.task",
    "Run": "dagnb.handle",
    **dict.fromkeys(("AtExit", "EachTask", "Every", "WhenFull"), "dagnb.trace.upload"),
    **dict.fromkeys(("Redis", "configure"), "dagnb.session"),
    **dict.fromkeys(("compare", "export", "history", "predict"), "dagnb.analysis"),
}


def __getattr__(name: str) -> Any:
    """Returns a public name, loaded on first use (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module 'dagnb' has no attribute {name!r}")
    if name == "errors":  # the only public name that is a module
        public: Any = importlib.import_module("dagnb.errors")
    else:
        public = getattr(importlib.import_module(_ROOMS[name]), name)
    # Stored in the module, so that Python calls this function only once per name. By setdefault,
    # because two threads may load the name at once.
    return globals().setdefault(name, public)


def __dir__() -> list[str]:
    """Returns the public names, loaded or not."""
    return sorted({*globals(), *__all__})


def load_ipython_extension(ipython: Any) -> None:
    """Load the notebook extension, for `%load_ext dagnb`."""
    _extension("ipython")(ipython)


def unload_ipython_extension(ipython: Any) -> None:
    """Undo load_ipython_extension, for `%unload_ext dagnb`."""
    _extension("ipython_unload")(ipython)


def _extension(name: str) -> Any:
    return importlib.import_module("dagnb.registry").find("extension", name)
