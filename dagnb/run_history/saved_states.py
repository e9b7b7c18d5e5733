"""The states that processes have learnt from a history, in a file beside it.

The next process goes on from there.

    history.sqlite           samples of all runs
    history.sqlite.learnt    by name of a function: packed state, number of the last sample in it

The file is a copy of what can be learnt anew, so nothing is lost with it. A state counts only for
the history that it was learnt from (its birth) and by the rules that it was learnt by.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from dagnb.errors import HistoryError
from dagnb.run_history.database import Schema, opened

SCHEMA = Schema(
    version=1,
    tables=("learnt",),
    script="""
create table learnt (
    name text primary key, birth text, rules text, last int, state blob
) without rowid;
""",
)

_log = logging.getLogger(__name__)


class SavedState(NamedTuple):
    """The packed state of a name. last: number of the last sample that it was learnt from."""

    last: int
    state: bytes


def states_file(history: Path) -> Path:
    """Returns the file of the states that were learnt from this history."""
    return history.with_name(f"{history.name}.learnt")


def forget_states(history: Path) -> None:
    """Deletes the states that were learnt from this history. Raises HistoryError."""
    if states_file(history).exists():
        with opened(states_file(history), SCHEMA) as db:
            db.execute("delete from learnt")


class SavedStates:
    """The file of states beside a history; opened for each use. A failing one is as none."""

    def __init__(self, history: Path, rules: str) -> None:
        """Opens nothing yet. rules: a mark of the code that learns."""
        self.path, self._rules = states_file(history), rules

    def read(self, names: Sequence[str], birth: str) -> dict[str, SavedState]:
        """Returns the states of these names that are of the history with this birth."""
        # Without a file there is nothing to read, and no reason to make one.
        if not self.path.exists():
            return {}
        try:
            with opened(self.path, SCHEMA) as db:
                rows = db.execute(
                    "select name, last, state from learnt where birth = ? and rules = ?"
                    " and name in (select value from json_each(?))",
                    (birth, self._rules, json.dumps(list(names))),
                ).fetchall()
        except HistoryError as error:
            _log.warning("all runs are learnt anew: %s", error)
            return {}
        return {name: SavedState(last, state) for name, last, state in rows}

    def write(self, states: Mapping[str, SavedState], birth: str) -> None:
        """Stores these states, unless another process has stored later ones."""
        rows = [(name, birth, self._rules, *saved) for name, saved in states.items()]
        try:
            with opened(self.path, SCHEMA) as db:
                db.executemany(
                    "insert into learnt values (?, ?, ?, ?, ?) on conflict (name) do update set"
                    " birth = excluded.birth, rules = excluded.rules, last = excluded.last,"
                    " state = excluded.state where excluded.last > last"
                    " or excluded.birth != birth or excluded.rules != rules",
                    rows,
                )
        except HistoryError as error:
            _log.warning("the next process learns these runs again: %s", error)
