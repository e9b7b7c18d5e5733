"""Bytes in Redis: small results in hashes, large ones in chunks of 1 MB, content shared by runs under its hash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dagnb.protocol.messages import Address
from dagnb.storage.interface import CHUNK_BYTES, SMALL_BYTES
from dagnb.storage.keys import chunk_key, content_key, run_prefix, small_field
from dagnb.storage.redis_link import Command, Link

_WINDOW = 16
"""Chunks in one round trip: the server holds the answers of all of them in memory"""


_CONTENT_BYTES = 1_000_000
"""what one piece of content is allowed to be, for the time that reading it may take: its size is not known before"""


class RedisBlobs:
    """See dagnb.storage.interface.Blobs."""

    def __init__(self, link: Link, namespace: str) -> None:
        """Values of the runs of one namespace."""
        self.link = link
        self.namespace = namespace
        self._ttl_ms: dict[str, int] = {}

    async def store(self, run: str, task: int, token: str, data: bytes | memoryview, *, is_sink: bool) -> Address:
        """See Blobs.store."""
        prefix = run_prefix(self.namespace, run)
        view = memoryview(data).cast("B")
        size = len(view)
        if size <= SMALL_BYTES:
            await self.link.call("put", prefix, task, int(is_sink), token, bytes(view), run=run, n_bytes=size)
            return Address(token, size)
        ttl_ms = await self._ttl_of(run)
        starts = range(0, size, CHUNK_BYTES)
        commands: list[Command] = [
            ("SET", chunk_key(prefix, task, token, i), view[start : start + CHUNK_BYTES], "PX", ttl_ms)
            for i, start in enumerate(starts)
        ]
        for begin in range(0, len(commands), _WINDOW):
            await self.link.ask(commands[begin : begin + _WINDOW], run=run, n_bytes=size)
        return Address(token, size, len(starts))

    async def fetch(
        self, run: str, wanted: Sequence[tuple[int, Address]], *, is_sink: bool = False
    ) -> list[bytes | None]:
        """See Blobs.fetch. An input may be a sink too, so both hashes are asked; small ones and chunks go together."""
        prefix = run_prefix(self.namespace, run)
        small = [small_field(task, address.token) for task, address in wanted if address.n_chunks == 0]
        chunks = [
            chunk_key(prefix, task, address.token, i) for task, address in wanted for i in range(address.n_chunks)
        ]
        head: list[Command] = [("HMGET", prefix + name, *small) for name in ("z", "v")[: 1 if is_sink else 2] if small]
        found: list[bytes | None] = []
        n_bytes = sum(address.n_bytes for _, address in wanted if address.n_chunks == 0)
        first, *rest = [chunks[i : i + _WINDOW] for i in range(0, len(chunks), _WINDOW)] or [[]]
        commands = [*head, *(("GET", key) for key in first)]
        answers = await self.link.ask(commands, n_bytes=n_bytes + len(first) * CHUNK_BYTES) if wanted else []
        found += answers[len(head) :]
        for keys in rest:
            found += await self.link.ask([("GET", key) for key in keys], n_bytes=len(keys) * CHUNK_BYTES)
        values = [
            next((v for v in column if v is not None), None) for column in zip(*answers[: len(head)], strict=True)
        ]
        return _whole(wanted, values, found)

    async def share(self, contents: Mapping[str, bytes], *, ttl_s: float) -> int:
        """See Blobs.share. A longer time to live is not shortened."""
        if not contents:
            return 0
        ttl_ms = int(ttl_s * 1000)
        keys = {content_key(self.namespace, name): data for name, data in contents.items()}
        looks = await self.link.ask(
            [command for key in keys for command in (("EXISTS", key), ("PEXPIRE", key, ttl_ms, "GT"))]
        )
        missing = [(key, data) for (key, data), there in zip(keys.items(), looks[::2], strict=True) if not there]
        for begin in range(0, len(missing), 1000):
            portion = missing[begin : begin + 1000]
            n_bytes = sum(len(data) for _, data in portion)
            await self.link.ask([("SET", key, data, "PX", ttl_ms) for key, data in portion], n_bytes=n_bytes)
        return sum(len(data) for _, data in missing)

    async def content(self, hashes: Sequence[str]) -> list[bytes | None]:
        """See Blobs.content."""
        if not hashes:
            return []
        looks: list[Command] = [("GET", content_key(self.namespace, name)) for name in hashes]
        return await self.link.ask(looks, n_bytes=len(hashes) * _CONTENT_BYTES)

    async def _ttl_of(self, run: str) -> int:
        """Time to live of a run, looked up once."""
        if run not in self._ttl_ms:
            (ttl_ms,) = await self.link.ask([("HGET", run_prefix(self.namespace, run) + "m", "ttl_ms")])
            self.link.require_run(run, ttl_ms)
            self._ttl_ms[run] = int(ttl_ms)
        return self._ttl_ms[run]


def _whole(
    wanted: Sequence[tuple[int, Address]], small: Sequence[bytes | None], chunks: Sequence[bytes | None]
) -> list[bytes | None]:
    """One value each; None where a part is missing or the size is wrong."""
    values, at, results = iter(small), 0, []
    for _, address in wanted:
        if address.n_chunks == 0:
            value = next(values)
        else:
            parts = chunks[at : at + address.n_chunks]
            at += address.n_chunks
            value = b"".join(part for part in parts if part is not None)
        results.append(value if value is not None and len(value) == address.n_bytes else None)
    return results
