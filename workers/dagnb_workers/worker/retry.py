"""Retries while the store is out of reach: every step of the protocol may be repeated."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from dagnb.errors import StorageLostError, StorageUnavailableError

T = TypeVar("T")

PATIENCE_S = 60.0
STORE_GONE = 3
"""Exit code of a process of dagnb for which the store stayed out of reach"""

_FIRST_WAIT_S = 0.05
_LONGEST_WAIT_S = 2.0


async def until_available(step: Callable[[], Awaitable[T]]) -> T:
    """Repeat the step while the store is out of reach. Returns its value.

    Raises StorageUnavailableError after PATIENCE_S, StorageLostError at once.
    """
    begin, wait_s = time.monotonic(), _FIRST_WAIT_S
    while True:
        try:
            return await step()
        except StorageLostError:
            raise  # the data is gone, so retries are of no use
        except StorageUnavailableError:
            if time.monotonic() - begin > PATIENCE_S:
                raise

        # A random part of the wait, so that the workers of a run do not retry all at once.
        await _pause(random.uniform(0.0, wait_s))
        wait_s = min(_LONGEST_WAIT_S, 2 * wait_s)


async def _pause(seconds: float) -> None:
    """Sleep on the running loop; in the thread where there is none, as in a worker process."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        time.sleep(seconds)  # noqa: ASYNC251  # nothing else is to go on in this thread
    else:
        await asyncio.sleep(seconds)
