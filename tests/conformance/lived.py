"""A program as a launcher runs it, in the words of the reference, and where the two differ."""

from __future__ import annotations

import contextlib
from types import ModuleType
from typing import Any

import dagnb
from dagnb.errors import Cause, DagnbError, GraphError, TaskError, ValueUnreadableError
from dagnb.handle import Run
from dagnb.protocol.states import TaskState
from tests.conformance.programs import Program, built
from tests.conformance.serial import UNREADABLE, Outcome

LIMIT_S = 60.0

ShortTraceback = tuple[str, str, tuple[str, ...], tuple[Any, ...]]


def lived(program: Program, cell: ModuleType, launcher: Any, asked: slice = slice(None)) -> Outcome:
    """The outcome where this launcher places it.

    asked: the calls whose values are asked for. Every one, unless it is given: so every value can
    be read.
    """
    try:
        nodes = built(program, cell).nodes[asked]
        run = dagnb.run(*nodes, workers=launcher, on_error="continue")
    except GraphError as error:
        return Outcome(refused=f"{type(error).__name__}: {error}")
    with contextlib.suppress(DagnbError):  # each value and failure is read below
        run.result(LIMIT_S)
    seen, names = run.look(), run.description.names
    return Outcome(
        states=dict(zip(names, map(_word, seen.states), strict=True)),
        values={names[sink]: _value(run, names[sink], cell) for sink in seen.results},
        failures=tuple((f"{error.task} {error.attempt}", *_told(error)) for error in run.errors),
        printed={name: run.log(name) for name in names},
    )


def _word(state: str) -> str:
    return TaskState(state).word


def _value(run: Run[Any], task: str, cell: ModuleType) -> str:
    try:
        return str(cell.told(run.value(task)))
    except ValueUnreadableError:
        return UNREADABLE


def _told(error: TaskError | Cause) -> ShortTraceback:
    causes = tuple((cause.how, *_told(cause)) for cause in error.causes)
    return error.type, error.message, error.notes, causes


def differences(expected: Outcome, found: Outcome, *, prints: bool) -> list[str]:
    """One sentence each; none where all is as expected. prints: whether what tasks print is kept
    with their results.
    """
    if expected.refused or found.refused:
        kind, _, name = expected.refused.partition(" ")
        fits = kind and found.refused.startswith(kind) and name in found.refused
        return [] if fits else [f"refused: {found.refused!r} instead of {expected.refused!r}"]
    told = _unlike("state", expected.states, found.states) + _unlike(
        "value", expected.values, found.values
    )
    told += _failures(expected, found)
    printed = {name: text for name, text in expected.printed.items() if text} if prints else {}
    return told + _unlike(
        "output", printed, {name: text for name, text in found.printed.items() if text}
    )


def _unlike(what: str, expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    return [
        f"{what} of {name}: {found.get(name)!r} instead of {expected.get(name)!r}"
        for name in sorted({*expected, *found})
        if expected.get(name) != found.get(name)
    ]


def _failures(expected: Outcome, found: Outcome) -> list[str]:
    wanted = {attempt: told for attempt, *told in expected.failures}
    got = {attempt: told for attempt, *told in found.failures}
    for attempt, told in wanted.items():
        beginning = told[1]
        if (
            beginning.endswith("pickled: ")
            and attempt in got
            and got[attempt][1].startswith(beginning)
        ):
            told[1:] = got[attempt][1:]  # what follows are the words of Python and its libraries
    return _unlike("failure", wanted, got)
