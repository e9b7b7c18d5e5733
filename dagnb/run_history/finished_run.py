"""Runs that are over: wait for the last spans, then record the run; list it beside stored runs.

The client records the runs whose result it fetched, and the process that hosted the workers
those whose client has ended. The second of the two finds the run recorded and changes
nothing.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from dagnb.errors import HistoryError
from dagnb.planning.plan import Forecast
from dagnb.protocol.messages import Observation, RunState
from dagnb.protocol.naming import KnownRun, newest_first
from dagnb.protocol.run_description import RunDescription
from dagnb.run_history.history import RUNS, History, HistoryEntry
from dagnb.storage.interface import RunLine, Store
from dagnb.trace.chunk import is_last, unpacked
from dagnb.trace.trace import Span, Trace

if TYPE_CHECKING:
    # It loads sqlite, which hosts need only when a run is over.
    from dagnb.run_history.history import History

LATE_S = 2.0
"""seconds after the end of a run until which its last spans are awaited and recorded"""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.01, 0.1


async def record_finished(
    store: Store, run: str, history: History, forecast: Forecast | None = None
) -> bool:
    """Record a run that is over, once its trace is complete.

    forecast: of its plan, where this process has made one.
    Returns False where nothing was recorded: the run goes on, has no description, or the history
    knows it.
    Raises RunMissingError, StorageError, HistoryError.
    """
    seen, spans = await _settled(store, run)
    if seen.state is RunState.RUNNING or not seen.meta:
        return False

    description = RunDescription.read(seen.meta)
    if forecast is not None:
        description = description.with_forecast(forecast)
    trace = Trace.of(
        spans,
        description.names,
        submitted_s=seen.submitted_at,
        finished_s=seen.finished_at,
    )
    record = functools.partial(history.record, run, description, seen.state, trace)
    try:
        # sqlite blocks, and the loop of this process serves other runs meanwhile.
        recorded = asyncio.get_running_loop().run_in_executor(None, record)
    except RuntimeError:
        # The interpreter is ending, as it does right after the last line of a script: executors
        # take no more work, though this loop still runs, and the exit waits for it.
        return record()
    return await recorded


async def _settled(store: Store, run: str) -> tuple[Observation, list[Span]]:
    """Wait until every instance of a finished run has uploaded its spans, or LATE_S after its end.

    Returns the run as it is now and its spans; at once while it still runs.
    """
    spans: list[Span] = []
    n_chunks = n_left = 0
    pause_s = _FIRST_PAUSE_S
    while True:
        # The state first: spans read before it would lack those that came with the last commit.
        seen = await store.observe(run)
        chunks = await store.spans(run, n_chunks)
        n_chunks += len(chunks)
        n_left += sum(map(is_last, chunks))
        for chunk in chunks:
            spans += unpacked(chunk)

        is_complete = n_left >= seen.n_instances or seen.now - seen.finished_at > LATE_S
        if seen.state is RunState.RUNNING or is_complete:
            return seen, spans
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


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
