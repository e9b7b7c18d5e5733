"""Seeded mutants of the rules for results that an instance keeps."""

from __future__ import annotations

from tests.model.mutants import in_machine, in_roster

_CHAIN = "chain-3: kept, crash, exception"
_ONE_BY_ONE = "chain-3: kept one by one, crash, lost reply"
_GOING_ON = "chain-3: kept, suspicion, lost reply, go on"
_FAN_IN = "fan-in: kept, containers die, go on"
_BEHIND_A_SINK = "chain-3: kept behind a sink, lost blob, stored apart"
_LATE_GATE = "a on w1, its reader, c and its reader on w0: kept one by one, crash, lost reply"
_BRANCHES = "two branches meet: kept, lost blob, suspicion"

KEPT = (
    in_machine(
        "a reader is taken before its last input",
        _FAN_IN,
        "I1 inputs",
        ("_take_readers", "if n_left == 0:", "if n_left >= 0:"),
    ),
    in_machine(
        "a reader comes last in its batch",
        _BRANCHES,
        "I5 result",
        ("_take_readers", "tasks.insert(position, reader)", "tasks.append(reader)"),
        survives="it only costs work: the tasks between may be given back, and the reader with them",
    ),
    in_machine(
        "a task that was charged is run together with its reader",
        _CHAIN,
        "I17 alone",
        ("_take_readers", " or task in self.spent", ""),
    ),
    in_machine(
        "a reader that was charged is run behind its input",
        _CHAIN,
        "I17 alone",
        ("_take_readers", " or reader in self.spent", ""),
    ),
    in_machine(
        "a result is kept for a reader on another instance",
        _GOING_ON,
        "",
        ("_has_reader", "self.owner.get(reader) == instance", "reader in self.owner"),
        survives="after a charge both are run alone, and uncharged a reader goes to another "
        "instance only if this one has not begun its input: it is a second defence",
    ),
    in_machine(
        "a result is kept for a reader that waits for another input",
        _BRANCHES,
        "I1 inputs",
        ("_has_reader", "n_bits == 1 and ", ""),
    ),
    in_machine(
        "a reader overtakes a more urgent task of its worker",
        _LATE_GATE,
        "I18 order",
        ("_has_reader", " and not self.roster.goes_before(queue, priority)", ""),
    ),
    in_roster(
        "a reader overtakes a more urgent task, since the worker is taken for a pool",
        _LATE_GATE,
        "I18 order",
        ("goes_before", "not state.info.is_pool", "state.info.is_pool"),
    ),
    in_machine(
        "an instance that is gone is given the reader of what it kept",
        _ONE_BY_ONE,
        "I3 wake-up",
        ("_has_reader", "is_here = member is not None and member[0] == queue", "is_here = True"),
    ),
    in_machine(
        "the reader of a task that failed stays with the instance",
        _GOING_ON,
        "I1 inputs",
        ("fail", "self._leave_without_inputs(instance, now)", "pass"),
    ),
    in_machine(
        "the reader of a task whose inputs are lost stays with the instance",
        _BEHIND_A_SINK,
        "",
        ("lost", "self._leave_without_inputs(instance, now)", "pass"),
        survives="it costs a round trip: the reader finds its input missing, and is reported, too",
    ),
    in_machine(
        "the reader of a slow task is ready before its input",
        _GOING_ON,
        "I16 give back",
        ("give_back", "self._again(other, now)", "self._ready(other, now)"),
    ),
    in_machine(
        "a reader is ready again before its input",
        _CHAIN,
        "I1 inputs",
        ("dead", "self._again(task, now)", "self._ready(task, now)"),
    ),
    in_machine(
        "a reader backs off before its input is there",
        _FAN_IN,
        "I1 inputs",
        ("_charge", "self._again(task, now)", "self._ready(task, now)"),
    ),
    in_machine(
        "what an instance ran is taken back from the first task on",
        _FAN_IN,
        "",
        ("_drop", "[::-1]", "[:]"),
        survives="a reader that was not taken back yet is skipped when its turn comes",
    ),
)
