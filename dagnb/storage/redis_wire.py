"""Messages as the function library takes and gives them: flat lists, bytes, MessagePack.

The other side is scripts/*.lua; a comment above each function has the names of its arguments. Lists
are flat, because a table for each group would be slow in Lua.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import msgpack

from dagnb.protocol.messages import (
    Address,
    Commit,
    Demand,
    Event,
    Input,
    Observation,
    Offer,
    Reply,
    RunState,
    Status,
    Submission,
)
from dagnb.storage.interface import RunLine


def pack_submission(submission: Submission) -> bytes:
    """Returns everything but the records, which are sent before it, as a MessagePack map."""
    packed: bytes = msgpack.packb(
        {
            "n_tasks": len(submission.records),
            "queues": [(queue.name, queue.cap, queue.kind) for queue in submission.queues],
            "sinks": sorted(set(submission.sinks)),
            "sources": submission.sources,
            "n_bits": submission.n_bits,
            "meta": submission.meta,
            "on_error": submission.on_error,
            "deadline_s": submission.deadline_s,
            "start_s": submission.start_s,
            "ttl_ms": int(submission.ttl_s * 1000),
            "crash_budget": submission.crash_budget,
            "loss_budget": submission.loss_budget,
        }
    )
    return packed


def pack_commit(commit: Commit) -> tuple[int, str, str, int, int, bytes, str]:
    """Returns seven arguments of `complete`.

    They are task, address, its token, its number of chunks, 1 if the bytes follow, bytes, log.
    """
    address, blob = commit.address, commit.blob
    encoded, follows = address.encode(), int(blob is not None)
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
        meta=meta.decode(),
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
        name=str(json.loads(meta).get("name", "")),
        state=RunState(state.decode()),
        submitted_at=float(submitted_at),
        finished_at=float(finished_at),
        n_tasks=int(n_tasks),
    )


def moment_of(clock: tuple[int, int]) -> float:
    """Returns epoch seconds from the answer to TIME."""
    return clock[0] + clock[1] / 1_000_000


def events_of(fields: Sequence[bytes]) -> Iterator[Event]:
    """Read the events of one step: 'at', the moment, 'e', one line each: kind, task, worker."""
    at = float(fields[1])
    for line in fields[3].decode().split("\n"):
        kind, task, worker = line.split(" ", 2)
        yield Event(at, kind, int(task), worker)


def _attempt_of(field: bytes) -> tuple[int, int]:
    task, attempt = field.split(b":")
    return int(task), int(attempt)


def _groups(flat: Sequence[Any], size: int) -> Iterator[tuple[Any, ...]]:
    return zip(*[iter(flat)] * size, strict=True)
