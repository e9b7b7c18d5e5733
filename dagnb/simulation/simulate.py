"""simulate(plan, costs, pool) -> Trace: the run as it would be."""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter

from dagnb.errors import ProtocolError
from dagnb.planning.costs import Costs
from dagnb.planning.plan import Plan
from dagnb.planning.planner import Pool
from dagnb.protocol.layout import Layout
from dagnb.protocol.messages import RunState
from dagnb.simulation.universe import Universe, layout_for
from dagnb.trace.span import Phase
from dagnb.trace.trace import Trace

_IN_ORDER = itemgetter(3, 4, 1, 0)
"""of notes, as Trace.of sorts spans: begin, end, worker, task"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a simulated run comes to. gb_s: gigabytes of memory times seconds that workers were held for it."""

    makespan_s: float
    gb_s: float
    n_cold: int
    n_warm: int


def simulate(plan: Plan, costs: Costs, pool: Pool) -> Trace:
    """The real worker's code in virtual time. O(steps x log steps + edges).

    Deterministic. Times count from the submission at 0; what the client does before is at negative times.
    Raises ProtocolError when the plan would never end: a defect of dagnb.
    """
    return trace_of(play(plan, costs, pool))


def trace_of(universe: Universe) -> Trace:
    """What happened in a universe at its end, the client's own acts among it. To be asked once."""
    end, costs = universe.machine.finished_at, universe.costs
    universe.note(-1, "", Phase.SUBMIT, -costs.submit_s, 0.0, 0, 1)
    universe.note(-1, "", Phase.RETURN, end, end + costs.return_s, 0, 1)
    universe.notes.sort(key=_IN_ORDER)
    return Trace(tuple(universe.spans), universe.plan.names, 0.0, end)


def outcome(plan: Plan, costs: Costs, pool: Pool, layout: Layout | None = None) -> Outcome:
    """As simulate, but only what it comes to; layout: of layout_for, when many prices are tried with one plan."""
    return outcome_of(play(plan, costs, pool, layout, is_traced=False))


def outcome_of(universe: Universe) -> Outcome:
    """What a universe at its end came to."""
    used, memory_of = universe.fleet.used, universe.fleet.pool.memory_of
    return Outcome(
        makespan_s=universe.machine.finished_at,
        gb_s=sum(memory_of(u.resources) * (u.end_s - u.begin_s) for u in used) / 1000,
        n_cold=sum(not u.is_warm for u in used),
        n_warm=sum(u.is_warm for u in used),
    )


def play(
    plan: Plan, costs: Costs, pool: Pool, layout: Layout | None = None, *, is_traced: bool = True
) -> Universe:
    """As simulate, but gives the universe at its end, with the coordinator's own story of the run."""
    universe = Universe(plan, costs, pool, layout or layout_for(plan, pool), is_traced=is_traced)
    universe.kernel.run()
    if universe.machine.state is not RunState.OK:
        raise ProtocolError(
            f"a simulated run ended as '{universe.machine.state}'. Please report the plan."
        )
    return universe
