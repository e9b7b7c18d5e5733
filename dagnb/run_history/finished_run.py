"""Learning from a run that is over: wait for its last spans, then record it in the history.

The client does so for the runs whose result it fetched, and the process that hosted the workers
does so for runs whose client has ended. The second of the two finds the run recorded and changes
nothing.
"""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING

from dagnb.protocol.messages import Observation, RunState
from dagnb.protocol.run_description import RunDescription
from dagnb.storage.interface import Store
from dagnb.trace.span import Span, is_last, unpacked
from dagnb.trace.trace import Trace

if TYPE_CHECKING:
    # It loads sqlite, which hosts need only when a run is over.
    from dagnb.run_history.history import History

LATE_S = 2.0
"""seconds after the end of a run until which its last spans are awaited and recorded"""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.01, 0.1


async def record_finished(store: Store, run: str, history: History) -> bool:
    """Record a run that is over, once its trace is complete.

    Returns False where nothing was recorded: the run goes on, has no description, or the history
    knows it.
    Raises RunMissingError, StorageError, HistoryError.
    """
    seen, spans = await _settled(store, run)
    if seen.state is RunState.RUNNING or not seen.meta:
        return False

    description = RunDescription.read(seen.meta)
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
