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

Every reply, whatever it answers, brings the next tasks: a task costs one round trip.

The world of a worker is everything that it may ask for outside itself. Two worlds exist: the
runtime (asyncio and a store) and the virtual one (simulated time).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from dagnb.graph.brief import brief
from dagnb.protocol.messages import Commit, Failure, Offer, Reply, Status

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

    async def register(self) -> Reply:
        """Report that this instance is here, and ask for work."""
        ...

    async def wait_work(self) -> None:
        """Return when there may be work again.

        The hint may be wrong: only the reply to `register` counts.
        """
        ...

    async def fetch(self, offer: Offer) -> Inputs | Missing:
        """Return the values of the upstream tasks, or those that the store has lost."""
        ...

    async def run(self, offer: Offer, inputs: Inputs) -> Value | Failure:
        """Call the user's function."""
        ...

    async def store(self, offer: Offer, value: Value) -> Commit | Failure:
        """Store a large result; a small one becomes part of the commit."""
        ...

    async def complete(self, commits: Sequence[Commit]) -> Reply:
        """Commit results and get the next tasks, in one round trip."""
        ...

    async def fail(self, failure: Failure) -> Reply:
        """Report a failed attempt and get the next tasks."""
        ...

    async def lost(self, missing: Missing) -> Reply:
        """Have missing upstream values computed again, and get the next tasks; the task waits."""
        ...


class Worker(Generic[Inputs, Value]):
    """One instance. It staffs one worker after another, as asked for, until the run is over."""

    def __init__(self, world: World[Inputs, Value]) -> None:
        """Make a worker in a world."""
        self.world = world

    async def work(self) -> None:
        """Work from the first registration to the end of the run.

        It ends earlier when another instance turns out to staff the worker (REFUSED).
        """
        reply = await self.world.register()
        while reply.status not in (Status.STOP, Status.REFUSED):
            if reply.status is Status.TASKS:
                reply = await self.branch(reply)
                continue
            # A fenced instance has missed work already: it must not sleep before it asks again.
            if reply.status is not Status.FENCED:
                await self.world.wait_work()
            reply = await self.world.register()

    async def branch(self, reply: Reply) -> Reply:
        """Run the offered tasks and commit those that succeeded in one step. Returns the reply.

        A task that fails ends the batch: its report is a step of its own, and the offers after it
        come again with the reply to that.
        """
        commits: list[Commit] = []
        stored: list[tuple[Offer, Value]] = []
        for offer in reply.offers:
            value = await self.attempt(offer)
            if isinstance(value, Failure | Missing):
                # First what succeeded: the failure may end the run, and with it late commits.
                if commits:
                    await self.commit(commits, stored)
                if isinstance(value, Failure):
                    return await self.world.fail(value)
                return await self.world.lost(value)
            commit, result = value
            commits.append(commit)
            stored.append((offer, result))
        return await self.commit(commits, stored)

    async def attempt(self, offer: Offer) -> tuple[Commit, Value] | Failure | Missing:
        """Make one attempt of one task: fetch, run, store."""
        inputs = await self.world.fetch(offer)
        if isinstance(inputs, Missing):
            return inputs
        value = await self.world.run(offer, inputs)
        if isinstance(value, Failure):
            return value
        commit = await self.world.store(offer, value)
        return commit if isinstance(commit, Failure) else (commit, value)

    async def commit(self, commits: list[Commit], stored: list[tuple[Offer, Value]]) -> Reply:
        """Commit, and store results again that the store says it does not hold. Returns the reply.

        A server that evicts, or that was replaced, may lose bytes between store and commit.
        """
        reply = await self.world.complete(commits)
        while reply.status is Status.NO_BLOB:
            again: list[Commit] = []
            for offer, value in stored:
                if offer.task not in reply.missing:
                    continue
                commit = await self.world.store(offer, value)
                if isinstance(commit, Failure):
                    return await self.world.fail(commit)
                again.append(commit)
            reply = await self.world.complete(again)
        return reply
