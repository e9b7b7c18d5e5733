"""The virtual world: what each act of a worker costs.

Between two hand-overs an instance meets nobody, so its acts only move a clock of its own; it waits for the others'
once a task, where it hands over. That makes a task one event of the kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dagnb.planning.costs import StartCost
from dagnb.protocol.messages import Address, Commit, Failure, Offer, Reply
from dagnb.protocol.world import Missing
from dagnb.simulation.kernel import Sleep
from dagnb.trace.span import Phase

if TYPE_CHECKING:
    from dagnb.simulation.universe import Universe

FOR_EVER_S = 1e12


class VirtualWorld:
    """One instance's view of the universe. The value of a task is its size in bytes. at: the instance's own clock."""

    __slots__ = ("at", "at_hand", "instance", "kind", "start", "universe", "worker")

    def __init__(
        self,
        universe: Universe,
        instance: str,
        kind: str = "",
        start: tuple[str, StartCost] | None = None,
    ) -> None:
        """An instance that has started at the present moment; start: 'cold' or 'warm', and what it took."""
        self.universe, self.instance, self.kind = universe, instance, kind
        self.start = start
        self.worker = ""
        self.at_hand: set[int] = set()
        self.at = universe.kernel.now

    async def register(self) -> Reply:
        """Read the program, the first time, or wake; then ask for work."""
        universe, begin = self.universe, self.at
        self.at += universe.costs.wake_s if self.start is None else universe.costs.program_s
        await self._meet()
        reply = universe.machine.register(
            self.instance, now=universe.kernel.now, fresh="sim", lease_s=FOR_EVER_S, kind=self.kind
        )
        if self.start is not None:
            universe.fleet.came(self.kind)
        if reply.worker:
            self._note_start(reply.worker, begin)
        self.start = None
        return self._took(reply)

    async def wait_work(self) -> None:
        """Rest until somebody hints; leave when nobody did for long enough."""
        await self._meet()
        await self.universe.fleet.rest(self.instance, self.kind)
        self.at = self.universe.kernel.now

    async def fetch(self, offer: Offer) -> int | Missing:
        """Transfer what is not at hand, all at once; small values came with the offer. Then unpickle."""
        universe, step, at_hand = self.universe, offer.task, self.at_hand
        prices, begin = universe.prices, self.at
        far = [entry for entry in prices.far[step] if entry[1] not in at_hand]
        if far or prices.outside[step]:
            outside = prices.outside[step]
            sizes = [far[0][0], outside] if far else [outside]
            self.at += universe.costs.fetching(universe.tasks[step], sizes)
            moved = sum(n for n, _ in far) + outside
            universe.note(step, self.worker, Phase.FETCH, begin, self.at, moved, offer.attempt)
            at_hand.update(
                u for n, u in far if n >= prices.gives[u]
            )  # a part of a value is none for other readers
            begin = self.at
        self.at += prices.load_s[step]
        universe.note(
            step, self.worker, Phase.LOAD, begin, self.at, prices.reads[step], offer.attempt
        )
        return prices.reads[step]

    async def run(self, offer: Offer, inputs: int) -> int | Failure:
        """Let the predicted time pass."""
        universe, begin = self.universe, self.at
        failing = universe.costs.failures.get(universe.tasks[offer.task], ())
        fails = offer.attempt <= len(failing)
        self.at += failing[offer.attempt - 1][0] if fails else universe.prices.run_s[offer.task]
        universe.note(offer.task, self.worker, Phase.RUN, begin, self.at, 0, offer.attempt)
        if fails:
            delay_s = failing[offer.attempt - 1][1]
            return Failure(task=offer.task, attempt=offer.attempt, error="{}", delay_s=delay_s)
        return universe.prices.gives[offer.task]

    async def store(self, offer: Offer, value: int) -> Commit | Failure:
        """Pickle, and transfer a large result."""
        universe, begin = self.universe, self.at
        self.at += universe.prices.dump_s[offer.task]
        universe.note(offer.task, self.worker, Phase.DUMP, begin, self.at, value, offer.attempt)
        if value > universe.costs.inline_bytes:
            begin = self.at
            self.at += universe.prices.store_s[offer.task]
            universe.note(
                offer.task, self.worker, Phase.STORE, begin, self.at, value, offer.attempt
            )
        self.at_hand.add(offer.task)
        return Commit(task=offer.task, address=Address(self.instance, value))

    async def complete(self, commits: Sequence[Commit]) -> Reply:
        """One round trip: half of it there, the step, half of it back; then letting go of what was held."""
        universe, begin, half, worker = (
            self.universe,
            self.at,
            self.universe.costs.commit_s / 2,
            self.worker,
        )
        self.at += half
        await self._meet()
        reply = universe.machine.complete(
            self.instance, commits, now=universe.kernel.now, fresh="sim"
        )
        self.at += half
        for commit in commits:
            self.at += universe.prices.release_s[commit.task]
            value = universe.prices.gives[commit.task]
            rides_along = value <= universe.costs.inline_bytes
            universe.note(
                commit.task, worker, Phase.COMMIT, begin, self.at, value if rides_along else 0, 1
            )
        return self._took(reply)

    async def fail(self, failure: Failure) -> Reply:
        """As complete; a back-off ends by itself."""
        universe = self.universe
        self.at += universe.costs.commit_s
        await self._meet()
        reply = universe.machine.fail(self.instance, failure, now=universe.kernel.now, fresh="sim")
        universe.wake_when_due()
        return self._took(reply)

    async def lost(self, missing: Missing) -> Reply:
        """As complete: virtual values do not vanish yet."""
        self.at += self.universe.costs.commit_s
        await self._meet()
        now = self.universe.kernel.now
        return self._took(
            self.universe.machine.lost(
                self.instance, missing.task, missing.inputs, now=now, fresh="sim"
            )
        )

    async def _meet(self) -> None:
        """Let the common clock come to this instance's."""
        await Sleep(self.at - self.universe.kernel.now)

    def _took(self, reply: Reply) -> Reply:
        universe = self.universe
        self.at += universe.settle()
        if reply.worker:
            self.worker = reply.worker
        for offer in reply.offers:
            if reply.now > offer.ready_at:
                universe.note(
                    offer.task,
                    self.worker,
                    Phase.QUEUE,
                    offer.ready_at,
                    reply.now,
                    0,
                    offer.attempt,
                )
        return reply

    def _note_start(self, worker: str, begin: float) -> None:
        """The acts of the start, back from when it began; of who was only woken, that."""
        note = self.universe.note
        if self.start is None:
            note(-1, worker, Phase.INVOKE, begin, self.at, 0, 1, "warm")
            return
        how, start = self.start
        if self.at > begin:
            note(-1, worker, Phase.PROGRAM, begin, self.at, 0, 1, how)
        at = begin - start.total_s
        acts = (Phase.INVOKE, Phase.CREATE, Phase.BOOT, Phase.IMPORT, Phase.REGISTER)
        lengths = (start.invoke_s, start.create_s, start.boot_s, start.import_s, start.register_s)
        for phase, seconds in zip(acts, lengths, strict=True):
            if seconds > 0 or phase is Phase.INVOKE:
                note(-1, worker, phase, at, at + seconds, 0, 1, how)
                at += seconds
