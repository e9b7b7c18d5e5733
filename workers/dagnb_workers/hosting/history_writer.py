"""Keep a run in the history when no client does, as after the end of a notebook's kernel.

Usually the client writes the history, and its trace is better, because it also shows when the
client had the result. So the process that hosted the run waits a moment, and keeps the run only if
it is missing then.
"""

from __future__ import annotations

import asyncio
import importlib
import logging

from dagnb.errors import DagnbError
from dagnb.protocol.invocation import Invocation
from dagnb.storage.open import open_store_of

# Seconds that the client has to write the history itself.
CLIENT_FIRST_S = 1.0

_log = logging.getLogger(__name__)


async def keep_in_history(invocation: Invocation, client_first_s: float = CLIENT_FIRST_S) -> bool:
    """Keep the run if it is over and not in the history. Returns whether this call kept it.

    Logs a warning, and raises nothing, when the store or the history fails.
    """
    await asyncio.sleep(client_first_s)
    try:
        # Imported here: it loads sqlite, which the worker processes forked from this one never use.
        module = importlib.import_module("dagnb.run_history.history")
        history = module.History()
        if await asyncio.to_thread(history.knows, invocation.run):
            return False

        store = await open_store_of(invocation)
        try:
            is_recorded: bool = await module.record_finished(store, invocation.run, history)
        finally:
            await store.close()
        return is_recorded
    except (DagnbError, OSError) as error:
        _log.warning("run %s is not kept in the history: %s", invocation.run, error)
        return False
