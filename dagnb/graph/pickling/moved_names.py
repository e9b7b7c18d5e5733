"""Names in pickles that an earlier release wrote, and where their functions are now.

Results outlive releases: a notebook attaches to a run that an earlier release computed. Pickles
name the functions that make an object again, such as `_cached_again`, with the module that they
were in at that time.
"""

from __future__ import annotations

_MODULES = {
    "dagnb.graph.packing": "dagnb.graph.pickling.packing",
    "dagnb.graph.by_value": "dagnb.graph.pickling.by_value",
    "dagnb.graph.reduction": "dagnb.graph.pickling.reduction",
    "dagnb.graph.stand_in": "dagnb.graph.pickling.stand_in",
    "dagnb.graph.made_module": "dagnb.graph.pickling.made_module",
    "dagnb.graph.blame": "dagnb.graph.pickling.blame",
    "dagnb.graph.code": "dagnb.graph.pickling.code",
    "dagnb_workers.shell": "dagnb_workers.surroundings.shell",
    # Classes that tasks may return, or whose objects may be in what they return.
    "dagnb.graph.node": "dagnb.graph.task",
    "dagnb.planning.costs": "dagnb.planning.planner",
    "dagnb.planning.forecast": "dagnb.planning.plan",
    "dagnb.prediction.spread": "dagnb.prediction.estimate",
    "dagnb.trace.sample": "dagnb.prediction.observation",
    "dagnb.trace.span": "dagnb.trace.trace",
}
# (earlier module, earlier name) -> present name
_FUNCTIONS = {("dagnb.graph.reduction", "_found"): "_imported"}


def present_name(module: str, name: str) -> tuple[str, str]:
    """Returns the module and the name under which a pickled name is found in this release."""
    return _MODULES.get(module, module), _FUNCTIONS.get((module, name), name)


def names_moved_module(pickle_bytes: bytes) -> bool:
    """Returns whether a pickle may name a module that has moved."""
    return any(module.encode() in pickle_bytes for module in _MODULES)
