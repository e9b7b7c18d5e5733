"""Opens the store at a URL."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from dagnb.errors import ConfigError
from dagnb.protocol.invocation import Invocation
from dagnb.storage.interface import Store
from dagnb.storage.memory import MemoryStore
from dagnb.storage.redis import RedisStore
from dagnb.storage.redis_link import without_secrets

__all__ = ["MEMORY_URL", "open_store", "open_store_of", "without_secrets"]

MEMORY_URL = "memory://"

_memory: list[MemoryStore] = []
_parents: list[MemoryStore] = []


def _part_from_parent() -> None:
    """Give a forked process a memory of its own, and end its copies of the parent's runs."""
    for store in _memory:
        store.part_from_parent()
    _parents.extend(_memory)
    _memory.clear()


os.register_at_fork(after_in_child=_part_from_parent)


async def open_store(
    url: str,
    *,
    namespace: str = "dagnb",
    allow_insecure: bool = False,
    allow_eviction: bool = False,
    blocks: bool = False,
) -> Store:
    """Open the store at a URL: redis://, rediss://, unix:// or memory:// (one per process).

    blocks: calls of a server block the thread, which has no event loop.

    Raises ConfigError.
    """
    scheme = urlsplit(url).scheme
    if scheme == "memory":
        if not _memory:
            _memory.append(MemoryStore())
        return _memory[0]
    if scheme not in ("redis", "rediss", "unix"):
        raise ConfigError(
            f"store '{without_secrets(url)}': "
            "the scheme must be redis://, rediss://, unix:// or memory://."
        )
    return await RedisStore.open(
        url,
        namespace=namespace,
        allow_insecure=allow_insecure,
        allow_eviction=allow_eviction,
        blocks=blocks,
    )


async def open_store_of(invocation: Invocation, *, blocks: bool = False) -> Store:
    """Returns the store of an invocation, as its workers and hosts open it. Raises StorageError.

    blocks: see open_store.

    The server is not checked again: the client that submitted the run decided whether a server
    without a password, or one that may delete keys, is good enough.
    """
    return await open_store(
        invocation.store,
        namespace=invocation.namespace,
        allow_insecure=True,
        allow_eviction=True,
        blocks=blocks,
    )
