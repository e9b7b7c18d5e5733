"""Plans whose workers hold their order, and the same plans without.

A worker that takes whatever is ready may begin a long task just before its planned next one is
ready. One that holds its order waits for that (`WorkerTerms.hold`), and so keeps to the schedule;
if tasks take longer than was thought, it also waits where it need not. So no planner asks for it
unseen: a plan is simulated with it and without.
"""

from __future__ import annotations

from dataclasses import replace

from dagnb.planning.plan import Plan, WorkerTerms, order_problems


def held(plan: Plan) -> Plan:
    """Returns the plan with every pinned worker holding its order.

    It is the same plan where no worker is pinned, or where orders would wait for each other.
    """
    names = dict.fromkeys(step.worker for step in plan.steps if step.worker is not None)
    terms = {}
    for name in names:
        terms[name] = replace(plan.workers.get(name, WorkerTerms()), hold=True)
    holding = replace(plan, workers={**plan.workers, **terms})
    return plan if any(order_problems(holding)) else holding


def unheld(plan: Plan) -> Plan:
    """Returns the plan with no worker holding its order."""
    terms = {name: replace(each, hold=False) for name, each in plan.workers.items()}
    return replace(plan, workers=terms)
