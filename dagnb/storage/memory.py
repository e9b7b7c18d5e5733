"""The store in this process: the state machine itself behind the interface. For the inline launcher and for tests."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypedDict

from dagnb.errors import RunMissingError
from dagnb.protocol.machine import Machine
from dagnb.protocol.messages import (
    Address,
    Commit,
    Death,
    Demand,
    Failure,
    Observation,
    Reply,
    RunState,
    Status,
    Submission,
)
from dagnb.storage.interface import CHUNK_BYTES, SMALL_BYTES, RunLine
from dagnb.storage.memory_contents import MemoryContents
from dagnb.storage.memory_look import observation, run_line, with_inputs


class _Moment(TypedDict):
    now: float
    fresh: str


@dataclass
class _Room:
    """Everything of one run."""

    machine: Machine
    expires_at: float
    blobs: dict[tuple[int, str], bytes]
    spans: list[bytes] = field(default_factory=list)
    logs: dict[int, str] = field(default_factory=dict)
    hints: dict[str, deque[str]] = field(default_factory=lambda: defaultdict(deque))
    is_needed: bool = False
    bell: asyncio.Condition = field(default_factory=asyncio.Condition)


class MemoryStore:
    """One process, one event loop. A run is gone when its time to live is over or the process ends."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """An empty store; clock gives epoch seconds."""
        self._clock = clock
        self._rooms: dict[str, _Room] = {}
        self._contents = MemoryContents()

    @property
    def url(self) -> str:
        """Where it is."""
        return "memory://"

    async def close(self) -> None:
        """Nothing to give back."""

    async def store(
        self, run: str, task: int, token: str, data: bytes | memoryview, *, is_sink: bool
    ) -> Address:
        """See Blobs.store."""
        self._room(run).blobs[task, token] = bytes(data)
        n_chunks = 0 if len(data) <= SMALL_BYTES else -(-len(data) // CHUNK_BYTES)
        return Address(token, len(data), n_chunks)

    async def fetch(
        self, run: str, wanted: Sequence[tuple[int, Address]], *, is_sink: bool = False
    ) -> list[bytes | None]:
        """See Blobs.fetch."""
        blobs = self._room(run).blobs
        return [blobs.get((task, address.token)) for task, address in wanted]

    async def share(
        self, contents: Mapping[str, bytes | memoryview], *, run: str, ttl_s: float
    ) -> int:
        """See Blobs.share."""
        now = self._clock()
        return self._contents.share(contents, run, now, now + ttl_s)

    async def content(self, hashes: Sequence[str]) -> list[bytes | None]:
        """See Blobs.content."""
        now = self._clock()
        return [self._contents.find(name, now) for name in hashes]

    async def submit(self, submission: Submission) -> float:
        """See Coordinator.submit."""
        now = self._clock()
        self._rooms = {run: room for run, room in self._rooms.items() if room.expires_at > now}
        if submission.run not in self._rooms:
            blobs: dict[tuple[int, str], bytes] = {}
            machine = Machine(
                submission,
                now,
                secrets.token_hex(8),
                lambda task, where: (task, where.token) in blobs,
            )
            self._rooms[submission.run] = _Room(machine, now + submission.ttl_s, blobs)
            self._contents.renew(submission.run, now + submission.ttl_s)
            await self._settle(self._rooms[submission.run])
        return self._rooms[submission.run].machine.submitted_at

    async def register(
        self,
        run: str,
        instance: str,
        *,
        lease_s: float,
        want: int = 1,
        worker: tuple[str, str] | None = None,
        slim: bool = False,
        kind: str = "",
    ) -> Reply:
        """See Machine.register."""
        room = self._room(run)
        reply = room.machine.register(
            instance, lease_s=lease_s, want=want, worker=worker, kind=kind, **self._now()
        )
        return await self._answer(room, reply, slim)

    async def complete(
        self,
        run: str,
        instance: str,
        commits: Sequence[Commit],
        *,
        want: int = 1,
        spans: bytes = b"",
        slim: bool = False,
    ) -> Reply:
        """See Machine.complete."""
        room = self._room(run)
        for commit in commits:
            if commit.blob is not None:
                room.blobs[commit.task, commit.address.token] = commit.blob
            if commit.log:
                room.logs[commit.task] = commit.log
        reply = room.machine.complete(instance, commits, want=want, **self._now())
        return await self._answer(room, reply, slim, spans)

    async def fail(
        self,
        run: str,
        instance: str,
        failure: Failure,
        *,
        want: int = 1,
        spans: bytes = b"",
        slim: bool = False,
    ) -> Reply:
        """See Machine.fail."""
        room = self._room(run)
        if failure.log:
            room.logs[failure.task] = failure.log
        reply = room.machine.fail(instance, failure, want=want, **self._now())
        return await self._answer(room, reply, slim, spans)

    async def lost(
        self,
        run: str,
        instance: str,
        task: int,
        missing: Sequence[int],
        *,
        want: int = 1,
        slim: bool = False,
    ) -> Reply:
        """See Machine.lost."""
        room = self._room(run)
        reply = room.machine.lost(instance, task, missing, want=want, **self._now())
        return await self._answer(room, reply, slim)

    async def heartbeat(
        self, run: str, instances: Sequence[str], *, lease_s: float
    ) -> dict[str, Status]:
        """See Machine.heartbeat."""
        room = self._room(run)
        pulses = room.machine.heartbeat(instances, lease_s=lease_s, **self._now())
        room.expires_at = max(room.expires_at, self._clock() + room.machine.submission.ttl_s)
        self._contents.renew(run, room.expires_at)
        await self._settle(room)
        return pulses

    async def dead(self, run: str, death: Death) -> bool:
        """See Machine.dead."""
        room = self._room(run)
        news = room.machine.dead(death, **self._now())
        await self._settle(room)
        return news

    async def reap(self, run: str) -> int:
        """See Machine.reap."""
        room = self._room(run)
        expired = room.machine.reap(**self._now())
        await self._settle(room)
        return expired

    async def demand(self, run: str) -> Demand:
        """See Machine.demand."""
        room = self._room(run)
        demand = room.machine.demand(**self._now())
        await self._settle(room)
        return demand

    async def cancel(self, run: str, reason: str) -> bool:
        """See Machine.cancel."""
        room = self._room(run)
        news = room.machine.cancel(reason, now=self._clock())
        await self._settle(room)
        return news

    def part_from_parent(self) -> None:
        """In a forked process: its workers and whoever waits live in the parent."""
        for room in self._rooms.values():
            room.machine.cancel(
                "it goes on in the process that this one was forked from", now=self._clock()
            )
            room.bell = asyncio.Condition()

    async def record(self, run: str, spans: bytes) -> None:
        """Append spans."""
        room = self._room(run)
        room.machine.take_part(now=self._clock())
        await self._settle(room)
        room.spans.append(spans)

    async def observe(self, run: str, cursor: str = "") -> Observation:
        """See Coordinator.observe."""
        return observation(run, self._room(run).machine, cursor, self._clock())

    async def spans(self, run: str, begin: int = 0) -> list[bytes]:
        """Chunks of spans."""
        return self._room(run).spans[begin:]

    async def logs(self, run: str, tasks: Sequence[int]) -> list[str]:
        """What the task printed."""
        logs = self._room(run).logs
        return [logs.get(task, "") for task in tasks]

    async def runs(self) -> list[RunLine]:
        """Newest first."""
        for run, room in list(self._rooms.items()):
            if room.machine.is_overdue(self._clock()):
                await self.reap(run)
        lines = [run_line(run, room.machine) for run, room in self._rooms.items()]
        return sorted(lines, key=lambda line: -line.submitted_at)

    async def forget(self, run: str) -> int:
        """See Coordinator.forget."""
        n_contents = self._contents.leave(run, self._clock())
        if run not in self._rooms:
            return n_contents
        await self.cancel(run, "forgotten")
        del self._rooms[run]
        return 1 + n_contents

    async def wait_work(self, run: str, timeout_s: float, kind: str = "") -> None:
        """See Coordinator.wait_work."""
        room = self._room(run)
        hints = room.hints[kind]
        await self._wait(room, lambda: bool(hints), self._until_due(room, timeout_s))
        if hints:
            hints.popleft()

    async def wait_demand(self, run: str, timeout_s: float) -> None:
        """See Coordinator.wait_demand."""
        room = self._room(run)
        await self._wait(room, lambda: room.is_needed, self._until_due(room, timeout_s))
        room.is_needed = False

    async def wait_end(self, run: str, timeout_s: float) -> None:
        """See Coordinator.wait_end."""
        await self._wait(self._room(run), lambda: False, timeout_s)

    # ---- parts ----

    def _room(self, run: str) -> _Room:
        if run not in self._rooms:
            raise RunMissingError(run)
        return self._rooms[run]

    def _now(self) -> _Moment:
        return _Moment(now=self._clock(), fresh=secrets.token_hex(8))

    def _until_due(self, room: _Room, timeout_s: float) -> float:
        """A back-off that ends earlier shortens a wait: nobody else would wake us."""
        due = room.machine.next_due()
        return timeout_s if due is None else min(timeout_s, max(0.0, due - self._clock()))

    async def _wait(self, room: _Room, is_news: Callable[[], bool], timeout_s: float) -> None:
        """Until there is news, or the run is over, or the time is up."""
        with suppress(TimeoutError):
            async with room.bell, asyncio.timeout(timeout_s):
                await room.bell.wait_for(
                    lambda: is_news() or room.machine.state is not RunState.RUNNING
                )

    async def _answer(self, room: _Room, reply: Reply, slim: bool, spans: bytes = b"") -> Reply:
        """The reply with small inputs aboard."""
        if spans:
            room.spans.append(spans)
        await self._settle(room)
        return with_inputs(reply, room.blobs, slim=slim)

    async def _settle(self, room: _Room) -> None:
        """What a step leaves to do: bytes to throw away, sleepers to wake."""
        machine = room.machine
        for task, address in machine.discarded:
            room.blobs.pop((task, address.token), None)
        machine.discarded.clear()
        if machine.state is not RunState.RUNNING:
            kept = {
                (s, machine.results[s].token)
                for s in machine.submission.sinks
                if s in machine.results
            }
            for key in [key for key in room.blobs if key not in kept]:
                del room.blobs[key]
        room.is_needed = room.is_needed or machine.needs()
        hints = machine.take_hints()
        for kind, names in hints.items():
            room.hints[kind].extend(names)
        if hints or machine.state is not RunState.RUNNING:
            async with room.bell:
                room.bell.notify_all()
