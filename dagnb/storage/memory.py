"""The store in this process: the state machine itself, behind the interface of stores.

For the inline launcher and for tests. A step never awaits between reading and writing the machine,
and a process has one event loop for its runs, so every step is atomic without a lock. A condition
per run wakes sleepers, which then check again what they wait for.

    call -> the machine's step at `now` -> _settle: drop bytes, pass on hints, wake sleepers
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
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
from dagnb.protocol.usage import RunParts, StoreUsage, usage_of
from dagnb.storage.interface import CHUNK_BYTES, SMALL_BYTES, RunLine


class _Moment(TypedDict):
    now: float
    fresh: str


_EVENTS_KEPT = 20_000
"""Events that a first look shows at most, as on a server."""


@dataclass
class _StoredRun:
    """Everything of one run.

    expires_at: epoch seconds. blobs: (task, token) -> bytes. hints: kind -> names of workers.
    is_needed: a launcher should ask `demand`. bell: notified after every step with hints, and at
    the end of the run.
    """

    machine: Machine
    expires_at: float
    blobs: dict[tuple[int, str], bytes]
    spans: list[bytes] = field(default_factory=list)
    logs: dict[int, str] = field(default_factory=dict)
    hints: dict[str, deque[str]] = field(default_factory=lambda: defaultdict(deque))
    is_needed: bool = False
    bell: asyncio.Condition = field(default_factory=asyncio.Condition)


class MemoryStore:
    """A store for one process and one event loop.

    A run is gone when its time to live is over, or the process ends.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """Make an empty store. clock: gives epoch seconds."""
        self._clock = clock
        self._runs: dict[str, _StoredRun] = {}
        self._contents = _Contents()

    @property
    def url(self) -> str:
        """See Store.url."""
        return "memory://"

    async def close(self) -> None:
        """Do nothing: there are no connections."""

    # ---- blobs ----

    async def store(
        self, run: str, task: int, token: str, data: bytes | memoryview, *, is_sink: bool
    ) -> Address:
        """See Blobs.store."""
        self._stored(run).blobs[task, token] = bytes(data)
        n_chunks = 0 if len(data) <= SMALL_BYTES else -(-len(data) // CHUNK_BYTES)
        return Address(token, len(data), n_chunks)

    async def fetch(
        self, run: str, wanted: Sequence[tuple[int, Address]], *, is_sink: bool = False
    ) -> list[bytes | None]:
        """See Blobs.fetch."""
        blobs = self._stored(run).blobs
        return [blobs.get((task, address.token)) for task, address in wanted]

    async def discard(self, run: str, task: int, token: str) -> None:
        """See Blobs.discard."""
        self._stored(run).blobs.pop((task, token), None)

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

    # ---- steps of instances ----

    async def submit(self, submission: Submission) -> float:
        """See Coordinator.submit."""
        now = self._clock()
        # Expired runs are removed only here, because a new run is what needs their memory.
        self._runs = {run: stored for run, stored in self._runs.items() if stored.expires_at > now}
        if submission.run not in self._runs:
            blobs: dict[tuple[int, str], bytes] = {}
            machine = Machine(
                submission,
                now,
                secrets.token_hex(8),
                lambda task, where: (task, where.token) in blobs,
            )
            self._runs[submission.run] = _StoredRun(machine, now + submission.ttl_s, blobs)
            # Its contents were shared before it; from now on they live as long as the run.
            self._contents.renew(submission.run, now + submission.ttl_s)
            await self._settle(self._runs[submission.run])
        return self._runs[submission.run].machine.submitted_at

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
        stored = self._stored(run)
        reply = stored.machine.register(
            instance, lease_s=lease_s, want=want, worker=worker, kind=kind, **self._now()
        )
        return await self._answer(stored, reply, slim)

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
        stored = self._stored(run)
        # Stored before the step, because the machine asks for the bytes. It lists those that it
        # refuses as discarded.
        for commit in commits:
            if commit.blob is not None:
                stored.blobs[commit.task, commit.address.token] = commit.blob
            if commit.log:
                stored.logs[commit.task] = commit.log
        reply = stored.machine.complete(instance, commits, want=want, **self._now())
        return await self._answer(stored, reply, slim, spans)

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
        stored = self._stored(run)
        if failure.log:
            stored.logs[failure.task] = failure.log
        reply = stored.machine.fail(instance, failure, want=want, **self._now())
        return await self._answer(stored, reply, slim, spans)

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
        stored = self._stored(run)
        reply = stored.machine.lost(instance, task, missing, want=want, **self._now())
        return await self._answer(stored, reply, slim)

    # ---- steps of supervisors, agents, clients ----

    async def heartbeat(
        self, run: str, instances: Sequence[str], *, lease_s: float
    ) -> dict[str, Status]:
        """See Machine.heartbeat."""
        stored = self._stored(run)
        pulses = stored.machine.heartbeat(instances, lease_s=lease_s, **self._now())
        stored.expires_at = max(stored.expires_at, self._clock() + stored.machine.submission.ttl_s)
        self._contents.renew(run, stored.expires_at)
        await self._settle(stored)
        return pulses

    async def dead(self, run: str, death: Death) -> bool:
        """See Machine.dead."""
        stored = self._stored(run)
        is_new = stored.machine.dead(death, **self._now())
        await self._settle(stored)
        return is_new

    async def give_back(self, run: str, instance: str, task: int, attempt: int) -> int:
        """See Machine.give_back."""
        stored = self._stored(run)
        n_tasks = stored.machine.give_back(instance, task, attempt, **self._now())
        await self._settle(stored)
        return n_tasks

    async def reap(self, run: str) -> int:
        """See Machine.reap."""
        stored = self._stored(run)
        expired = stored.machine.reap(**self._now())
        await self._settle(stored)
        return expired

    async def demand(self, run: str) -> Demand:
        """See Machine.demand."""
        stored = self._stored(run)
        demand = stored.machine.demand(**self._now())
        await self._settle(stored)
        return demand

    async def cancel(self, run: str, reason: str) -> bool:
        """See Machine.cancel."""
        stored = self._stored(run)
        was_running = stored.machine.cancel(reason, now=self._clock())
        await self._settle(stored)
        return was_running

    def part_from_parent(self) -> None:
        """End the copies of runs in a forked process: their workers are in the parent."""
        for stored in self._runs.values():
            # The conditions belong to the event loop of the parent, which does not run here.
            stored.bell = asyncio.Condition()
            stored.machine.cancel(
                "it goes on in the process that this one was forked from", now=self._clock()
            )

    # ---- looking ----

    async def record(self, run: str, spans: bytes) -> None:
        """See Coordinator.record."""
        stored = self._stored(run)
        stored.machine.take_part(now=self._clock())
        await self._settle(stored)
        stored.spans.append(spans)

    async def observe(self, run: str, cursor: str = "") -> Observation:
        """See Coordinator.observe."""
        return _observation(run, self._stored(run).machine, cursor, self._clock())

    async def spans(self, run: str, begin: int = 0) -> list[bytes]:
        """See Coordinator.spans."""
        return self._stored(run).spans[begin:]

    async def logs(self, run: str, tasks: Sequence[int]) -> list[str]:
        """See Coordinator.logs."""
        logs = self._stored(run).logs
        return [logs.get(task, "") for task in tasks]

    async def runs(self) -> list[RunLine]:
        """See Coordinator.runs."""
        # A run whose time is up is ended here: there may be no caller left to take the step.
        for run, stored in list(self._runs.items()):
            if stored.machine.is_overdue(self._clock()):
                await self.reap(run)
        lines = [_run_line(run, stored.machine) for run, stored in self._runs.items()]
        return sorted(lines, key=lambda line: -line.submitted_at)

    async def usage(self) -> StoreUsage:
        """See Store.usage. Counts the bytes of what is stored, not the objects around them."""
        runs = {}
        for run, stored in self._runs.items():
            runs[run] = _parts(stored, self._contents.used_by(run))
        contents = {name: len(data) for name, data in self._contents.data.items()}
        used_bytes = sum(contents.values())
        for parts in runs.values():
            used_bytes += parts.result_bytes + parts.record_bytes
        return usage_of(runs, contents, used_bytes=used_bytes, limit_bytes=None)

    async def forget(self, run: str) -> int:
        """See Coordinator.forget."""
        n_contents = self._contents.leave(run, self._clock())
        if run not in self._runs:
            return n_contents
        await self.cancel(run, "forgotten")
        del self._runs[run]
        return 1 + n_contents

    # ---- waiting ----

    async def wait_work(self, run: str, timeout_s: float, kind: str = "") -> None:
        """See Coordinator.wait_work."""
        stored = self._stored(run)
        hints = stored.hints[kind]
        await self._wait(stored, lambda: bool(hints), self._until_due(stored, timeout_s))
        # One hint wakes one sleeper, as the head of a list does on a server.
        if hints:
            hints.popleft()

    async def wait_demand(self, run: str, timeout_s: float) -> None:
        """See Coordinator.wait_demand."""
        stored = self._stored(run)
        await self._wait(stored, lambda: stored.is_needed, self._until_due(stored, timeout_s))
        stored.is_needed = False

    async def wait_end(self, run: str, timeout_s: float) -> None:
        """See Coordinator.wait_end."""
        # Only the end of the run ends this wait, and `_wait` checks for that itself.
        await self._wait(self._stored(run), lambda: False, timeout_s)

    # ---- parts ----

    def _stored(self, run: str) -> _StoredRun:
        if run not in self._runs:
            raise RunMissingError(run)
        return self._runs[run]

    def _now(self) -> _Moment:
        return _Moment(now=self._clock(), fresh=secrets.token_hex(8))

    def _until_due(self, stored: _StoredRun, timeout_s: float) -> float:
        """Shorten a wait to the end of the next back-off: no step would wake a sleeper then."""
        due = stored.machine.next_due()
        return timeout_s if due is None else min(timeout_s, max(0.0, due - self._clock()))

    async def _wait(
        self, stored: _StoredRun, is_news: Callable[[], bool], timeout_s: float
    ) -> None:
        """Wait until there is news, the run is over, or the time is up."""
        with suppress(TimeoutError):
            async with stored.bell, asyncio.timeout(timeout_s):
                await stored.bell.wait_for(
                    lambda: is_news() or stored.machine.state is not RunState.RUNNING
                )

    async def _answer(
        self, stored: _StoredRun, reply: Reply, slim: bool, spans: bytes = b""
    ) -> Reply:
        """Keep the spans, settle, and return the reply with the bytes of small inputs."""
        if spans:
            stored.spans.append(spans)
        await self._settle(stored)
        return _with_inputs(reply, stored.blobs, slim=slim)

    async def _settle(self, stored: _StoredRun) -> None:
        """Finish a step: drop discarded bytes, pass on hints, wake sleepers."""
        machine = stored.machine
        for task, address in machine.discarded:
            stored.blobs.pop((task, address.token), None)
        machine.discarded.clear()
        if machine.state is not RunState.RUNNING:
            kept = set()
            for sink in machine.submission.sinks:
                if sink in machine.results:
                    kept.add((sink, machine.results[sink].token))
            # In place: the machine's `has_blob` looks into this very dictionary.
            for key in stored.blobs.keys() - kept:
                del stored.blobs[key]
        # Before take_hints(), because needs() looks at the hints.
        stored.is_needed = stored.is_needed or machine.needs()
        hints = machine.take_hints()
        for kind, names in hints.items():
            stored.hints[kind].extend(names)
        if hints or machine.state is not RunState.RUNNING:
            async with stored.bell:
                stored.bell.notify_all()


def _observation(run: str, machine: Machine, cursor: str, now: float) -> Observation:
    """Returns the state of a run as a client sees it.

    cursor: number of events seen before, as text. With one, only events and errors since then.
    """
    first = max(int(cursor or 0), len(machine.events) - _EVENTS_KEPT)
    failing = {event.task for event in machine.events[first:] if event.kind in {"fail", "retry"}}
    workers = {}
    for instance, member in machine.roster.held.items():
        workers[machine.roster.name(member)] = ("active", instance)
    for member in machine.roster.invoked:
        workers[machine.roster.name(member)] = ("invoked", "")
    return Observation(
        run=run,
        state=machine.state,
        states="".join(machine.states),
        meta="" if cursor else machine.submission.meta,
        now=now,
        submitted_at=machine.submitted_at,
        finished_at=machine.finished_at,
        reason=machine.reason,
        events=tuple(machine.events[first:]),
        errors={
            key: text for key, text in machine.errors.items() if not cursor or key[0] in failing
        },
        workers=workers,
        results={s: machine.results[s] for s in machine.submission.sinks if s in machine.results},
        n_instances=len(machine.leases),
        cursor=str(len(machine.events)),
    )


def _parts(stored: _StoredRun, contents: frozenset[str]) -> RunParts:
    """Returns the bytes of a run. contents: hashes of those that it uses."""
    submission, n_bytes = stored.machine.submission, 0
    for texts in (submission.records, stored.spans, stored.logs.values()):
        n_bytes += sum(map(len, texts))
    return RunParts(
        result_bytes=sum(map(len, stored.blobs.values())),
        record_bytes=n_bytes + len(submission.meta) + len(stored.machine.states),
        contents=contents,
    )


def _run_line(run: str, machine: Machine) -> RunLine:
    """Returns one line of the list of runs."""
    return RunLine(
        run=run,
        name=str(json.loads(machine.submission.meta).get("name", "")),
        state=machine.state,
        submitted_at=machine.submitted_at,
        finished_at=machine.finished_at,
        n_tasks=len(machine.states),
    )


def _with_inputs(reply: Reply, blobs: Mapping[tuple[int, str], bytes], *, slim: bool) -> Reply:
    """Returns the reply with the bytes of small inputs. slim: without records of tasks."""
    offers = []
    for offer in reply.offers:
        inputs = []
        for item in offer.inputs:
            blob = None
            if item.address.n_chunks == 0:
                blob = blobs.get((item.task, item.address.token))
            inputs.append(replace(item, blob=blob))
        offers.append(replace(offer, inputs=tuple(inputs), record=None if slim else offer.record))
    return replace(reply, offers=tuple(offers))


class _Contents:
    """Content by hash, stored as long as a run uses it.

    users: hash -> run -> the moment until which the run surely uses it, epoch seconds.
    """

    def __init__(self) -> None:
        """Make it empty."""
        self.data: dict[str, bytes] = {}
        self.users: dict[str, dict[str, float]] = {}

    def share(
        self, contents: Mapping[str, bytes | memoryview], run: str, now: float, until: float
    ) -> int:
        """Add contents, and the run to their users. Returns bytes that were not there."""
        self.leave_expired(now)
        fresh = {name: bytes(data) for name, data in contents.items() if name not in self.data}
        self.data.update(fresh)
        for name in contents:
            users = self.users.setdefault(name, {})
            users[run] = max(until, users.get(run, until))
        return sum(map(len, fresh.values()))

    def renew(self, run: str, until: float) -> None:
        """Prolong the uses of a run. A use is never shortened."""
        for users in self.users.values():
            if run in users:
                users[run] = max(until, users[run])

    def used_by(self, run: str) -> frozenset[str]:
        """Returns the hashes of the contents that the run uses."""
        return frozenset(name for name, users in self.users.items() if run in users)

    def find(self, name: str, now: float) -> bytes | None:
        """Returns the bytes, None without a user."""
        is_used = any(until > now for until in self.users.get(name, {}).values())
        return self.data.get(name) if is_used else None

    def leave(self, run: str, now: float) -> int:
        """Remove a run from the users of all contents.

        Returns the number of contents that this deleted.
        """
        n_before = len(self.data)
        for users in self.users.values():
            users.pop(run, None)
        self.leave_expired(now)
        return n_before - len(self.data)

    def leave_expired(self, now: float) -> None:
        """Remove uses that have ended, and content without users."""
        for name, users in list(self.users.items()):
            for run, until in list(users.items()):
                if until <= now:
                    del users[run]
            if not users:
                del self.users[name]
                del self.data[name]
