"""The virtual world: what each act of a worker does in a simulation, and how long it takes.

An instance has a clock of its own (`clock_s`). Between two steps of the state machine it does not
interact with the others, so its acts only advance that clock. Before each step it sleeps until the
common clock has come to the same moment (`_synchronise`): steps of all instances are taken in the
order of virtual time, as Redis would take them.

    instance clock   fetch--load--run--dump--store--commit/2 | step | commit/2--fetch--...
    common clock     ........................................^ one event a task, not one an act

One event a task keeps simulations fast enough for planners that search. If a step were taken
without synchronising, an instance could commit before another one that is earlier in virtual time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dagnb.planning.plan import LONG_S
from dagnb.planning.planner import StartCost
from dagnb.protocol.messages import Address, Commit, Failure, Offer, Reply, Status
from dagnb.protocol.worker import LOOK_S, Missing
from dagnb.simulation.environment import Sleep
from dagnb.trace.attempts import FAILED
from dagnb.trace.trace import Phase

if TYPE_CHECKING:
    from dagnb.simulation.simulated_run import SimulatedRun

ENDLESS_LEASE_S = 1e12
"""Virtual instances do not die, and need no heartbeats."""


class VirtualWorld:
    """The world of one instance. The value of a task is its size in bytes.

    clock_s: the instance's own time. cached: steps whose values the instance still holds.
    kept: steps whose results it keeps for their readers.
    imported: functions whose first call has imported what they need.
    """

    __slots__ = (
        "_begin_s",
        "_n_behind",
        "cached",
        "clock_s",
        "imported",
        "instance",
        "kept",
        "kind",
        "simulated",
        "start",
        "worker",
    )

    def __init__(
        self,
        simulated: SimulatedRun,
        instance: str,
        kind: str = "",
        start: tuple[str, StartCost] | None = None,
    ) -> None:
        """Makes the world of an instance that has just started.

        start: 'cold' or 'warm', and the seconds of its acts, the last of which ends at this moment.
        """
        self.simulated, self.instance, self.kind = simulated, instance, kind
        self.start = start
        self.worker = ""
        self.cached: set[int] = set()
        self.kept: set[int] = set()
        self.imported: set[str] = set()
        self.clock_s = simulated.environment.now
        self._begin_s, self._n_behind = self.clock_s, 0  # of the present task

    def clock(self) -> float:
        """Returns the time of this instance."""
        return self.clock_s

    def ends_batch(self, offer: Offer) -> bool:
        """Returns False: a virtual task has no effects."""
        return False

    async def register(self, want: int) -> Reply:
        """Reads the program, or wakes up if the instance did that before; then asks for work."""
        simulated, begin = self.simulated, self.clock_s
        if self.start is None:
            self.clock_s += simulated.costs.wake_s
        else:
            self.clock_s += simulated.costs.program_s
        await self._synchronise()
        reply = simulated.machine.register(
            self.instance,
            now=simulated.environment.now,
            fresh="sim",
            lease_s=ENDLESS_LEASE_S,
            want=want,
            kind=self.kind,
        )
        if self.start is not None:
            simulated.fleet.registered(self.kind)
        if reply.worker:
            self._record_start(reply.worker, begin)
        self.start = None
        return self._accept(reply)

    async def wait_work(self) -> None:
        """Waits for a hint. Raises InstanceLeft when the wait has been long enough."""
        await self._synchronise()
        await self.simulated.fleet.wait(self.instance, self.kind)
        self.clock_s = self.simulated.environment.now

    async def fetch(self, offer: Offer, n_behind: int) -> int | Missing:
        """Transfers the large inputs that are not cached, side by side; then unpickles all."""
        self._begin_s, self._n_behind = self.clock_s, n_behind
        kept_bytes = 0
        if self.simulated.kept:
            missing = self._missing(offer.task)
            if missing is not None:
                return missing
            kept_bytes = self._take_kept(offer.task)
        simulated, step, cached = self.simulated, offer.task, self.cached
        step_costs, begin = simulated.step_costs, self.clock_s
        transfers = [entry for entry in step_costs.transfers[step] if entry[1] not in cached]
        external = step_costs.external_bytes[step]
        if transfers or external:
            # The largest transfer is the first, and lasts as long as all of them together.
            sizes = [transfers[0][0], external] if transfers else [external]
            self.clock_s += simulated.costs.fetching(simulated.tasks[step], sizes)
            n_bytes = sum(size for size, _ in transfers) + external
            simulated.record(
                step, self.worker, Phase.FETCH, begin, self.clock_s, n_bytes, offer.attempt
            )
            for size, upstream in transfers:
                # A task may read a part of a value; other tasks cannot use that part.
                if size >= step_costs.output_bytes[upstream]:
                    cached.add(upstream)
            begin = self.clock_s

        n_bytes = step_costs.input_bytes[step] - kept_bytes
        load_s = step_costs.load_s[step]
        if kept_bytes:
            load_s = simulated.costs.loading(simulated.tasks[step], n_bytes)
        self.clock_s += load_s
        simulated.record(step, self.worker, Phase.LOAD, begin, self.clock_s, n_bytes, offer.attempt)
        return n_bytes

    async def run(self, offer: Offer, inputs: int) -> int | Failure:
        """Lets the seconds of the function pass; fails as often as the costs say."""
        simulated = self.simulated
        failures = simulated.costs.failures.get(simulated.tasks[offer.task], ())
        fails = offer.attempt <= len(failures)
        if fails:
            run_s, delay_s = failures[offer.attempt - 1]
        else:
            if offer.task in simulated.step_costs.imports:
                self._import(offer)
            run_s = simulated.step_costs.run_s[offer.task]
        begin = self.clock_s
        self.clock_s += run_s
        if self._n_behind:
            self._give_back_if_long(offer)
        simulated.record(offer.task, self.worker, Phase.RUN, begin, self.clock_s, 0, offer.attempt)
        if fails:
            return Failure(task=offer.task, attempt=offer.attempt, error="{}", delay_s=delay_s)
        return simulated.step_costs.output_bytes[offer.task]

    def reader(self, offer: Offer) -> tuple[int, int]:
        """See World.reader."""
        return self.simulated.machine.records[offer.task].reader

    async def store(self, offer: Offer, value: int, *, keeps: bool) -> Commit | Failure:
        """Pickles the result, and transfers it if it is large and not kept."""
        simulated, begin, task = self.simulated, self.clock_s, offer.task
        self.clock_s += simulated.step_costs.dump_s[task]
        simulated.record(task, self.worker, Phase.DUMP, begin, self.clock_s, value, offer.attempt)
        address = Address(self.instance, value)
        if keeps:
            self.kept.add(task)
            self.cached.add(task)
            simulated.kept.add(task)
            return Commit(task=task, address=address, is_kept=True)
        simulated.kept.discard(task)
        if value > simulated.costs.inline_bytes:
            begin = self.clock_s
            self.clock_s += simulated.step_costs.store_s[task]
            simulated.record(
                task, self.worker, Phase.STORE, begin, self.clock_s, value, offer.attempt
            )
        self.cached.add(task)
        return Commit(task=task, address=address)

    async def store_kept(self, offer: Offer) -> Commit | Failure | None:
        """Stores a result that was kept."""
        if offer.task not in self.kept:
            return None
        self.kept.discard(offer.task)
        return await self.store(
            offer, self.simulated.step_costs.output_bytes[offer.task], keeps=False
        )

    async def complete(self, commits: Sequence[Commit], want: int) -> Reply:
        """Makes one round trip, with the step in its middle; then frees what the tasks held."""
        simulated, begin, worker = self.simulated, self.clock_s, self.worker
        half_s = simulated.costs.commit_s / 2
        self.clock_s += half_s
        await self._synchronise()
        reply = simulated.machine.complete(
            self.instance, commits, now=simulated.environment.now, fresh="sim", want=want
        )
        self.clock_s += half_s
        for commit in commits:
            self.clock_s += simulated.step_costs.release_s[commit.task]
            n_bytes = simulated.step_costs.output_bytes[commit.task]
            if n_bytes > simulated.costs.inline_bytes:
                n_bytes = 0  # it was stored before, and is no part of the commit
            simulated.record(commit.task, worker, Phase.COMMIT, begin, self.clock_s, n_bytes, 1)
        return self._accept(reply)

    async def fail(self, failure: Failure, want: int) -> Reply:
        """Reports a failed attempt, in one round trip."""
        simulated, begin = self.simulated, self.clock_s
        self.clock_s += simulated.costs.commit_s
        await self._synchronise()
        reply = simulated.machine.fail(
            self.instance, failure, now=simulated.environment.now, fresh="sim", want=want
        )
        task, attempt = failure.task, failure.attempt
        simulated.record(task, self.worker, Phase.COMMIT, begin, self.clock_s, 0, attempt, FAILED)
        # In reality heartbeats and other workers' steps end back-offs. In a simulation all may have
        # left.
        simulated.wake_when_due()
        return self._accept(reply)

    async def lost(self, missing: Missing, want: int) -> Reply:
        """Reports lost inputs: those that were kept for an attempt that failed."""
        self.clock_s += self.simulated.costs.commit_s
        await self._synchronise()
        reply = self.simulated.machine.lost(
            self.instance,
            missing.task,
            missing.inputs,
            now=self.simulated.environment.now,
            fresh="sim",
            want=want,
        )
        return self._accept(reply)

    def _missing(self, step: int) -> Missing | None:
        """Returns the inputs that this instance does not hold, if any is missing."""
        unstored = self.simulated.kept.intersection(self.simulated.plan.steps[step].upstream)
        return Missing(step, tuple(sorted(unstored))) if unstored - self.kept else None

    def _take_kept(self, step: int) -> int:
        """Hands the step what was kept for it. Returns its bytes."""
        n_bytes = 0
        for upstream in self.simulated.plan.steps[step].upstream:
            if upstream in self.kept:
                self.kept.discard(upstream)
                n_bytes += self.simulated.step_costs.output_bytes[upstream]
        return n_bytes

    def _import(self, offer: Offer) -> None:
        """Lets the seconds of the step's imports pass, once for each function."""
        function, seconds = self.simulated.step_costs.imports[offer.task]
        if function in self.imported:
            return
        if function:
            self.imported.add(function)
        begin = self.clock_s
        self.clock_s += seconds
        self.simulated.record(
            offer.task, self.worker, Phase.IMPORT, begin, self.clock_s, 0, offer.attempt
        )

    def _give_back_if_long(self, offer: Offer) -> None:
        """Has a supervisor give back the tasks behind this one, if it sees it run for LONG_S.

        It looks every LOOK_S: in the mean it sees the task half of that later.
        """
        seen_s = self._begin_s + LONG_S + LOOK_S / 2
        if seen_s < self.clock_s:
            simulated, instance = self.simulated, self.instance
            wait_s = max(0.0, seen_s - simulated.environment.now)
            simulated.environment.later(
                wait_s, lambda: simulated.give_back(instance, offer.task, offer.attempt)
            )

    async def _synchronise(self) -> None:
        """Waits until the common clock has come to the time of this instance."""
        await Sleep(self.clock_s - self.simulated.environment.now)

    def _accept(self, reply: Reply) -> Reply:
        """Delivers the hints of the step, and records how long its tasks were ready."""
        simulated = self.simulated
        if self.kept and reply.status is not Status.NO_BLOB:
            offered = {offer.task for offer in reply.offers}
            records = simulated.machine.records
            self.kept = {step for step in self.kept if records[step].reader[0] in offered}
        self.clock_s += simulated.deliver_hints()
        if reply.worker:
            self.worker = reply.worker
        for offer in reply.offers:
            if reply.now > offer.ready_at:
                simulated.record(
                    offer.task,
                    self.worker,
                    Phase.QUEUE,
                    offer.ready_at,
                    reply.now,
                    0,
                    offer.attempt,
                )
        return reply

    def _record_start(self, worker: str, begin: float) -> None:
        """Records the acts of the start, which ended at `begin`; one act for a woken instance."""
        record = self.simulated.record
        if self.start is None:
            record(-1, worker, Phase.INVOKE, begin, self.clock_s, 0, 1, "warm")
            return

        detail, start = self.start
        if self.clock_s > begin:
            record(-1, worker, Phase.PROGRAM, begin, self.clock_s, 0, 1, detail)
        acts = (
            (Phase.INVOKE, start.invoke_s),
            (Phase.CREATE, start.create_s),
            (Phase.BOOT, start.boot_s),
            (Phase.IMPORT, start.import_s),
            (Phase.REGISTER, start.register_s),
        )
        act_begin = begin - start.total_s
        for phase, seconds in acts:
            # Each start has one INVOKE, also an instantaneous one: starts are counted by it.
            if seconds > 0 or phase is Phase.INVOKE:
                record(-1, worker, phase, act_begin, act_begin + seconds, 0, 1, detail)
                act_begin += seconds
