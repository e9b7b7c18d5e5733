"""Planners: which worker runs which task, decided before the run.

Holds: one planner in each file, a frozen dataclass whose fields are its settings.
May import: dagnb.
Must not know: clocks, stores, workers, unseeded random numbers; equal problems give equal plans.
Start at: flexible.py, the default; ../README.md says which planner decides what.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dagnb_planners.best import Best
    from dagnb_planners.cpop import Cpop
    from dagnb_planners.dask_like import DaskLike
    from dagnb_planners.exact import Exact
    from dagnb_planners.flexible import Flexible
    from dagnb_planners.heft import Heft
    from dagnb_planners.heft_lookahead import HeftLookahead
    from dagnb_planners.non_uniform import NonUniform
    from dagnb_planners.one_pass import OnePass
    from dagnb_planners.peft import Peft
    from dagnb_planners.uniform import Uniform
    from dagnb_planners.wukong import Wukong

__all__ = [
    "Best",
    "Cpop",
    "DaskLike",
    "Exact",
    "Flexible",
    "Heft",
    "HeftLookahead",
    "NonUniform",
    "OnePass",
    "Peft",
    "Uniform",
    "Wukong",
]

# Class -> the module that is imported for it.
_MODULES = {
    "Best": "dagnb_planners.best",
    "Cpop": "dagnb_planners.cpop",
    "DaskLike": "dagnb_planners.dask_like",
    "Exact": "dagnb_planners.exact",
    "Flexible": "dagnb_planners.flexible",
    "Heft": "dagnb_planners.heft",
    "HeftLookahead": "dagnb_planners.heft_lookahead",
    "NonUniform": "dagnb_planners.non_uniform",
    "OnePass": "dagnb_planners.one_pass",
    "Peft": "dagnb_planners.peft",
    "Uniform": "dagnb_planners.uniform",
    "Wukong": "dagnb_planners.wukong",
}


def __getattr__(name: str) -> Any:
    """Returns a public class, imported on first use (PEP 562).

    OR-tools and the simulator are slow to import, and most users need one planner.
    """
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
