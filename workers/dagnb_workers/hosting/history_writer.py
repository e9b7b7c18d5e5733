"""Keeps runs in the history whose client has ended: the host of the workers records them.

As a rule the client records its run, and its trace is the better one, since it says when the client
held the result. Therefore the client goes first.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import sqlite3

from dagnb.errors import DagnbError
from dagnb.protocol.invocation import Invocation
from dagnb.run_history.finished_run import record_finished
from dagnb.storage.interface import Store

CLIENT_FIRST_S = 1.0
"""seconds that the client has for recording the run itself"""

_log = logging.getLogger(__name__)


async def keep_in_history(invocation: Invocation, client_first_s: float = CLIENT_FIRST_S) -> bool:
    """Record the run if it is over and the history does not know it.

    Returns whether it was recorded. Logs what is wrong with the store or the history: a host goes
    on without either.
    """
    await asyncio.sleep(client_first_s)
    try:
        # Imported late: sqlite, which a host needs only when a run is over.
        history = importlib.import_module("dagnb.run_history.history").History()
        if await asyncio.to_thread(history.knows, invocation.run):
            return False

        opening = importlib.import_module("dagnb.storage.open")
        store: Store = await opening.open_store(
            invocation.store,
            namespace=invocation.namespace,
            allow_insecure=True,
            allow_eviction=True,
        )
        try:
            return await record_finished(store, invocation.run, history)
        finally:
            await store.close()
    except (DagnbError, OSError, sqlite3.Error) as error:
        _log.warning("run %s is not kept in the history: %s", invocation.run, error)
        return False
