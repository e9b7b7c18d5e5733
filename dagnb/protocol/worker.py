"""The worker, written once: the same code runs in processes, in containers and in virtual time.

Rule 1: only this file and the coordinator's replies decide what a worker does next.
Rule 2: no clock, no store, no asyncio, no "am I simulated?": everything comes through the world.

            register                                complete, fail, lost
               |                                      |            ^
               v                                      v            |
    STOP <-- reply --> TASKS --> fetch, run, store each offer -----+
    REFUSED    |
               +--> IDLE: wait for a hint, then register again
               +--> FENCED: the lease ran out; register again at once

Every reply, whatever it answers, brings the next tasks: a task costs one round trip, or less.

Batches
-------
A trip to the store takes longer than a short task. So a worker asks for as many tasks as its last
ones let it run in about WORK_S, and commits them together. The store gives it no more than a fair
share of what is ready. A batch ends early, with a commit, when

    a task has failed           its report is a step of its own
    a task took over LONG_S     the supervisor may have given back the rest meanwhile, see below
    results are over MOST_BYTES they are held in memory until the commit
    a task is not pure          its effects must not be repeated because a later task crashes
    a reader needs the commit   its input was stored, not kept; else it would report that as lost

A task that turns out long keeps no other task waiting: its supervisor sees it run for LONG_S, and
gives the tasks behind it back to the store (`Machine.give_back`). No task can be given back and run
here, too: worker and supervisor read one monotonic clock, so when the supervisor has seen LONG_S,
the worker sees it as well, and asks the store which tasks it still has before it begins another.

Kept results
------------
A batch may hold a task and its only reader (`Record.together`, asked for by `Way.LOCAL` of the
plan). The worker then keeps the result for the reader, and nothing of it travels or is stored. A
kept result is lost with its worker, with the reader's attempt, or when the reader is given back:
the store then has the task run again, and before it others whose results were kept. So the worker
stores a result when a crash would otherwise repeat more than KEPT_S of work. A reader that waits
for nothing else need not be in the batch: the commit of the kept result takes it. The store refuses
such a commit (NO_BLOB) if the reader was charged before, or the worker is known to have lost its
lease; the worker then stores the result.

The world of a worker is everything that it may ask for outside itself. Two worlds exist: the
runtime (asyncio and a store) and the virtual one (simulated time).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from dagnb.graph.brief import brief
from dagnb.planning.plan import KEPT_S, LONG_S
from dagnb.protocol.messages import Commit, Failure, Offer, Reply, Status

WORK_S = 0.002
"""Seconds of work that a worker takes at a time, if its tasks are that short."""

LOOK_S = 0.05
"""Seconds between two looks of a supervisor at its workers."""

MOST_TASKS = 128
MOST_BYTES = 256 * 1024
"""Tasks of a batch, and bytes of its results, at most."""

Inputs = TypeVar("Inputs")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Missing:
    """Upstream values of an offer that the store no longer holds."""

    task: int
    inputs: tuple[int, ...]

    __repr__ = brief


class World(Protocol[Inputs, Value]):
    """The acts of a worker. Each act takes time, and the world records its spans."""

    def clock(self) -> float:
        """Return seconds by a clock that never goes back, the one that the supervisor reads."""
        ...

    def ends_batch(self, offer: Offer) -> bool:
        """Return whether this task must be committed before another one begins."""
        ...

    async def register(self, want: int) -> Reply:
        """Report that this instance is here, and ask for up to `want` tasks; also below."""
        ...

    async def wait_work(self) -> None:
        """Return when there may be work again.

        The hint may be wrong: only the reply to `register` counts.
        """
        ...

    async def fetch(self, offer: Offer, n_behind: int) -> Inputs | Missing:
        """Return the values of the upstream tasks, or those that the store has lost.

        n_behind: number of tasks of the batch that wait behind this one.
        """
        ...

    async def run(self, offer: Offer, inputs: Inputs) -> Value | Failure:
        """Call the user's function."""
        ...

    def reader(self, offer: Offer) -> tuple[int, int]:
        """Return the task that reads the result and is run together with this one.

        -1 for none. Then the number of its inputs.
        """
        ...

    async def store(self, offer: Offer, value: Value, *, keeps: bool) -> Commit | Failure:
        """Store a large result; a small one becomes part of the commit.

        keeps: keep it for the reader instead, if there is room: Commit.is_kept says so.
        """
        ...

    async def store_kept(self, offer: Offer) -> Commit | Failure | None:
        """Store a result that was kept. Return None if its reader has begun: it is the reader's."""
        ...

    async def complete(self, commits: Sequence[Commit], want: int) -> Reply:
        """Commit results and get the next tasks, in one round trip."""
        ...

    async def fail(self, failure: Failure, want: int) -> Reply:
        """Report a failed attempt and get the next tasks."""
        ...

    async def lost(self, missing: Missing, want: int) -> Reply:
        """Have missing upstream values computed again, and get the next tasks; the task waits."""
        ...


