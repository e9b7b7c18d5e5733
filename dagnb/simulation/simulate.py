"""Simulates a run of a plan in virtual time: simulate(plan, costs, pool) -> Trace.

What is modelled, and by what:

    a worker's decisions     its own code, dagnb/protocol/worker.py, as in reality
    the coordination         the protocol's own state machine, dagnb/protocol/machine.py
    the seconds of an act    `Costs`, by step (step_costs.py); only the clock moves (world.py)
    processes, containers    when they start, wait, leave and are used again (fleet.py)
    time                     a heap of events (environment.py)

So simulated and real runs follow the same rules, and differ only in how long acts take.
tests/conformance sends the same plans through both.

    Worker.work() --await fetch, run, store--> VirtualWorld      moves the clock of its instance
         |                                          |
         +-------await complete, register-----------+--> Sleep until the common clock is there
                                                    +--> Machine: one step, as Redis would take it
                                                    +--> VirtualFleet: hints wake or start instances

Not modelled: contention (the store, the network and the processors are as fast for many as for
one), values that get lost, workers that die.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter

from dagnb.errors import ProtocolError
from dagnb.planning.plan import Plan
from dagnb.planning.planner import Costs, Pool
from dagnb.protocol.layout import Layout
from dagnb.protocol.messages import RunState
from dagnb.simulation.simulated_run import SimulatedRun, layout_for
from dagnb.trace.trace import Phase, Trace

_BY_BEGIN = itemgetter(3, 4, 1, 0)
"""Sorts rows as Trace.of sorts spans: by begin, end, worker, task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The totals of a simulated run.

    gb_s: memory of containers times the seconds that they were held for the run.
    n_cold, n_warm: starts.
    """

    makespan_s: float
    gb_s: float
    n_cold: int
    n_warm: int


def simulate(plan: Plan, costs: Costs, pool: Pool) -> Trace:
    """Runs the worker's code in virtual time. Deterministic. O(steps x log steps + edges).

    Times count from the submission at 0; what the client does before is at negative times.
    Raises ProtocolError if the plan would never end: a defect of dagnb.
    """
    return trace_of(play(plan, costs, pool))


def trace_of(simulated: SimulatedRun) -> Trace:
    """Returns the spans of a run that has ended, with those of the client. May be called once."""
    end, costs = simulated.machine.finished_at, simulated.costs
    simulated.record(-1, "", Phase.SUBMIT, -costs.submit_s, 0.0, 0, 1)
    simulated.record(-1, "", Phase.RETURN, end, end + costs.return_s, 0, 1)
    # Rows are sorted, not the spans made of them: fields of tuples are quicker to get.
    simulated.rows.sort(key=_BY_BEGIN)
    return Trace(tuple(simulated.spans), simulated.plan.names, 0.0, end)


def outcome(plan: Plan, costs: Costs, pool: Pool, layout: Layout | None = None) -> Outcome:
    """Returns the totals alone, faster than simulate.

    layout: of layout_for; saves work when one plan is simulated with many costs.
    """
    return outcome_of(play(plan, costs, pool, layout, is_traced=False))


def outcome_of(simulated: SimulatedRun) -> Outcome:
    """Returns the totals of a run that has ended."""
    memory_of = simulated.fleet.pool.memory_of
    mb_s, n_warm = 0.0, 0
    uses = simulated.fleet.uses
    for use in uses:
        mb_s += memory_of(use.resources) * (use.end_s - use.begin_s)
        n_warm += use.is_warm
    return Outcome(
        makespan_s=simulated.machine.finished_at,
        gb_s=mb_s / 1000,
        n_cold=len(uses) - n_warm,
        n_warm=n_warm,
    )


def play(
    plan: Plan, costs: Costs, pool: Pool, layout: Layout | None = None, *, is_traced: bool = True
) -> SimulatedRun:
    """Simulates the plan and returns the run at its end, with the events of its state machine.

    Raises ProtocolError if the simulated run does not succeed: a defect of dagnb.
    """
    simulated = SimulatedRun(
        plan, costs, pool, layout or layout_for(plan, pool), is_traced=is_traced
    )
    simulated.environment.run()
    if simulated.machine.state is not RunState.OK:
        raise ProtocolError(
            f"a simulated run ended as '{simulated.machine.state}'. Please report the plan."
        )
    return simulated
