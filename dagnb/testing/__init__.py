"""Testing: laws that every planner, launcher and store obeys, as test classes for pytest.

Holds: PlannerLaws, LauncherLaws, StoreLaws; named DAGs; random DAGs, costs, plans for hypothesis.
May import: the hub below it; pytest and hypothesis, from `pip install 'dagnb[testing]'`.
Must not know: the arms; a derived class defines what is tested. Nothing else imports this room.
Start at: planner_laws.py.

A suite for a planner of yours:

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

_MODULES = {
    "LauncherLaws": "launcher_laws",
    "PlannerLaws": "planner_laws",
    "StoreLaws": "store_laws",
    "Subject": "store_laws",
}

_WITH_ASSERTS = (
    "content_laws",
    "launcher_laws",
    "planner_laws",
    "run_laws",
    "step_laws",
    "store_laws",
)


def __getattr__(name: str) -> Any:
    """Imports a class of laws when it is first used."""
    # Not at the import of this package: workers that run tasks of graphs.py have no pytest.
    if name not in __all__:
        raise AttributeError(f"module 'dagnb.testing' has no attribute {name!r}")
    try:
        # Failed asserts then show their values, as in test files. A module that is imported
        # already, as by a second `from dagnb.testing import ...`, would give a warning.
        modules = [f"dagnb.testing.{module}" for module in _WITH_ASSERTS]
        new = [module for module in modules if module not in sys.modules]
        importlib.import_module("pytest").register_assert_rewrite(*new)
        return getattr(importlib.import_module(f"dagnb.testing.{_MODULES[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name not in {"pytest", "hypothesis"}:
            raise
        raise ImportError(
            f"dagnb.testing needs {error.name}. Install it: pip install 'dagnb[testing]'"
        ) from error
