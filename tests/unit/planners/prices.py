"""Problems in which only functions take time, 1 s each, unless a test says otherwise.

And how plans look.
"""

from __future__ import annotations

from typing import Any

from dagnb.graph.dag import Dag
from dagnb.planning.planner import Costs, LinearCost, Planner, Pool, Problem, StartCost

FREE: dict[str, Any] = {
    "fetch": LinearCost(),
    "store": LinearCost(),
    "load": LinearCost(),
    "dump": LinearCost(),
    "commit_s": 0.0,
    "wake_s": 0.0,
    "cold": StartCost(),
    "warm": StartCost(),
    "inline_bytes": 0,
    "default_run_s": 1.0,
    "default_output_bytes": 1,
}


def problem(
    dag: Dag, cap: int | None = None, seconds: dict[str, float] | None = None, **known: Any
) -> Problem:
    """seconds: of tasks by name. known: other fields of Costs."""
    run_s = {dag.positions[name]: spent for name, spent in (seconds or {}).items()}
    return Problem(dag=dag, costs=Costs(**{**FREE, "run_s": run_s, **known}), pool=Pool(cap=cap))


def placed(planner: Planner, problem: Problem) -> dict[str, str]:
    """Returns worker -> its tasks by priority; workers in the order of their first task."""
    result: dict[str, list[str]] = {}
    for step in sorted(planner.plan(problem).steps, key=lambda step: step.priority):
        result.setdefault(step.worker or "", []).append(problem.dag.calls[step.task].name)
    return {worker: " ".join(names) for worker, names in result.items()}
