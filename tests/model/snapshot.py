"""Copies of a machine, and the canonical form of one: what two states must share to behave alike.

Left out are times, nonces, serial numbers, events, hints; and errors, which the invariants tie to
the budgets that were spent.
"""

from __future__ import annotations

from typing import TypeAlias

from dagnb.protocol.machine import HasBlob, Machine
from dagnb.protocol.messages import Charge
from dagnb.protocol.roster import QueueState, Roster

Plain: TypeAlias = "int | float | str | tuple[Plain, ...]"
"""What a canonical form is made of"""

_FIELDS = frozenset(
    (
        *(
            "submission",
            "records",
            "has_blob",
            "state",
            "reason",
            "submitted_at",
            "finished_at",
            "deadline_at",
        ),
        "start_by",
        *(
            "states",
            "bits",
            "n_set",
            "results",
            "spent",
            "owner",
            "running",
            "due",
            "ready_at",
            "leases",
            "errors",
        ),
        *(
            "unsettled",
            "waits_for_all",
            "roster",
            "serial",
            "events",
            "hints",
            "kind_hints",
            "discarded",
        ),
    )
)


def copy_of(machine: Machine, has_blob: HasBlob) -> Machine:
    """Returns a copy that shares nothing that changes; its events and hints start empty."""
    # A field unknown here would be shared by all copies, and no state would be what it seems.
    assert machine.__dict__.keys() == _FIELDS, machine.__dict__.keys() ^ _FIELDS
    copy = object.__new__(Machine)
    copy.__dict__.update(machine.__dict__)
    copy.has_blob = has_blob
    copy.states = machine.states.copy()
    copy.bits = machine.bits.copy()
    copy.n_set = machine.n_set.copy()
    copy.results = machine.results.copy()
    copy.spent = {task: spent.copy() for task, spent in machine.spent.items()}
    copy.owner = machine.owner.copy()
    copy.running = {instance: tasks.copy() for instance, tasks in machine.running.items()}
    copy.due = machine.due.copy()
    copy.ready_at = {}
    copy.leases = machine.leases.copy()
    copy.errors = machine.errors.copy()
    copy.roster = _copy_of_roster(machine.roster)
    copy.events, copy.hints, copy.kind_hints, copy.discarded = [], [], {}, []
    return copy


def form_of(machine: Machine) -> tuple[Plain, ...]:
    """All of a machine that is not told instance by instance and not a result: see World.key."""
    roster = machine.roster
    return (
        machine.state.value,
        "".join(machine.states),
        tuple(sorted(machine.bits)),
        machine.unsettled,
        tuple(
            (task, *(spent[charge] for charge in Charge))
            for task, spent in sorted(machine.spent.items())
        ),
        tuple(sorted(machine.due.items())),
        tuple(_form_of_queue(queue) for queue in roster.queues),
        tuple(sorted((member, priority) for member, (priority, _) in roster.invoked.items())),
        tuple(sorted(roster.touched)),
        -1.0 if machine.deadline_at is None else machine.deadline_at,
        -2.0 if machine.start_by is None else machine.start_by,
    )


def _form_of_queue(queue: QueueState) -> tuple[Plain, ...]:
    ready = tuple(task for _, _, task in queue.ready)
    return (ready, tuple(sorted(queue.free)), queue.highest, queue.n_invoked, queue.n_active)


def _copy_of_roster(roster: Roster) -> Roster:
    copy = object.__new__(Roster)
    copy.queues = [
        QueueState(
            queue.info,
            queue.ready.copy(),
            queue.free.copy(),
            queue.highest,
            queue.n_invoked,
            queue.n_active,
        )
        for queue in roster.queues
    ]
    copy.names = roster.names
    copy.invoked = roster.invoked.copy()
    copy.urgent = {kind: heap.copy() for kind, heap in roster.urgent.items()}
    copy.n_wanted = roster.n_wanted.copy()
    copy.nonces = roster.nonces.copy()
    copy.held = roster.held.copy()
    copy.kinds = roster.kinds.copy()
    copy.touched = roster.touched.copy()
    return copy
