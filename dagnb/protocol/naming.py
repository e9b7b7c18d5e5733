"""The names of runs and tasks: one set of rules for API, notebook and command line. Pure.

A run is called by, in this order:

1. its id, in any case,
2. `last`, in any case: the newest run of all,
3. its name, exactly as it was given; of several runs with one name the newest is meant,
4. the beginning of its id, in any case, when no other id begins so.

These rules are for looking at a run. Nothing may end or delete the wrong run by accident: for that,
a text that may mean several runs of the store is refused. The exception is to cancel by a name that
only one running run has.

A task is called by its name (`merge-0`), or by its function (`merge`) when the run calls that once.
Only `TaskName` splits the name of a task into its parts.

Spaces around a text do not count. An empty text means nothing, and never everything.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from dagnb.errors import AmbiguousNameError, RunNotStoredError, UnknownRunError, UnknownTaskError
from dagnb.graph.brief import brief
from dagnb.protocol.messages import RunState
from dagnb.units import moment_text

LAST = "last"

_ID_LETTERS = frozenset("0123456789ABCDEFGHJKMNPQRSTVWXYZ")
_ID_LENGTH = 26
_NAME_LENGTH = 60
_LISTED = 8
"""Runs or tasks that an error lists at most."""


class Purpose(StrEnum):
    """The reason for which a run is looked up; the value is the verb of messages."""

    LOOK = "look at"
    CANCEL = "cancel"
    FORGET = "forget"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownRun:
    """One run that a text may mean. is_stored: the store has it. is_kept: the history has it."""

    run: str
    name: str
    state: RunState
    submitted_at: float
    is_stored: bool = True
    is_kept: bool = False

    def line(self) -> str:
        """Returns id, name, state and start, for lists."""
        name = _shown(self.name) or "(no name)"
        return f"{self.run}  {name}  {self.state}  {moment_text(self.submitted_at)}"


@dataclass(frozen=True, slots=True)
class RunMatch:
    """The run that is meant. others: more runs that the text may mean, newest first."""

    run: KnownRun
    others: tuple[KnownRun, ...] = ()

    __repr__ = brief


def is_run_id(text: str) -> bool:
    """Returns whether the text is a whole id, in any case."""
    return len(text) == _ID_LENGTH and _ID_LETTERS.issuperset(text.upper())


def newest_first(known: Iterable[KnownRun]) -> list[KnownRun]:
    """Sort by the moment of submission; ids order runs of one moment."""
    return sorted(known, key=lambda run: (run.submitted_at, run.run), reverse=True)


def find_run(text: str, known: Iterable[KnownRun], purpose: Purpose = Purpose.LOOK) -> RunMatch:
    """Returns the run meant by the text among those known, by the rules above.

    Raises AmbiguousNameError, UnknownRunError, or RunNotStoredError for a run that can no longer
    be cancelled or forgotten.
    """
    wanted, runs = text.strip(), newest_first(known)
    if not wanted and purpose is not Purpose.LOOK:
        runs = [run for run in runs if run.is_stored]
    if not wanted:
        raise _several(
            "run",
            text,
            "an empty name means no run; those known are:",
            runs,
            "Give a name or an id.",
        )

    by_id = [run for run in runs if run.run.upper() == wanted.upper()]
    last = runs[:1] if wanted.lower() == LAST else []
    named = [run for run in runs if run.name.strip() == wanted]
    beginning = [run for run in runs if run.run.upper().startswith(wanted.upper())]
    if not (last or named or beginning):
        raise _unknown_run(wanted, runs)

    if purpose is not Purpose.LOOK:
        return RunMatch(_to_end(wanted, by_id, last, named, beginning, purpose))
    if by_id or last or named:
        first, *others = dict.fromkeys([*by_id, *last, *named])
        # A whole id and `last` mean one run, whatever others are called.
        return RunMatch(first, () if by_id or last else tuple(others))
    if len(beginning) > 1:
        raise _several_begin(wanted, beginning)
    return RunMatch(beginning[0])


def _to_end(
    wanted: str,
    by_id: Sequence[KnownRun],
    last: Sequence[KnownRun],
    named: Sequence[KnownRun],
    beginning: Sequence[KnownRun],
    purpose: Purpose,
) -> KnownRun:
    """Returns the one run that may be ended or deleted by this text."""
    # `last` is the newest of all, stored or not: when that is gone already, it must not become the
    # one before.
    stored = [run for run in (*named, *beginning) if run.is_stored]
    meant = newest_first({*by_id} or {*last, *stored})
    if not meant:
        raise RunNotStoredError([*named, *beginning][0].run)
    if len(meant) > 1 and purpose is Purpose.CANCEL:
        running = [run for run in meant if run.state is RunState.RUNNING]
        if len(running) == 1 and all(run in named for run in meant):
            return running[0]  # the others are over: only this one can be meant
    if len(meant) > 1:
        if not last and not any(run in named for run in meant):
            raise _several_begin(wanted, meant)
        what = f"'{wanted}' may mean {len(meant)} runs, so that none is chosen to {purpose}:"
        raise _several("run", wanted, what, meant, "Give an id, or its beginning.")
    if not meant[0].is_stored:
        raise RunNotStoredError(meant[0].run)
    return meant[0]


def _several_begin(wanted: str, runs: Sequence[KnownRun]) -> AmbiguousNameError:
    return _several(
        "run", wanted, f"'{wanted}' begins the ids of {len(runs)} runs:", runs, "Give more of it."
    )


def _several(
    kind: str, text: str, what: str, runs: Sequence[KnownRun], cure: str
) -> AmbiguousNameError:
    lines = [run.line() for run in runs[:_LISTED]]
    if len(runs) > _LISTED:
        lines.append(f"and {len(runs) - _LISTED} more")
    return AmbiguousNameError(kind, text, what, lines, cure)


def _unknown_run(wanted: str, runs: Sequence[KnownRun]) -> UnknownRunError:
    names = [run.name for run in runs] + [run.run for run in runs]
    return UnknownRunError(wanted, _near(wanted, list(dict.fromkeys(filter(None, names)))))


class TaskName(NamedTuple):
    """The parts of the name of a step: 'merge-0' is the first call of `merge`.

    n_copy: number of apostrophes at its end, which mark a step that computes the task once more.
    """

    function: str
    ordinal: int
    n_copy: int

    @classmethod
    def of(cls, name: str) -> TaskName:
        """Split a name into its parts.

        A name of another form, such as another system's, is call 0.
        """
        task = name.rstrip("'")
        function, _, ordinal = task.rpartition("-")
        if not function or not ordinal.isdecimal():
            return cls(task, 0, len(name) - len(task))
        return cls(function, int(ordinal), len(name) - len(task))


def ordinals_of(names: Iterable[str]) -> tuple[int, ...]:
    """Returns the ordinal of each name, as TaskName gives it, in a third of the time."""
    ordinals = []
    for name in names:
        function, _, ordinal = name.rstrip("'").rpartition("-")
        ordinals.append(int(ordinal) if function and ordinal.isdecimal() else 0)
    return tuple(ordinals)


def find_task(text: str, names: Sequence[str]) -> str:
    """Returns the name of the task meant by the text, among the names of a run's steps.

    Raises AmbiguousNameError or UnknownTaskError; the latter is a KeyError, too.
    """
    wanted = text.strip()
    if wanted in names:
        return wanted
    if not wanted:
        raise _several_tasks(text, "an empty name means no task; those of the run are:", names)

    # A copy of a task, which a plan may make, is no task of its own.
    calls = [name for name in names if TaskName.of(name)[::2] == (wanted, 0)]
    if len(calls) > 1:
        raise _several_tasks(wanted, f"'{wanted}' is called {len(calls)} times:", calls)
    if not calls:
        raise UnknownTaskError(wanted, _near(wanted, names))
    return calls[0]


def _several_tasks(text: str, what: str, names: Sequence[str]) -> AmbiguousNameError:
    lines = list(map(_shown, names[:_LISTED]))
    if len(names) > _LISTED:
        lines.append(f"and {len(names) - _LISTED} more, up to {names[-1]}")
    return AmbiguousNameError("task", text, what, lines, "Give the whole name of one.")


def _near(wanted: str, known: Sequence[str]) -> Sequence[str]:
    """Returns the names of similar spelling; if there are none, the first names."""
    in_lower_case = {name.casefold(): name for name in known}
    close = difflib.get_close_matches(wanted.casefold(), in_lower_case, n=_LISTED, cutoff=0.5)
    near = [in_lower_case[name] for name in close] or known[:_LISTED]
    return list(map(_shown, near))


def _shown(name: str) -> str:
    """Returns a name as lists show it: one line, not too long."""
    # Control characters are left out: a name is the user's text, and could control the terminal.
    text = "".join(letter for letter in " ".join(name.split()) if letter.isprintable())
    return text if len(text) <= _NAME_LENGTH else f"{text[:_NAME_LENGTH]}..."
