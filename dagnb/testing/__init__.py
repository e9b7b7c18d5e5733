"""Testing: the laws that planners, launchers and stores obey, for the pytest suites of those who write some.

Holds: PlannerLaws, LauncherLaws, StoreLaws, to derive from; named DAGs; random DAGs, costs and plans for hypothesis.
May import: the hub below it; pytest and hypothesis, which `pip install 'dagnb[testing]'` brings.
Must not know: the arms; what the laws are held against comes from who derives. Nothing else imports this.
Start at: planner_laws.py.

    from dagnb.testing import PlannerLaws

    class TestMine(PlannerLaws):
        planner = Mine()
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dagnb.testing.launcher_laws import LauncherLaws
    from dagnb.testing.planner_laws import PlannerLaws
    from dagnb.testing.store_laws import StoreLaws, Subject

__all__ = ["LauncherLaws", "PlannerLaws", "StoreLaws", "Subject"]

_PLACES = {
    "LauncherLaws": "launcher_laws",
    "PlannerLaws": "planner_laws",
    "StoreLaws": "store_laws",
    "Subject": "store_laws",
}

_ASSERTING = tuple(
    f"dagnb.testing.{name}"
    for name in ("content_laws", "launcher_laws", "planner_laws", "run_laws", "step_laws")
)


def __getattr__(name: str) -> Any:
    """The laws, when they are asked for: workers that run a task of `graphs` have no pytest."""
    if name not in __all__:
        raise AttributeError(f"module 'dagnb.testing' has no attribute {name!r}")
    try:
        fresh = (
            place for place in _ASSERTING if place not in sys.modules
        )  # an import asks for a name twice
        importlib.import_module("pytest").register_assert_rewrite(*fresh)
        return getattr(importlib.import_module(f"dagnb.testing.{_PLACES[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name not in {"pytest", "hypothesis"}:
            raise
        raise ImportError(
            f"dagnb.testing needs {error.name}. Install it: pip install 'dagnb[testing]'"
        ) from error
