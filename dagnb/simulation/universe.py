"""What all virtual instances share: the clock, the plan, the prices, the protocol's own state machine, the spans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dagnb.planning.costs import Costs
from dagnb.planning.plan import Plan
from dagnb.planning.planner import Pool
from dagnb.protocol.layout import Kinds, Layout, lay_out
from dagnb.protocol.machine import Machine
from dagnb.protocol.messages import Offer, Record, RunState
from dagnb.simulation.fleet import VirtualFleet
from dagnb.simulation.kernel import Kernel
from dagnb.simulation.prices import StepPrices
from dagnb.trace.span import Phase, Span


def layout_for(plan: Plan, pool: Pool) -> Layout:
    """The plan as the coordinator of such a pool sees it; the same for every price list."""
    kinds = Kinds.WORKER if pool.single else Kinds.ONE if pool.eager else Kinds.RESOURCES
    return lay_out(plan, cap=pool.cap if pool.cap is not None else len(plan.steps), kinds=kinds)


class _Machine(Machine):
    """Offers without addresses: in virtual time nobody reads a value."""

    def _offer(self, task: int) -> Offer:
        return Offer(
            task=task,
            attempt=self.attempt(task),
            record=None,
            inputs=(),
            ready_at=self.ready_at.get(task, 0.0),
        )


class _SilentMachine(_Machine):
    """Keeps no story."""

    def _event(self, now: float, kind: str, task: int, worker: str) -> None:
        return


class Universe:
    """A run that begins at 0. tasks: DAG position of each step."""

    def __init__(
        self, plan: Plan, costs: Costs, pool: Pool, layout: Layout, *, is_traced: bool = True
    ) -> None:
        """Submit; nobody works yet. is_traced: keep spans."""
        self.plan, self.costs, self.layout, self.is_traced = plan, costs, layout, is_traced
        self.kernel = Kernel()
        self.tasks = [step.task for step in plan.steps]
        self.prices = StepPrices(plan, costs)
        self.notes: list[tuple[Any, ...]] = []
        kind = _Machine if is_traced else _SilentMachine
        self.machine: Machine = kind(
            layout.bare("simulation"),
            0.0,
            "sim",
            lambda task, address: True,
            records=self._records(),
        )
        self.fleet = VirtualFleet(self, pool)
        self.fleet.open()

    def _records(self) -> Sequence[Record]:
        """Tasks that fail as often as the prices say are repeated as often, whatever their own retries."""
        failures = self.costs.failures
        if not failures:
            return self.layout.records
        tries = [len(failures.get(task, ())) for task in self.tasks]
        pairs = zip(self.layout.records, tries, strict=True)
        return tuple(replace(r, retries=n) if n > r.retries else r for r, n in pairs)

    @property
    def spans(self) -> list[Span]:
        """What happened, in the order it was noted."""
        return [Span(*note) for note in self.notes]

    def note(
        self,
        task: int,
        worker: str,
        phase: Phase,
        begin_s: float,
        end_s: float,
        n_bytes: int,
        attempt: int,
        detail: str = "",
    ) -> None:
        """Keep a span."""
        if self.is_traced:
            self.notes.append((task, worker, phase, begin_s, end_s, n_bytes, attempt, detail))

    def settle(self) -> float:
        """Pass on what a step left to say. Returns how long that keeps whoever took the step."""
        machine = self.machine
        if machine.state is not RunState.RUNNING:
            machine.take_hints()
            self.fleet.close()
        elif machine.hints or machine.kind_hints:
            return self.fleet.hint(machine.take_hints())
        return 0.0

    def wake_when_due(self) -> None:
        """A back-off that ends makes its task ready though nobody takes a step."""
        due = self.machine.next_due()
        if due is not None:
            self.kernel.later(max(0.0, due - self.kernel.now), lambda: self._reap(due))

    def _reap(self, due: float) -> None:
        """due: the sum of now and the wait may be rounded below it. Back-offs that end later are waited for anew."""
        self.machine.reap(now=max(self.kernel.now, due), fresh="sim")
        self.settle()
        self.wake_when_due()
