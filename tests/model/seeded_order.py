"""Seeded mutants of the rules for workers that hold their order."""

from __future__ import annotations

from tests.model.mutants import in_machine

_HELD = "a on w1, its reader and then c on w0, which holds its order: "
_RETRIED = _HELD + "exception, back-off, suspicion, go on"
_LOST = _HELD + "exceptions, lost blob, go on"
_READER = "a on w1, b, then its reader c on w0, held: exceptions, back-off, go on"
_TWO = "c waits for two: lost blob, suspicion, lost reply"

ORDER = (
    in_machine(
        "a task that backs off keeps the next one waiting",
        _RETRIED,
        "I19 order",
        ("_charge", "self._let_pass(task, now)", "pass"),
    ),
    in_machine(
        "a task that failed or is skipped keeps the next one waiting",
        _RETRIED,
        "I19 order",
        ("_skip_below", "self._let_pass(task, now)", "pass"),
    ),
    in_machine(
        "the next task in the order is skipped with the one before",
        _READER,
        "I8 cause",
        ("_readers", " if edge is not successor", ""),
    ),
    in_machine(
        "a lost result closes the way for the next task",
        _LOST,
        "I19 order",
        ("_uncomplete", "if edge is not successor:", "if edge:"),
    ),
    in_machine(
        "a task whose turn comes is ready before its inputs",
        _READER,
        "I1 inputs",
        ("_let_pass", "self.n_set[start] == n_bits and ", ""),
    ),
    in_machine(
        "a task that was passed counts twice when it is done",
        _READER,
        "I4 edges",
        ("_commit", "if bit not in self.bits:", "if True:"),
    ),
    in_machine(
        "a reader is taken for the next in the order, and may be skipped with nothing",
        _TWO,
        "I4 edges",
        ("_successor", "if record.is_followed", "if record.edges"),
    ),
)
