"""The evidence behind the costs of a problem: which functions never ran, and whether that matters.

A duration without measurement or hint is a guess, which may be off by a factor of hundreds. Where
guesses are more than a small part of the run time, no seconds are shown: no forecast, no band, no
bound, no certificate.
"""

from __future__ import annotations

from dagnb.graph.dag import Dag
from dagnb.planning.planner import UNKNOWN, Costs, Problem

KNOWN_ENOUGH = 0.9
"""share of the predicted run time that must be known for seconds to be shown"""


def unknown_functions(dag: Dag, costs: Costs) -> tuple[str, ...]:
    """Returns the functions without measurements and hints, in the order of the DAG."""
    unknown = {}
    for task, call in enumerate(dag.calls):
        if not costs.basis.get(task, UNKNOWN).is_known:
            unknown[call.function] = True
    return tuple(unknown)


def known_share(costs: Costs, n_tasks: int) -> float:
    """Returns the share of predicted run time that rests on measurements or hints, 0 to 1."""
    total = known = 0.0
    for task in range(n_tasks):
        run_s = costs.run(task)
        total += run_s
        if costs.basis.get(task, UNKNOWN).is_known:
            known += run_s
    return known / total if total > 0 else 0.0


def is_known(problem: Problem) -> bool:
    """Returns whether seconds that follow from the costs say something. O(tasks)."""
    if not unknown_functions(problem.dag, problem.costs):
        return True
    return known_share(problem.costs, len(problem.dag)) >= KNOWN_ENOUGH