class _Pace:
    """The number of tasks to take at a time, by the seconds that the last ones took."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._task_s = WORK_S  # before the first task: one at a time

    @property
    def want(self) -> int:
        """The number of tasks that take about WORK_S together, at least one."""
        if self._task_s * self._most <= WORK_S:
            return self._most
        return max(1, int(WORK_S / self._task_s))

    def note(self, task_s: float) -> None:
        """Note the seconds of a task. The last tasks count most: 1/2, 1/4, 1/8, ..."""
        self._task_s = (self._task_s + task_s) / 2


class Worker(Generic[Inputs, Value]):
    """One instance. It staffs one worker after another, as asked for, until the run is over."""

    def __init__(self, world: World[Inputs, Value], most_tasks: int = MOST_TASKS) -> None:
        """Make a worker in a world.

        most_tasks: of a batch. 1 where no supervisor could give tasks back.
        """
        self.world = world
        self._pace = _Pace(most_tasks)
        # Reader -> seconds of work that a crash would repeat, since its result is kept for that
        # reader, or was kept for one of the tasks before.
        self._kept_s: dict[int, float] = {}

    async def work(self) -> None:
        """Work from the first registration to the end of the run.

        It ends earlier when another instance turns out to staff the worker (REFUSED).
        """
        reply = await self.world.register(self._pace.want)
        while reply.status not in (Status.STOP, Status.REFUSED):
            if reply.status is Status.TASKS:
                reply = await self.branch(reply)
                continue
            # A fenced instance has missed work already: it must not sleep before it asks again.
            if reply.status is not Status.FENCED:
                await self.world.wait_work()
            reply = await self.world.register(self._pace.want)

    async def branch(self, reply: Reply) -> Reply:
        """Run the offered tasks and commit those that succeeded in one step. Returns the reply.

        Offers after the one that ended the batch come again with the reply, unless they were given
        back.
        """
        commits: list[Commit] = []
        stored: dict[int, Value] = {}
        n_bytes = 0
        behind = [offer.task for offer in reply.offers[::-1]]  # the next one last
        for reader in self._kept_s.keys() - behind:
            del self._kept_s[reader]  # it was taken away, and what was kept for it is lost
        for offer in reply.offers:
            begin_s = self.world.clock()
            behind.pop()
            value = await self.attempt(offer, behind)
            task_s = self.world.clock() - begin_s
            self._pace.note(task_s)
            if isinstance(value, Failure | Missing):
                # First what succeeded: the failure may end the run, and with it late commits.
                if commits:
                    await self.commit(reply.offers, commits, stored)
                if isinstance(value, Failure):
                    return await self.world.fail(value, self._pace.want)
                return await self.world.lost(value, self._pace.want)
            commit, result = value
            commits.append(commit)
            reader, _ = self.world.reader(offer)
            work_s = self._kept_s.pop(offer.task, 0.0) + task_s
            if commit.is_kept:
                self._kept_s[reader] = self._kept_s.get(reader, 0.0) + work_s
            else:
                stored[offer.task] = result
                n_bytes += commit.address.n_bytes
                if reader in behind:
                    break
            if task_s > LONG_S or n_bytes > MOST_BYTES or self.world.ends_batch(offer):
                break
        return await self.commit(reply.offers, commits, stored)

    async def attempt(
        self, offer: Offer, behind: Sequence[int]
    ) -> tuple[Commit, Value] | Failure | Missing:
        """Make one attempt of one task: fetch, run, store.

        behind: tasks of the batch that follow, the next one last.
        """
        begin_s = self.world.clock()
        inputs = await self.world.fetch(offer, len(behind))
        if isinstance(inputs, Missing):
            return inputs
        value = await self.world.run(offer, inputs)
        if isinstance(value, Failure):
            return value
        keeps = self._keeps(offer, behind, self.world.clock() - begin_s)
        commit = await self.world.store(offer, value, keeps=keeps)
        return commit if isinstance(commit, Failure) else (commit, value)

    def _keeps(self, offer: Offer, behind: Sequence[int], task_s: float) -> bool:
        """Returns whether to keep the result of a task that took so many seconds."""
        reader, n_inputs = self.world.reader(offer)
        if reader < 0 or sum(self._kept_s.values()) + task_s > KEPT_S:
            return False
        if n_inputs == 1:
            # It is in the batch, or the commit brings it, since it waits for nothing else.
            return True
        # After LONG_S the tasks behind may have been given back.
        return task_s <= LONG_S and reader in behind

    async def commit(
        self, offers: Sequence[Offer], commits: list[Commit], stored: dict[int, Value]
    ) -> Reply:
        """Commit, and store results again that the store says it does not hold. Returns the reply.

        A server that evicts, or that was replaced, may lose bytes between store and commit. A
        result that was kept may have to be stored after all.
        """
        reply = await self.world.complete(commits, self._pace.want)
        while reply.status is Status.NO_BLOB:
            again: list[Commit] = []
            for offer in offers:
                if offer.task not in reply.missing:
                    continue
                commit: Commit | Failure | None
                if offer.task in stored:
                    commit = await self.world.store(offer, stored[offer.task], keeps=False)
                else:
                    commit = await self.world.store_kept(offer)
                if isinstance(commit, Failure):
                    return await self.world.fail(commit, self._pace.want)
                if commit is not None:
                    again.append(commit)
            reply = await self.world.complete(again, self._pace.want)
        return reply
