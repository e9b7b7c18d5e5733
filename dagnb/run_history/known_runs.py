"""Every run that is known: those that the store holds, and those that the history keeps."""

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
    """The runs of the user's history; none where it cannot be read, for those of the store are found without."""
    try:
        return History().runs(RUNS)
    except HistoryError as error:
        _log.warning("only runs of the store are looked at: %s", error)
        return []


def known_runs(stored: Iterable[RunLine], kept: Iterable[HistoryEntry]) -> list[KnownRun]:
    """Both lists as one, newest first; a run that stands in both is there once."""
    in_history = {line.run: line for line in kept}
    known = [
        KnownRun(
            run=line.run,
            name=line.name,
            state=line.state,
            submitted_at=line.submitted_at,
            is_kept=in_history.pop(line.run, None) is not None,
        )
        for line in stored
    ]
    known += [
        KnownRun(
            run=line.run,
            name=line.name,
            state=RunState(line.state),
            submitted_at=line.submitted_at,
            is_stored=False,
            is_kept=True,
        )
        for line in in_history.values()
    ]
    return newest_first(known)
