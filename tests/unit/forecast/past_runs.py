"""Past runs for histories.

A plan played in virtual time at real prices, described as its submission does.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dagnb.forecast.costs import codes_of
from dagnb.graph.dag import Dag
from dagnb.graph.lineage import lineage
from dagnb.planning.plan import Plan, Step
from dagnb.planning.planner import Costs, Pool
from dagnb.protocol.messages import RunState
from dagnb.protocol.run_description import RunDescription
from dagnb.run_history.history import History
from dagnb.simulation.simulate import simulate
from dagnb.trace.trace import Trace


def floating(dag: Dag) -> Plan:
    """Anybody runs anything."""
    steps = tuple(
        Step(task=i, upstream=call.upstream, priority=i, resources=call.options.needs)
        for i, call in enumerate(dag.calls)
    )
    return Plan(dag=dag, steps=steps, planner="floating")


def description_of(
    plan: Plan, *, codes: Sequence[str] = (), keys: Sequence[str] = (), **fields: Any
) -> RunDescription:
    """Returns the description that a submission of this plan stores."""
    codes, keys = codes or codes_of(plan.dag), keys or lineage(plan.dag)
    kinds = sorted(set(codes))
    calls = [plan.dag.calls[step.task] for step in plan.steps]
    meta = {
        "name": "cell",
        "planner": plan.planner,
        "names": list(plan.names),
        "functions": [call.function for call in calls],
        "upstream": [list(step.upstream) for step in plan.steps],
        "sinks": list(plan.sinks),
        "codes": kinds,
        "code": [kinds.index(codes[step.task]) for step in plan.steps] if codes else [],
        "keys": [keys[step.task] for step in plan.steps] if keys else [],
        "workers": [step.worker for step in plan.steps],
        "priorities": [step.priority for step in plan.steps],
        "platform": "here",
        **fields,
    }
    return RunDescription.read(json.dumps(meta))


def lived(plan: Plan, costs: Costs, pool: Pool, at: float = 1e9) -> Trace:
    """The trace of a run submitted at this moment."""
    trace = simulate(plan, costs, pool)
    moved = [
        replace(span, begin_s=span.begin_s + at, end_s=span.end_s + at) for span in trace.spans
    ]
    return Trace.of(moved, trace.names, submitted_s=at, finished_s=at + trace.finished_s)


def remember(
    history: History, run: str, plan: Plan, costs: Costs, pool: Pool, **fields: Any
) -> Trace:
    """A run at these prices, kept; returns its trace."""
    trace = lived(plan, costs, pool)
    assert history.record(run, description_of(plan, **fields), RunState.OK, trace)
    return trace


def on_a_day(costs: Costs, n_tasks: int, source: random.Random, shared: float, own: float) -> Costs:
    """Run times of a machine that is slow or quick as a whole, and of tasks that differ."""
    day = math.exp(source.gauss(0, shared))
    run_s = {
        task: costs.run(task) * day * math.exp(source.gauss(0, own)) for task in range(n_tasks)
    }
    return costs.with_(run_s=run_s)
