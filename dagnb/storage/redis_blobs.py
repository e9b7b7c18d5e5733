"""Results in Redis: small ones in hashes, large ones in chunks of 1 MB."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dagnb.errors import RunMissingError, StorageFullError
from dagnb.protocol.messages import Address
from dagnb.storage.interface import CHUNK_BYTES, SMALL_BYTES
from dagnb.storage.keys import chunk_key, run_prefix, small_field
from dagnb.storage.redis_link import Command, RedisConnection
from dagnb.storage.redis_pieces import WINDOW_BYTES, pieces, portions, read_pieces

_KEYS = 1000
"""Keys in one command"""


class RedisBlobs:
    """See dagnb.storage.interface.Blobs."""

    def __init__(self, link: RedisConnection, namespace: str) -> None:
        """Values of the runs of one namespace."""
        self.link = link
        self.namespace = namespace
        self._ttl_ms: dict[str, int] = {}

    async def store(
        self, run: str, task: int, token: str, data: bytes | memoryview, *, is_sink: bool
    ) -> Address:
        """See Blobs.store."""
        prefix = run_prefix(self.namespace, run)
        view = memoryview(data).cast("B")
        size = len(view)
        if size <= SMALL_BYTES:
            await self.link.call(
                "put", prefix, task, int(is_sink), token, bytes(view), run=run, n_bytes=size
            )
            return Address(token, size)
        ttl_ms = await self._ttl_of(run)
        cut = list(pieces(view))
        keys = [chunk_key(prefix, task, token, i) for i in range(len(cut))]
        try:
            await self._store_chunks(run, dict(zip(keys, cut, strict=True)), ttl_ms, size)
        except (StorageFullError, RunMissingError):
            await self._discard(keys)
            raise
        return Address(token, size, len(cut))

    async def _store_chunks(
        self, run: str, chunks: Mapping[str, memoryview], ttl_ms: int, whole: int
    ) -> None:
        """Raises RunMissingError when the run was forgotten: whoever did that may have looked for chunks before."""
        commands: list[Command] = [
            ("SET", key, chunk, "PX", ttl_ms) for key, chunk in chunks.items()
        ]
        commands.append(("EXISTS", run_prefix(self.namespace, run) + "m"))
        is_there: object = None
        for window in portions(commands, lambda _: CHUNK_BYTES, WINDOW_BYTES + CHUNK_BYTES):
            *_, is_there = await self.link.ask(
                window, run=run, n_bytes=len(window) * CHUNK_BYTES, whole=whole
            )
        self.link.require_run(run, is_there)

    async def _discard(self, keys: Sequence[str]) -> None:
        for begin in range(0, len(keys), _KEYS):
            await self.link.ask([("UNLINK", *keys[begin : begin + _KEYS])])

    async def fetch(
        self, run: str, wanted: Sequence[tuple[int, Address]], *, is_sink: bool = False
    ) -> list[bytes | None]:
        """See Blobs.fetch. An input may be a sink too, so both hashes are asked; small ones and chunks go together."""
        prefix = run_prefix(self.namespace, run)
        small = [
            small_field(task, address.token) for task, address in wanted if address.n_chunks == 0
        ]
        large = [(task, address) for task, address in wanted if address.n_chunks]
        head: list[Command] = [
            ("HMGET", prefix + name, *small) for name in ("z", "v")[: 1 if is_sink else 2] if small
        ]

        def chunk(value: int, piece: int) -> Command:
            task, address = large[value]
            return ("GET", chunk_key(prefix, task, address.token, piece))

        columns, whole = await read_pieces(
            self.link,
            [(address.n_bytes, address.n_chunks) for _, address in large],
            chunk,
            head=head,
            head_bytes=sum(address.n_bytes for _, address in wanted if address.n_chunks == 0),
        )
        held = iter(
            [
                next((v for v in column if v is not None), None)
                for column in zip(*columns, strict=True)
            ]
        )
        chunked = iter(whole)
        return [
            next(chunked) if address.n_chunks else _sound(next(held), address.n_bytes)
            for _, address in wanted
        ]

    async def _ttl_of(self, run: str) -> int:
        """Time to live of a run, looked up once."""
        if run not in self._ttl_ms:
            (ttl_ms,) = await self.link.ask(
                [("HGET", run_prefix(self.namespace, run) + "m", "ttl_ms")]
            )
            self.link.require_run(run, ttl_ms)
            self._ttl_ms[run] = int(ttl_ms)
        return self._ttl_ms[run]


def _sound(value: bytes | None, n_bytes: int) -> bytes | None:
    """The value, None when its size is wrong."""
    return value if value is not None and len(value) == n_bytes else None
