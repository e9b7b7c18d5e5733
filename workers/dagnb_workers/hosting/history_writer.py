"""A run is kept in the history also when nobody waits for it any more: whoever hosted it looks whether it is there.

The client does it as a rule, and its trace is the better one: it says when the client had the result. So it goes first.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import sqlite3
from typing import TYPE_CHECKING

from dagnb.errors import DagnbError
from dagnb.protocol.invocation import Invocation
from dagnb.protocol.messages import Observation, RunState
from dagnb.protocol.run_description import RunDescription
from dagnb.storage.interface import Store
from dagnb.trace.span import is_last, unpacked
from dagnb.trace.trace import Trace

if TYPE_CHECKING:
    from dagnb.run_history.history import History

CLIENT_FIRST_S = 1.0
LATE_S = 2.0
"""so long after the end spans are waited for, as the client does"""
_LOOK_S = 0.1

_log = logging.getLogger(__name__)


async def keep_in_history(invocation: Invocation, client_first_s: float = CLIENT_FIRST_S) -> bool:
    """Keep the run if it is over and nobody did. Never raises for what is wrong with the store or the history."""
    await asyncio.sleep(client_first_s)
    try:
        history = importlib.import_module(
            "dagnb.run_history.history"
        ).History()  # sqlite, which a worker need not load
        if await asyncio.to_thread(history.knows, invocation.run):
            return False
        return await _keep(invocation, history)
    except (DagnbError, OSError, sqlite3.Error) as error:
        _log.warning("run %s is not kept in the history: %s", invocation.run, error)
        return False


async def _keep(invocation: Invocation, history: History) -> bool:
    opening = importlib.import_module("dagnb.storage.open")
    store: Store = await opening.open_store(
        invocation.store, namespace=invocation.namespace, allow_insecure=True, allow_eviction=True
    )
    try:
        seen, chunks = await _settled(store, invocation.run)
    finally:
        await store.close()
    if seen.state is RunState.RUNNING or not seen.meta:
        return False
    description = RunDescription.read(seen.meta)
    spans = [span for chunk in chunks for span in unpacked(chunk)]
    trace = Trace.of(
        spans, description.names, submitted_s=seen.submitted_at, finished_s=seen.finished_at
    )
    return await asyncio.to_thread(history.record, invocation.run, description, seen.state, trace)


async def _settled(store: Store, run: str) -> tuple[Observation, list[bytes]]:
    """The run as it ended, and its spans once all who took part have left or it is too late; at once while it goes on.

    Raises RunMissingError, StorageError.
    """
    while True:
        seen = await store.observe(run)
        chunks = await store.spans(run, 0)
        n_left = sum(map(is_last, chunks))
        if (
            seen.state is RunState.RUNNING
            or n_left >= seen.n_instances
            or seen.now - seen.finished_at > LATE_S
        ):
            return seen, chunks
        await asyncio.sleep(_LOOK_S)
