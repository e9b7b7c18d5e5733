"""dagnb: notebook functions as a DAG, planned, and run by workers that coordinate over Redis without a scheduler.

Holds: the public names; the hub that the three arms (kernel_ext, workers, planners) import.
May import: its own rooms.
Must not know: the arms; they are found by name through entry points.
Start at: client.py.
"""

from typing import Any

from dagnb import errors, registry
from dagnb.client import attach, plan, run, runs, simulate
from dagnb.graph.context import context
from dagnb.graph.resources import Resources
from dagnb.graph.task import task
from dagnb.handle import Run
from dagnb.session import Redis, configure

__version__ = "0.1.0"

__all__ = [
    "Redis",
    "Resources",
    "Run",
    "attach",
    "configure",
    "context",
    "errors",
    "plan",
    "run",
    "runs",
    "simulate",
    "task",
]


def load_ipython_extension(ipython: Any) -> None:
    """`%load_ext dagnb`: hand over to the notebook arm."""
    registry.find("extension", "ipython")(ipython)


def unload_ipython_extension(ipython: Any) -> None:
    """`%unload_ext dagnb`: take back what load_ipython_extension gave."""
    registry.find("extension", "ipython_unload")(ipython)
