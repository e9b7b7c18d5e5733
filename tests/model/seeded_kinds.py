"""Seeded mutants of kinds: staffing, hints, and charges for the death of a container."""

from __future__ import annotations

from tests.model.mutants import in_machine, in_roster

_OFTEN = "a, c for kind x, b for y: suspicion, exception, back-off"
_HINTS = "a for any, b, c for kind x: hints"
_CONTAINERS = "two tasks apart of kind x: batches of 2, containers die"

KINDS = (
    in_roster(
        "anybody may staff any queue",
        _OFTEN,
        "I14 kinds",
        (
            "_most_urgent",
            "self.urgent.get(kind, [])",
            "next(filter(None, self.urgent.values()), [])",
        ),
    ),
    in_roster(
        "nobody may staff a queue of a kind",
        _OFTEN,
        "liveness",
        ("_most_urgent", "self.urgent.get(kind, [])", "self.urgent.get('', [])"),
    ),
    in_machine(
        "the kind of an instance is not noted",
        _OFTEN,
        "I14 kinds",
        ("register", "self.roster.kinds[instance] = kind", "pass"),
    ),
    in_machine(
        "the kind of an instance outlives its lease",
        _OFTEN,
        "I14 kinds",
        ("_drop", "self.roster.kinds.pop(instance, None)", "pass"),
    ),
    in_machine(
        "hints of a kind lie where nobody of it looks",
        _HINTS,
        "I13 hints",
        ("_hint", "if kind", "if False"),
    ),
    in_machine(
        "demand does not end back-offs",
        _OFTEN,
        "I15 demand",
        ("demand", "self.reap(now=now, fresh=fresh)", "pass"),
    ),
    in_machine(
        "who dies with its container is charged with nothing",
        _CONTAINERS,
        "I7 budgets",
        ("dead", "death.task in (task, HELD)", "death.task == task"),
    ),
)
