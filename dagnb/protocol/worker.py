"""The worker, written once: the same code runs in processes, in containers and in virtual time.

Rule 1: what a worker does next is decided only in this file and in the coordinator's reply.
Rule 2: no clock, no store, no asyncio, no "am I simulated?": everything comes through the world.
"""

from __future__ import annotations

from typing import Generic

from dagnb.protocol.messages import Commit, Failure, Offer, Reply, Status
from dagnb.protocol.world import Inputs, Missing, Value, World


class Worker(Generic[Inputs, Value]):
    """One instance: it staffs one worker after another, whichever is asked for, until the run is over."""

    def __init__(self, world: World[Inputs, Value]) -> None:
        """A worker in a world."""
        self.world = world

    async def work(self) -> None:
        """From the first registration to the end of the run, or until somebody else turns out to staff the worker."""
        reply = await self.world.register()
        while reply.status not in (Status.STOP, Status.REFUSED):
            if reply.status is Status.TASKS:
                reply = await self.branch(reply)
                continue
            if reply.status is not Status.FENCED:
                await self.world.wait_work()
            reply = await self.world.register()

    async def branch(self, reply: Reply) -> Reply:
        """Run the offered tasks, commit what succeeded in one step. Returns the reply that brings the next ones.

        A task that fails ends the batch: its report is a step of its own, and the offers after it come again.
        """
        commits: list[Commit] = []
        stored: list[tuple[Offer, Value]] = []
        for offer in reply.offers:
            value = await self.attempt(offer)
            if isinstance(value, Failure | Missing):
                if commits:
                    await self.commit(commits, stored)
                return await (
                    self.world.fail(value) if isinstance(value, Failure) else self.world.lost(value)
                )
            commit, result = value
            commits.append(commit)
            stored.append((offer, result))
        return await self.commit(commits, stored)

    async def attempt(self, offer: Offer) -> tuple[Commit, Value] | Failure | Missing:
        """Fetch, run, store: one attempt of one task."""
        inputs = await self.world.fetch(offer)
        if isinstance(inputs, Missing):
            return inputs
        value = await self.world.run(offer, inputs)
        if isinstance(value, Failure):
            return value
        commit = await self.world.store(offer, value)
        return commit if isinstance(commit, Failure) else (commit, value)

    async def commit(self, commits: list[Commit], stored: list[tuple[Offer, Value]]) -> Reply:
        """Commit, and store again what the store says it does not hold."""
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
