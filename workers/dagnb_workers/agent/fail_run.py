"""Giving a run up, in the store, so that nobody waits for it for ever."""

from __future__ import annotations

import contextlib
import importlib
import logging
from typing import Any

from dagnb.errors import DagnbError
from dagnb.protocol.invocation import Invocation

_log = logging.getLogger(__name__)


async def fail_run(launch: dict[str, Any], reason: str) -> None:
    """Cancel the run that was launched so; the reason is told to whoever asks."""
    invocation = Invocation.from_json(launch["invocation"])
    _log.warning("run %s is given up: %s", invocation.run, reason)
    opening = importlib.import_module("dagnb.storage.open")  # rarely needed, and slow to import
    with contextlib.suppress(DagnbError):
        store = await opening.open_store(
            invocation.store, namespace=invocation.namespace, allow_insecure=True
        )
        await store.cancel(invocation.run, reason)
        await store.close()
