"""The store on a Redis or Valkey server. Every step is one call of the library in scripts/.

RedisStore       steps, looks and waits: one call, or one BLPOP, each
RedisBlobs       bytes of results and of content, in pieces        redis_blobs.py
RedisConnection  limits, repetition, errors, loading the library   redis_link.py

Messages travel as the library takes and gives them: flat lists, bytes, MessagePack. A comment above
each function of scripts/*.lua has the names of its arguments. Lists are flat, because a table for
each group would be slow in Lua.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import msgpack

from dagnb.errors import RunMissingError
from dagnb.protocol.messages import (
    Address,
    Commit,
    Death,
    Demand,
    Event,
    Failure,
    Input,
    Observation,
    Offer,
    Reply,
    RunState,
    Status,
    Submission,
)
from dagnb.protocol.usage import StoreUsage
from dagnb.storage.interface import RunLine
from dagnb.storage.keys import hint_name, index_key, run_prefix
from dagnb.storage.redis_blobs import WINDOW_BYTES, RedisBlobs, portions
from dagnb.storage.redis_link import RedisConnection, refuse_exposed
from dagnb.storage.redis_room import make_room, read_usage
from dagnb.storage.redis_transport import Command

_LOG_BYTES = 64 * 1024
"""The largest log that a look allows time for."""

_META_LEVEL = 1
"""Of zlib, for descriptions of runs: a sixth of the bytes; higher levels gain 1 %."""

_LINE_FIELDS = ("state", "submitted_at", "finished_at", "n_tasks", "meta")
_END_FIELDS = ("start_by", "deadline_at")


class RedisStore:
    """See dagnb.storage.interface.Store. Made by `open`."""

    def __init__(self, link: RedisConnection, namespace: str) -> None:
        """Make a store on an open link. namespace: begins every key."""
        self.link = link
        self.namespace = namespace
        self.blobs = RedisBlobs(link, namespace)
        self._index = index_key(namespace)
        link.make_room = partial(make_room, self.blobs)

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        namespace: str = "dagnb",
        allow_insecure: bool = False,
        allow_eviction: bool = False,
        patience_s: float = 10.0,
        blocks: bool = False,
    ) -> RedisStore:
        """Open a store, after a check of its server.

        patience_s: the longest outage that calls wait for.
        blocks: calls block the thread, which has no event loop; see redis_transport.py.

        Raises ConfigError, StorageUnavailableError.
        """
        if not allow_insecure:
            refuse_exposed(url)
        link = RedisConnection(url, patience_s, blocks=blocks)
        try:
            # Workers allow both: the client has checked the server for them.
            if not (allow_insecure and allow_eviction):
                await link.check(allow_eviction=allow_eviction)
        except BaseException:  # also when cancelled: the caller has no store to close yet
            await link.close()
            raise
        return cls(link, namespace)

    @property
    def url(self) -> str:
        """See Store.url."""
        return self.link.url

    @property
    def round_trips(self) -> int:
        """The number of times this store asked the server."""
        return self.link.round_trips

    async def close(self) -> None:
        """See Store.close."""
        await self.link.close()

    # ---- blobs ----

    async def store(
        self, run: str, task: int, token: str, data: bytes | memoryview, *, is_sink: bool
    ) -> Address:
        """See Blobs.store."""
        return await self.blobs.store(run, task, token, data, is_sink=is_sink)

    async def fetch(
        self, run: str, wanted: Sequence[tuple[int, Address]], *, is_sink: bool = False
    ) -> list[bytes | None]:
        """See Blobs.fetch."""
        return await self.blobs.fetch(run, wanted, is_sink=is_sink)

    async def discard(self, run: str, task: int, token: str) -> None:
        """See Blobs.discard."""
        await self.blobs.discard(run, task, token)

    async def share(
        self, contents: Mapping[str, bytes | memoryview], *, run: str, ttl_s: float
    ) -> int:
        """See Blobs.share."""
        return await self.blobs.share(contents, run=run, ttl_s=ttl_s)

    async def content(self, hashes: Sequence[str]) -> list[bytes | None]:
        """See Blobs.content."""
        return await self.blobs.content(hashes)

    # ---- steps of instances ----

    async def submit(self, submission: Submission) -> float:
        """See Coordinator.submit."""
        prefix, records = self._prefix(submission.run), submission.records
        ttl_ms, run = int(submission.ttl_s * 1000), submission.run
        # Records come first, in portions, and expire unless the last call makes the run: one call
        # with all of them would stall the server.
        first = 0
        for portion in portions(records, len, WINDOW_BYTES):
            n_bytes = sum(map(len, portion))
            known = not await self.link.call(
                "records", prefix, ttl_ms, first, *portion, run=run, n_bytes=n_bytes
            )
            if known:
                break
            first += len(portion)
        packed = pack_submission(submission)
        submitted_at = float(
            await self.link.call("submit", prefix, packed, run=run, n_bytes=len(packed))
        )
        await self._list(run, submitted_at, submission.ttl_s)
        return submitted_at

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
        """See Coordinator.register."""
        args = (want, int(slim), lease_s, *(worker or ("", "")), kind)
        return reply_of(await self._step("register", run, instance, *args))

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
        """See Coordinator.complete."""
        carried = [commit.blob for commit in commits if commit.blob is not None]
        flat = [part for commit in commits for part in pack_commit(commit)]
        # `carry` is refused when the server's memory is full, `complete` is not: a commit without
        # bytes frees more than it takes.
        answer = await self.link.call(
            "carry" if carried else "complete",
            self._prefix(run), instance, want, int(slim), spans, *flat,
            run=run, n_bytes=sum(map(len, carried)),
        )  # fmt: skip
        return reply_of(answer)

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
        """See Coordinator.fail."""
        delay = "" if failure.delay_s is None else failure.delay_s
        args = (failure.task, failure.attempt, failure.error, delay, failure.log)
        return reply_of(await self._step("fail", run, instance, want, int(slim), spans, *args))

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
        """See Coordinator.lost."""
        return reply_of(await self._step("lost", run, instance, want, int(slim), task, *missing))

    # ---- steps of supervisors, agents, clients ----

    async def heartbeat(
        self, run: str, instances: Sequence[str], *, lease_s: float
    ) -> dict[str, Status]:
        """See Coordinator.heartbeat."""
        touched, *pulses = await self._step("heartbeat", run, lease_s, *instances)
        # The step renewed the keys of the run; the list of runs and contents have other cluster
        # slots, so they are written apart.
        if touched:
            clock, ttl_ms = await self.link.ask(
                [("TIME",), ("HGET", self._prefix(run) + "m", "ttl_ms")]
            )
            await self._list(run, moment_of(clock), float(ttl_ms or 0) / 1000)
            await self.blobs.renew(run, int(ttl_ms or 0))
        return {
            instance: Status(pulse.decode())
            for instance, pulse in zip(instances, pulses, strict=True)
        }

    async def dead(self, run: str, death: Death) -> bool:
        """See Coordinator.dead."""
        task = "" if death.task is None else death.task
        delay = "" if death.delay_s is None else death.delay_s
        args = (death.instance, task, death.charge.value, death.error, delay)
        return bool(await self._step("dead", run, *args))

    async def give_back(self, run: str, instance: str, task: int, attempt: int) -> int:
        """See Coordinator.give_back."""
        return int(await self._step("give_back", run, instance, task, attempt))

    async def reap(self, run: str) -> int:
        """See Coordinator.reap."""
        return int(await self._step("reap", run))

    async def demand(self, run: str) -> Demand:
        """See Coordinator.demand."""
        return demand_of(await self._step("demand", run))

    async def cancel(self, run: str, reason: str) -> bool:
        """See Coordinator.cancel."""
        return bool(await self._step("cancel", run, reason))

    async def forget(self, run: str) -> int:
        """See Coordinator.forget."""
        # A step of its own: sleepers are woken by keys that must outlive the step.
        with suppress(RunMissingError):
            await self.cancel(run, "forgotten")
        n_keys = len(await self.blobs.leave(await self.blobs.uses_of(run)))
        n_keys += int(await self._step("forget", run))
        # Chunks of attempts that were never committed are known to no key.
        strays = await self.link.scan(self._prefix(run))
        for begin in range(0, len(strays), 1000):
            n_keys += sum(await self.link.ask([("UNLINK", *strays[begin : begin + 1000])]))
        await self._unlist(run)
        return n_keys

    # ---- looking ----

    async def record(self, run: str, spans: bytes) -> None:
        """See Coordinator.record."""
        await self._step("record", run, spans)

    async def observe(self, run: str, cursor: str = "") -> Observation:
        """See Coordinator.observe."""
        return observation_of(run, await self._step("observe", run, cursor), cursor)

    async def spans(self, run: str, begin: int = 0) -> list[bytes]:
        """See Coordinator.spans."""
        prefix = self._prefix(run)
        is_there, chunks = await self.link.ask(
            [("EXISTS", prefix + "m"), ("LRANGE", prefix + "sp", begin, -1)]
        )
        self.link.require_run(run, is_there)
        return list(chunks)

    async def logs(self, run: str, tasks: Sequence[int]) -> list[str]:
        """See Coordinator.logs."""
        prefix = self._prefix(run)
        looks: list[Command] = [("EXISTS", prefix + "m")]
        if tasks:
            looks.append(("HMGET", prefix + "log", *tasks))
        is_there, *logs = await self.link.ask(looks, n_bytes=len(tasks) * _LOG_BYTES)
        self.link.require_run(run, is_there)
        return [(log or b"").decode() for log in logs[0]] if logs else []

    async def runs(self) -> list[RunLine]:
        """See Coordinator.runs."""
        lines, limited = await self._lines()
        if not limited:
            return lines

        # A run whose time is up is ended here: there may be no caller left to take the step.
        for run in limited:
            with suppress(RunMissingError):
                await self.reap(run)
        lines, _ = await self._lines()
        return lines

    async def usage(self) -> StoreUsage:
        """See Store.usage."""
        return await read_usage(self.link, self.namespace)

    async def _list(self, run: str, now: float, ttl_s: float) -> None:
        """Put a run on the list of runs, for twice its time to live.

        Twice, because heartbeats and the end of a run renew its keys up to that long.
        """
        ttl_ms = int(ttl_s * 2000)
        await self.link.ask([
            ("ZADD", self._index, "GT", now + 2 * ttl_s, run),
            ("ZREMRANGEBYSCORE", self._index, "-inf", now),
            ("PEXPIRE", self._index, ttl_ms, "NX"),
            ("PEXPIRE", self._index, ttl_ms, "GT"),
        ])  # fmt: skip

    async def _unlist(self, *runs: str | bytes) -> None:
        if runs:
            await self.link.ask([("ZREM", self._index, *runs)])

    async def _lines(self) -> tuple[list[RunLine], list[str]]:
        """Returns the lines of the list, newest first, and the runs that go on and have a limit.

        Runs that expired leave the list.
        """
        (names,) = await self.link.ask([("ZRANGE", self._index, 0, -1)])
        if not names:
            return [], []
        looks: list[Command] = [
            ("HMGET", self._prefix(name.decode()) + "m", *_LINE_FIELDS, *_END_FIELDS)
            for name in names
        ]
        answers = await self.link.ask(looks)

        lines, limited, expired = [], [], []
        for name, answer in zip(names, answers, strict=True):
            if answer[0] is None:
                expired.append(name)
                continue
            line = line_of(name.decode(), *answer[: len(_LINE_FIELDS)])
            lines.append(line)
            has_end = any(moment is not None for moment in answer[len(_LINE_FIELDS) :])
            if line.state is RunState.RUNNING and has_end:
                limited.append(line.run)
        await self._unlist(*expired)
        return sorted(lines, key=lambda line: -line.submitted_at), limited

    # ---- waiting ----

    async def wait_work(self, run: str, timeout_s: float, kind: str = "") -> None:
        """See Coordinator.wait_work."""
        await self._wait(run, hint_name(kind), timeout_s)

    async def wait_demand(self, run: str, timeout_s: float) -> None:
        """See Coordinator.wait_demand."""
        await self._wait(run, "need", timeout_s)

    async def _wait(self, run: str, name: str, timeout_s: float) -> None:
        """Wait for an element of a list, and no longer than until the next back-off ends.

        No step would wake a sleeper for that.
        """
        prefix = self._prefix(run)
        state, due, clock = await self.link.ask(
            [
                ("HGET", prefix + "m", "state"),
                ("ZRANGE", prefix + "d", 0, 0, "WITHSCORES"),
                ("TIME",),
            ],
            run=run,
        )
        self.link.require_run(run, state)
        timeout_s = min(timeout_s, float(due[1]) - moment_of(clock)) if due else timeout_s
        if state.decode() == RunState.RUNNING and timeout_s > 0:
            await self.link.pop(prefix + name, timeout_s)

    async def wait_end(self, run: str, timeout_s: float) -> None:
        """See Coordinator.wait_end."""
        prefix = self._prefix(run)

        # Called after the subscription: a check before it could miss an end that comes in between.
        async def is_over() -> bool:
            (state,) = await self.link.ask([("HGET", prefix + "m", "state")])
            self.link.require_run(run, state)
            return bool(state.decode() != RunState.RUNNING)

        await self.link.wait_message(prefix + "end", is_over, timeout_s)

    # ---- parts ----

    def _prefix(self, run: str) -> str:
        return run_prefix(self.namespace, run)

    async def _step(self, function: str, run: str, *args: Any) -> Any:
        return await self.link.call(function, self._prefix(run), *args, run=run)


def pack_submission(submission: Submission) -> bytes:
    """Returns everything but the records, which are sent before it, as a MessagePack map."""
    packed: bytes = msgpack.packb(
        {
            "n_tasks": len(submission.records),
            "queues": [(queue.name, queue.cap, queue.kind) for queue in submission.queues],
            "sinks": sorted(set(submission.sinks)),
            "sources": submission.sources,
            "n_bits": submission.n_bits,
            "meta": zlib.compress(submission.meta.encode(), _META_LEVEL),
            "on_error": submission.on_error,
            "deadline_s": submission.deadline_s,
            "start_s": submission.start_s,
            "ttl_ms": int(submission.ttl_s * 1000),
            "crash_budget": submission.crash_budget,
            "loss_budget": submission.loss_budget,
        },
        # The scripts' reader of MessagePack knows texts only, and texts of any bytes.
        use_bin_type=False,
    )
    return packed


def pack_commit(commit: Commit) -> tuple[int, str, str, int, int, bytes, str]:
    """Returns seven arguments of `complete`.

    They are task, address, its token, its number of chunks, 1 if the bytes follow or 2 if the
    instance keeps them, bytes, log.
    """
    address, blob = commit.address, commit.blob
    encoded, follows = address.encode(), 2 if commit.is_kept else int(blob is not None)
    return commit.task, encoded, address.token, address.n_chunks, follows, blob or b"", commit.log


def reply_of(answer: Sequence[Any]) -> Reply:
    """Read status, worker, moment, missing tasks, offers."""
    status, worker, now, missing, offers = answer
    return Reply(
        status=Status(status.decode()),
        worker=worker.decode(),
        offers=tuple(_offer_of(*offer) for offer in offers),
        missing=tuple(map(int, missing)),
        now=float(now),
    )


def _offer_of(
    task: bytes, attempt: int, since: bytes, record: bytes | None, flat: Sequence[Any]
) -> Offer:
    inputs = tuple(Input(int(up), _address_of(place), blob) for up, place, blob in _groups(flat, 3))
    # A big-endian double, as `y` has it; empty when `y` holds nothing for the task.
    ready_at = struct.unpack(">d", since)[0] if since else 0.0
    return Offer(task=int(task), attempt=attempt, record=record, inputs=inputs, ready_at=ready_at)


def _address_of(place: bytes) -> Address:
    # The letter before the address tells the scripts which hash holds a small value.
    return Address.decode(place[1:].decode())


def observation_of(run: str, answer: Sequence[Any], cursor: str) -> Observation:
    """Read the answer of the function `observe`. cursor: of the look, kept if nothing is new."""
    (
        state,
        states,
        meta,
        now,
        submitted_at,
        finished_at,
        reason,
        entries,
        errors,
        workers,
        results,
        n_instances,
    ) = answer
    return Observation(
        run=run,
        state=RunState(state.decode()),
        states=states.decode(),
        meta=_meta_of(meta),
        now=float(now),
        submitted_at=float(submitted_at),
        finished_at=float(finished_at),
        reason=reason.decode(),
        events=tuple(event for _, fields in entries for event in events_of(fields)),
        errors={_attempt_of(field): text.decode() for field, text in _groups(errors, 2)},
        workers={
            name.decode(): (phase.decode(), instance.decode()) for name, phase, instance in workers
        },
        results={
            int(sink): Address.decode(address.decode()) for sink, address in _groups(results, 2)
        },
        n_instances=n_instances,
        cursor=entries[-1][0].decode() if entries else cursor,
    )


def demand_of(answer: Sequence[Any]) -> Demand:
    """Read the answer of the function `demand`."""
    state, now, wanted, instances = answer
    return Demand(
        state=RunState(state.decode()),
        wanted={kind.decode(): n for kind, n in _groups(wanted, 2)},
        instances={
            name.decode(): (kind.decode(), worker.decode())
            for name, kind, worker in _groups(instances, 3)
        },
        now=float(now),
    )


def line_of(
    run: str, state: bytes, submitted_at: bytes, finished_at: bytes, n_tasks: bytes, meta: bytes
) -> RunLine:
    """Read one line of the list of runs, from fields of its hash `m`."""
    return RunLine(
        run=run,
        name=str(json.loads(_meta_of(meta)).get("name", "")),
        state=RunState(state.decode()),
        submitted_at=float(submitted_at),
        finished_at=float(finished_at),
        n_tasks=int(n_tasks),
    )


def _meta_of(stored: bytes) -> str:
    """Returns the description of a run, '' for none; that of a version before is plain JSON."""
    if stored[:1] in (b"", b"{"):
        return stored.decode()
    return zlib.decompress(stored).decode()


def moment_of(clock: tuple[int, int]) -> float:
    """Returns epoch seconds from the answer to TIME."""
    return clock[0] + clock[1] / 1_000_000


def events_of(fields: Sequence[bytes]) -> Iterator[Event]:
    """Read the events of one step: 'at', the moment, 'e', lines of kind, tasks, worker.

    tasks: '-1' for none, '7', or '7-9' for three events.
    """
    at = float(fields[1])
    for line in fields[3].decode().split("\n"):
        kind, tasks, worker = line.split(" ", 2)
        first, _, last = tasks.rpartition("-")
        if not first:
            yield Event(at, kind, int(tasks), worker)
            continue
        for task in range(int(first), int(last) + 1):
            yield Event(at, kind, task, worker)


def _attempt_of(field: bytes) -> tuple[int, int]:
    task, attempt = field.split(b":")
    return int(task), int(attempt)


def _groups(flat: Sequence[Any], size: int) -> Iterator[tuple[Any, ...]]:
    return zip(*[iter(flat)] * size, strict=True)
