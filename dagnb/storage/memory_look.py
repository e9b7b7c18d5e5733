"""What the memory store shows of a run: read from its state machine, nothing kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from dagnb.protocol.machine import Machine
from dagnb.protocol.messages import Observation, Reply
from dagnb.storage.interface import RunLine

EVENTS_KEPT = 20_000


def observation(run: str, machine: Machine, cursor: str, now: float) -> Observation:
    """Everything there is to see; with a cursor only events and errors since then, the last 20,000 events at most."""
    first = max(int(cursor or 0), len(machine.events) - EVENTS_KEPT)
    failing = {event.task for event in machine.events[first:] if event.kind in {"fail", "retry"}}
    workers = {
        machine.roster.name(member): ("active", instance)
        for instance, member in machine.roster.held.items()
    }
    workers |= {machine.roster.name(member): ("invoked", "") for member in machine.roster.invoked}
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


def run_line(run: str, machine: Machine) -> RunLine:
    """One line of the list of runs."""
    return RunLine(
        run=run,
        name=str(json.loads(machine.submission.meta).get("name", "")),
        state=machine.state,
        submitted_at=machine.submitted_at,
        finished_at=machine.finished_at,
        n_tasks=len(machine.states),
    )


def with_inputs(reply: Reply, blobs: Mapping[tuple[int, str], bytes], *, slim: bool) -> Reply:
    """The reply with small inputs aboard. slim: without the records of its tasks."""
    offers = []
    for offer in reply.offers:
        inputs = []
        for item in offer.inputs:
            blob = (
                blobs.get((item.task, item.address.token)) if item.address.n_chunks == 0 else None
            )
            inputs.append(replace(item, blob=blob))
        offers.append(replace(offer, inputs=tuple(inputs), record=None if slim else offer.record))
    return replace(reply, offers=tuple(offers))
