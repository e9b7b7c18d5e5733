"""All known runs: those in the store, and those in the history."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from dagnb.errors import HistoryError
from dagnb.protocol.messages import RunState
from dagnb.protocol.naming import KnownRun, newest_first
from dagnb.run_history.history import RUNS, History, HistoryEntry
from dagnb.storage.interface import RunLine

_log = logging.getLogger(__name__)


def kept_runs() -> list[HistoryEntry]:
    """Returns the runs of the user's history; none where it cannot be read."""
    try:
        return History().runs(RUNS)
    except HistoryError as error:
        # Runs of the store can be listed without it.
        _log.warning("the history cannot be read, so only runs in the store are listed: %s", error)
        return []


def known_runs(stored: Iterable[RunLine], kept: Iterable[HistoryEntry]) -> list[KnownRun]:
    """Returns both lists as one, newest first, each run once."""
    in_history = {entry.run: entry for entry in kept}
    known = []
    for line in stored:
        # If both have a run, the line of the store is used, because its state is the current one.
        run = KnownRun(
            run=line.run,
            name=line.name,
            state=line.state,
            submitted_at=line.submitted_at,
            is_kept=in_history.pop(line.run, None) is not None,
        )
        known.append(run)
    for entry in in_history.values():
        run = KnownRun(
            run=entry.run,
            name=entry.name,
            state=RunState(entry.state),
            submitted_at=entry.submitted_at,
            is_stored=False,
            is_kept=True,
        )
        known.append(run)
    return newest_first(known)
