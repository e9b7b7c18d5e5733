"""The virtual world: what each act of a worker costs, and the protocol's own state machine as coordinator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from dagnb.planning.costs import Costs
from dagnb.planning.plan import Plan
from dagnb.protocol.machine import Machine
from dagnb.protocol.messages import Address, Commit, Failure, Offer, Reply, RunState, Submission
from dagnb.protocol.world import Missing
from dagnb.simulation.kernel import Bell, Kernel, Sleep
from dagnb.trace.span import Phase, Span

FOR_EVER_S = 1e12


@dataclass
class Universe:
    """What all virtual instances share."""

    plan: Plan
    costs: Costs
    kernel: Kernel
    submission: Submission
    machine: Machine = field(init=False)
    bell: Bell = field(init=False)
    spans: list[Span] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Submit at the present moment."""
        self.bell = Bell(self.kernel)
        self.machine = Machine(self.submission, self.kernel.now, "sim", lambda task, address: True)

    def settle(self) -> None:
        """Wake as many instances as were hinted at; all of them at the end."""
        hints = len(self.machine.hints)
        self.machine.hints.clear()
        if self.machine.state is not RunState.RUNNING:
            self.bell.ring()
        elif hints:
            self.bell.ring(hints)


class VirtualWorld:
    """One instance's view of the universe. The value of a task is its size in bytes."""

    def __init__(self, universe: Universe, instance: str) -> None:
        """An instance that has not started yet."""
        self.universe = universe
        self.instance = instance
        self.worker = ""
        self.at_hand: set[int] = set()
        self.is_started = False

    async def register(self) -> Reply:
        """Start (cold, the first time), then ask for work."""
        begin = self.universe.kernel.now
        costs = self.universe.costs
        await Sleep(costs.warm_s if self.is_started else costs.cold_s)
        reply = self.universe.machine.register(
            self.instance, now=self.universe.kernel.now, fresh="sim", lease_s=FOR_EVER_S
        )
        if reply.worker:
            self._span(-1, Phase.INVOKE, begin, worker=reply.worker, detail="warm" if self.is_started else "cold")
        self.is_started = True
        return self._took(reply)

    async def wait_work(self) -> None:
        """Sleep until somebody hints."""
        if self.universe.machine.state is RunState.RUNNING and not self.universe.machine.roster.invoked:
            await self.universe.bell

    async def fetch(self, offer: Offer) -> int | Missing:
        """Transfer what is not at hand, all at once; small values came with the offer."""
        begin, costs = self.universe.kernel.now, self.universe.costs
        sizes = [i.address.n_bytes for i in offer.inputs if i.task not in self.at_hand]
        large = [n for n in sizes if n > 16 * 1024]
        if large:
            await Sleep(max(costs.transfer(n) for n in large))
            self._span(offer.task, Phase.FETCH, begin, n_bytes=sum(large))
        begin, total = self.universe.kernel.now, sum(i.address.n_bytes for i in offer.inputs)
        await Sleep(total * costs.load_s_per_byte)
        self._span(offer.task, Phase.LOAD, begin, n_bytes=total)
        self.at_hand.update(i.task for i in offer.inputs)
        return total

    async def run(self, offer: Offer, inputs: int) -> int | Failure:
        """Let the predicted time pass."""
        begin, task = self.universe.kernel.now, self.universe.plan.steps[offer.task].task
        await Sleep(self.universe.costs.run(task))
        self._span(offer.task, Phase.RUN, begin)
        return self.universe.costs.output(task)

    async def store(self, offer: Offer, value: int) -> Commit | Failure:
        """Pickle, and transfer a large result."""
        begin, costs = self.universe.kernel.now, self.universe.costs
        await Sleep(value * costs.dump_s_per_byte)
        self._span(offer.task, Phase.DUMP, begin, n_bytes=value)
        n_chunks = 0
        if value > 16 * 1024:
            begin, n_chunks = self.universe.kernel.now, -(-value // 2**20)
            await Sleep(costs.transfer(value))
            self._span(offer.task, Phase.STORE, begin, n_bytes=value)
        self.at_hand.add(offer.task)
        return Commit(task=offer.task, address=Address(f"{self.instance}.{offer.task}", value, n_chunks))

    async def complete(self, commits: Sequence[Commit]) -> Reply:
        """One round trip: half of it there, the step, half of it back."""
        begin, half = self.universe.kernel.now, self.universe.costs.commit_s / 2
        await Sleep(half)
        worker = self.worker
        reply = self.universe.machine.complete(self.instance, commits, now=self.universe.kernel.now, fresh="sim")
        self._took(reply)
        await Sleep(half)
        for commit in commits:
            self._span(commit.task, Phase.COMMIT, begin, worker=worker)
        return reply

    async def fail(self, failure: Failure) -> Reply:
        """No virtual function fails yet; the step is there for plans with faults."""
        await Sleep(self.universe.costs.commit_s)
        return self._took(self.universe.machine.fail(self.instance, failure, now=self.universe.kernel.now, fresh="sim"))

    async def lost(self, missing: Missing) -> Reply:
        """As fail: virtual values do not vanish yet."""
        await Sleep(self.universe.costs.commit_s)
        now = self.universe.kernel.now
        return self._took(self.universe.machine.lost(self.instance, missing.task, missing.inputs, now=now, fresh="sim"))

    def _took(self, reply: Reply) -> Reply:
        self.universe.settle()
        if reply.worker:
            self.worker = reply.worker
        for offer in reply.offers:
            if reply.now > offer.ready_at:
                span = Span(offer.task, self.worker, Phase.QUEUE, offer.ready_at, reply.now)
                self.universe.spans.append(span)
        return reply

    def _span(
        self, task: int, phase: Phase, begin: float, *, worker: str = "", n_bytes: int = 0, detail: str = ""
    ) -> None:
        span = Span(task, worker or self.worker, phase, begin, self.universe.kernel.now, n_bytes, 1, detail)
        self.universe.spans.append(span)
