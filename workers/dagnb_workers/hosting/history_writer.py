"""Keep a run in the history when no client does, as after the end of a notebook's kernel.

The client writes the history as a rule, and its trace is better: it says when the client had the
result. So the process that hosted the run waits a moment, then writes only what is missing.
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
from dagnb.storage.open import open_store_of
from dagnb.trace.span import is_last, unpacked
from dagnb.trace.trace import Trace

if TYPE_CHECKING:
    from dagnb.run_history.history import History

# Seconds that the client has to write the history itself.
CLIENT_FIRST_S = 1.0

# Seconds after the end of a run for which its last spans are waited for, as the client does.
LATE_S = 2.0

_LOOK_S = 0.1

_log = logging.getLogger(__name__)


async def keep_in_history(invocation: Invocation, client_first_s: float = CLIENT_FIRST_S) -> bool:
    """Keep the run if it is over and not in the history. Returns whether this call kept it.

    Never raises for a fault of the store or the history: it logs a warning.
    """
    await asyncio.sleep(client_first_s)
    try:
        # Imported here: it loads sqlite, which the worker processes forked from this one never use.
        history = importlib.import_module("dagnb.run_history.history").History()
        if await asyncio.to_thread(history.knows, invocation.run):
            return False
        return await _keep(invocation, history)
    except (DagnbError, OSError, sqlite3.Error) as error:
        _log.warning("run %s is not kept in the history: %s", invocation.run, error)
        return False


async def _keep(invocation: Invocation, history: History) -> bool:
    store = await open_store_of(invocation)
    try:
        observation, chunks = await _observe_end(store, invocation.run)
    finally:
        await store.close()
    if observation.state is RunState.RUNNING or not observation.meta:
        return False

    description = RunDescription.read(observation.meta)
    spans = [span for chunk in chunks for span in unpacked(chunk)]
    trace = Trace.of(
        spans,
        description.names,
        submitted_s=observation.submitted_at,
        finished_s=observation.finished_at,
    )
    return await asyncio.to_thread(
        history.record, invocation.run, description, observation.state, trace
    )


async def _observe_end(store: Store, run: str) -> tuple[Observation, list[bytes]]:
    """Returns a run and its span chunks.

    Of a run that is over, waits until all instances have sent their final chunk, LATE_S at most.
    Raises RunMissingError, StorageError.
    """
    while True:
        observation = await store.observe(run)
        chunks = await store.spans(run, 0)
        if observation.state is RunState.RUNNING:
            return observation, chunks

        n_left = sum(map(is_last, chunks))
        is_late = observation.now - observation.finished_at > LATE_S
        if n_left >= observation.n_instances or is_late:
            return observation, chunks
        await asyncio.sleep(_LOOK_S)
