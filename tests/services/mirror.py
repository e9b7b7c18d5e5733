"""The state of the machine and of a real server after the same calls, in one form."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from dagnb.protocol.machine import Machine
from dagnb.protocol.messages import Address, Charge, Reply
from dagnb.storage.keys import run_prefix, small_field
from dagnb.storage.redis import events_of
from dagnb.storage.redis_link import RedisConnection

State = dict[str, Any]
Blob = tuple[int, str, int]
"""(task, token, chunk; -1 for a small one)"""


class SteeredLink(RedisConnection):
    """A link whose calls happen at a given moment, with a given `fresh`."""

    now = 0.0
    fresh = ""

    async def call(self, function: str, prefix: str, *args: Any, **options: Any) -> Any:
        """See Link.call."""
        now = repr(self.now) if self.now else ""
        return await super().call(
            function, prefix, *args, **{**options, "now": now, "fresh": self.fresh}
        )

    def step(self, function: str, prefix: str, *args: Any, **options: Any) -> Any:
        """See Link.step."""
        now = options.pop("now", "") or (repr(self.now) if self.now else "")
        return super().step(function, prefix, *args, now=now, **options)


def blobs_at(task: int, address: Address) -> list[Blob]:
    """Everything that makes up a value."""
    if address.n_chunks == 0:
        return [(task, address.token, -1)]
    return [(task, address.token, i) for i in range(address.n_chunks)]


def machine_state(machine: Machine, n_events: int, blobs: set[Blob]) -> State:
    """All of a machine; of its events those from n_events on."""
    roster = machine.roster
    over = machine.state.value != "running"
    nonces = {member: nonce for member, (_, nonce) in roster.invoked.items()} | roster.nonces
    return {
        "run": (
            machine.state.value,
            machine.reason,
            machine.submitted_at,
            machine.finished_at,
            machine.deadline_at,
        ),
        "start_by": machine.start_by,
        "unsettled": machine.unsettled,
        "serial": machine.serial,
        "states": "".join(machine.states),
        "bits": sorted(machine.bits & _shared_bits(machine)),
        "results": {
            task: address.encode()
            for task, address in machine.results.items()
            if not over or task in machine.submission.sinks
        },
        "spent": {task: tuple(spent[c] for c in Charge) for task, spent in machine.spent.items()},
        "running": {instance: list(tasks) for instance, tasks in machine.running.items() if tasks},
        "due": dict(machine.due),
        "ready_at": dict(machine.ready_at),
        "leases": dict(machine.leases),
        "errors": dict(machine.errors),
        "ready": [
            [(priority, task) for priority, _, task in queue.ready] for queue in roster.queues
        ],
        "free": [sorted(queue.free) for queue in roster.queues],
        "counts": [(queue.n_invoked, queue.n_active, queue.highest) for queue in roster.queues],
        "invoked": {member: urgency for member, (urgency, _) in roster.invoked.items()},
        "nonces": nonces,
        "held": dict(roster.held),
        "events": machine.events[n_events:],
        "hints": _kept_hints(machine),
        "blobs": {b for b in blobs if not over or b in _sink_blobs(machine)},
        "intermediates": [],
    }


def _kept_hints(machine: Machine) -> int:
    """Returns the number of hints: adopting takes one away, so at most one per invoked member."""
    if machine.state.value != "running":
        return len(machine.hints)
    return min(len(machine.hints), len(machine.roster.invoked))


def _shared_bits(machine: Machine) -> set[int]:
    """Bits of tasks with several inputs: the scripts need none for a single one."""
    edges = [edge for record in machine.records for edge in record.edges]
    return {bit for _, bit, _, n_bits, *_ in edges if n_bits > 1}


def _sink_blobs(machine: Machine) -> set[Blob]:
    sinks = [s for s in machine.submission.sinks if s in machine.results]
    return {blob for s in sinks for blob in blobs_at(s, machine.results[s])}


async def store_state(link: RedisConnection, namespace: str, machine: Machine) -> State:
    """Returns the same of a server's run. Takes the events and the hints away."""
    run, n_queues = machine.submission.run, len(machine.submission.queues)
    p = run_prefix(namespace, run)
    hashes = [("HGETALL", p + name) for name in ("m", "r", "a", "x", "w", "h", "err", "v", "z")]
    zsets = [("ZRANGE", p + name, 0, -1, "WITHSCORES") for name in ("d", "inv", "l")]
    queues = [("ZRANGE", f"{p}q:{i}", 0, -1, "WITHSCORES") for i in range(n_queues)]
    free = [("ZRANGE", f"{p}f:{i}", 0, -1) for i in range(n_queues)]
    rest = [
        ("GET", p + "s"), ("GET", p + "e"), ("GET", p + "y"),
        ("LRANGE", p + "spawn", 0, -1), ("DEL", p + "spawn"),
        ("XRANGE", p + "ev", "-", "+"), ("XTRIM", p + "ev", "MAXLEN", 0), ("KEYS", p + "b:*"),
    ]  # fmt: skip
    answers = await link.ask([*hashes, *zsets, *queues, *free, *rest])
    m, r, a, x, w, h, err, v, z = (_words(answer) for answer in answers[:9])
    due, invoked, leases = (_scores(answer) for answer in answers[9:12])
    ready = [[(int(s), int(t)) for t, s in _scores(q).items()] for q in answers[12 : 12 + n_queues]]
    free_members = [sorted(map(int, f)) for f in answers[12 + n_queues : 12 + 2 * n_queues]]
    states, bitmap, moments, hints, _, entries, _, chunks = answers[12 + 2 * n_queues :]
    over = m["state"] != "running"
    # By position: addresses of intermediates, the shortest values behind them.
    results = {int(field): value.partition("\n") for field, value in v.items() if ":" not in field}
    blobs = {_small(field) for field in (*v, *z) if ":" in field}
    blobs |= {_chunk(key, p) for key in chunks}
    blobs |= {
        (task, address.split(":")[0], -1)
        for task, (address, is_with, _) in results.items()
        if is_with
    }
    return {
        "run": (
            m["state"],
            m["reason"],
            *(_number(m.get(f)) for f in ("submitted_at", "finished_at", "deadline_at")),
        ),
        "start_by": _number(m.get("start_by")),
        "unsettled": int(m["unsettled"]),
        "serial": int(m["serial"]),
        "states": states.decode(),
        "bits": [i for i in range(len(bitmap) * 8) if bitmap[i // 8] >> (7 - i % 8) & 1],
        "results": {int(task): address[1:] for task, address in r.items()}
        | {task: address for task, (address, _, _) in results.items()},
        "spent": {int(task): tuple(map(int, spent.split(","))) for task, spent in a.items()},
        "running": {
            instance: [int(task) for task in tasks.split(",")] for instance, tasks in x.items()
        },
        "due": {int(task): at for task, at in due.items()},
        "ready_at": {i: at for i, (at,) in enumerate(struct.iter_unpack(">d", moments)) if at},
        "leases": leases,
        "errors": {(int(f.split(":")[0]), int(f.split(":")[1])): text for f, text in err.items()},
        "ready": ready,
        "free": free_members,
        "counts": [
            tuple(int(m.get(f"{letter}{i}", 0)) for letter in "iah") for i in range(n_queues)
        ],
        "invoked": {_member(member): urgency for member, urgency in invoked.items()},
        "nonces": {_member(member): nonce for member, nonce in w.items()},
        "held": {instance: _member(value.split(" ")[0]) for instance, value in h.items()},
        "events": [
            event
            for _, fields in entries
            for event in events_of([x for pair in fields.items() for x in pair])
        ],
        "hints": len(hints) if all(hint.decode() in machine.hints for hint in hints) else hints,
        "blobs": {b for b in blobs if not over or b in _sink_blobs(machine)},
        "intermediates": sorted(v) if over else [],
    }


async def remove_small(link: RedisConnection, prefix: str, task: int, address: Address) -> int:
    """Delete a small value, of which the address stays. Returns the number of places it had."""
    field = small_field(task, address.token)
    *counts, result = await link.ask(
        [
            ("HDEL", prefix + "v", field),
            ("HDEL", prefix + "z", field),
            ("HGET", prefix + "v", task),
        ]
    )
    known, newline, _ = (result or b"").partition(b"\n")
    if newline and known.decode() == address.encode():
        await link.ask([("HSET", prefix + "v", task, known)])
        counts.append(1)
    return sum(counts)


def reply_state(reply: Reply) -> State:
    """A reply without the bytes that ride along, which are compared apart."""
    offers = [
        (
            offer.task,
            offer.attempt,
            offer.record,
            [(i.task, i.address) for i in offer.inputs],
            offer.ready_at,
        )
        for offer in reply.offers
    ]
    return {
        "status": reply.status,
        "worker": reply.worker,
        "offers": offers,
        "missing": reply.missing,
        "now": reply.now,
    }


def _words(flat: dict[bytes, bytes] | Sequence[bytes]) -> dict[str, str]:
    pairs = flat.items() if isinstance(flat, dict) else zip(flat[::2], flat[1::2], strict=True)
    return {field.decode(): value.decode("latin1") for field, value in pairs if field}


def _scores(flat: Sequence[bytes]) -> dict[str, float]:
    return {
        member.decode(): float(score) for member, score in zip(flat[::2], flat[1::2], strict=True)
    }


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)


def _member(text: str) -> tuple[int, int]:
    queue, number = text.split("/")
    return int(queue), int(number)


def _small(field: str) -> Blob:
    task, token = field.split(":")
    return int(task), token, -1


def _chunk(key: bytes, prefix: str) -> Blob:
    task, token, chunk = key.decode().removeprefix(prefix + "b:").split(":")
    return int(task), token, int(chunk)
