"""simulate(plan, costs) -> Trace: the run as it would be."""

from __future__ import annotations

from dagnb.errors import ProtocolError
from dagnb.planning.costs import Costs
from dagnb.planning.plan import Plan
from dagnb.protocol.messages import RunState
from dagnb.protocol.program import lay_out
from dagnb.protocol.worker import Worker
from dagnb.simulation.kernel import Kernel
from dagnb.simulation.world import Universe, VirtualWorld
from dagnb.trace.trace import Trace


def simulate(plan: Plan, costs: Costs, *, n_workers: int) -> Trace:
    """The real worker's code in virtual time, `n_workers` instances at a time. O(steps x log steps + edges).

    Deterministic. Times count from the submission at 0.
    Raises ProtocolError when the plan would never end: a defect of dagnb.
    """
    universe = play(plan, costs, n_workers=n_workers)
    return Trace.of(universe.spans, plan.names, submitted_s=0.0, finished_s=universe.machine.finished_at)


def play(plan: Plan, costs: Costs, *, n_workers: int) -> Universe:
    """As simulate, but gives the universe at its end, with the coordinator's own story of the run."""
    kernel = Kernel()
    universe = Universe(plan, costs, kernel, lay_out(plan, "simulation", cap=n_workers))
    for number in range(min(n_workers, len(plan.steps))):
        kernel.spawn(Worker(VirtualWorld(universe, f"v{number}")).work())
    kernel.run()
    if universe.machine.state is not RunState.OK:
        raise ProtocolError(f"a simulated run ended as '{universe.machine.state}'. Please report the plan.")
    return universe
