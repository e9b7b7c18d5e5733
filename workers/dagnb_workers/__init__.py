"""Workers: run tasks for real, in this process, in other processes or in containers.

Holds: launchers (launchers/), the agent of a user (agent/), what starts and watches worker
processes (hosting/), the worker itself (worker/), what a task sees of its process (surroundings/).
May import: dagnb; neither planners nor the notebook extension.
Must not know: notebooks, planners. Only the launcher of a platform knows that platform.
Start at: worker/main.py (one worker), then hosting/supervisor.py (the workers of one run), then
agent/agent.py.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dagnb_workers.launchers.docker.launcher import Docker
    from dagnb_workers.launchers.inline import Inline
    from dagnb_workers.launchers.process import PreloadWarning, Processes

__all__ = ["Docker", "Inline", "PreloadWarning", "Processes"]

_MODULES = {
    "Docker": "dagnb_workers.launchers.docker.launcher",
    "Inline": "dagnb_workers.launchers.inline",
    "PreloadWarning": "dagnb_workers.launchers.process",
    "Processes": "dagnb_workers.launchers.process",
}


def __getattr__(name: str) -> Any:
    """Import a public class on first use (PEP 562): one launcher costs no import of the others."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
