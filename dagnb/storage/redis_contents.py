"""Content in Redis: functions, large arguments, sources. In pieces, shared by runs, gone with the last that uses it.

A run first says what it uses, and learns what is missing. So whatever another run forgets from then on, its content
stays; and a piece whose run was forgotten meanwhile is refused, so that none is left behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from dagnb.errors import RunMissingError
from dagnb.storage.interface import CHUNK_BYTES
from dagnb.storage.keys import content_key, run_prefix
from dagnb.storage.redis_link import RedisConnection
from dagnb.storage.redis_pieces import WINDOW_BYTES, n_pieces, pieces, portions, read_pieces

_NAMES = 10_000
"""Hashes in one command"""

_FIRST_BYTES = CHUNK_BYTES
"""what the first answer of a look brings at most"""

_Piece = tuple[str, int, int | str, memoryview]
"""Hash, number, bytes of the whole if it is the last piece or '', its bytes"""


class RedisContents:
    """The part of dagnb.storage.interface.Blobs that is content."""

    def __init__(self, link: RedisConnection, namespace: str) -> None:
        """Content of one namespace."""
        self._link = link
        self._namespace = namespace

    async def share(
        self, contents: Mapping[str, bytes | memoryview], *, run: str, ttl_s: float
    ) -> int:
        """See Blobs.share. One round trip where all is there, and one more for every 16 MB that are not."""
        prefix, ttl_ms = run_prefix(self._namespace, run), int(ttl_s * 1000)
        names = list(contents)
        missing: list[str] = []
        for begin in range(0, len(names), _NAMES):
            portion = names[begin : begin + _NAMES]
            places = await self._link.call("use", prefix, ttl_ms, *portion, run=run)
            missing += [portion[place] for place in places]

        whole = sum(memoryview(contents[name]).nbytes for name in missing)
        cut = (piece for name in missing for piece in _cut(name, contents[name]))
        for window in portions(cut, _size, WINDOW_BYTES):
            commands = [
                self._link.step(
                    "bring", prefix, ttl_ms, *(word for piece in together for word in piece)
                )
                for together in portions(window, _size, CHUNK_BYTES)
            ]
            answers = await self._link.ask(
                commands, run=run, n_bytes=sum(map(_size, window)), whole=whole
            )
            if not all(answers):
                raise RunMissingError(run)
        return whole

    async def content(self, hashes: Sequence[str]) -> list[bytes | None]:
        """See Blobs.content. One round trip for what is small together, and one more for every 16 MB of the rest."""
        if not hashes:
            return []
        start = content_key(self._namespace, "")
        found = await self._link.call("contents", start, *hashes, n_bytes=_FIRST_BYTES)
        large = [place for place, answer in enumerate(found) if isinstance(answer, int)]
        _, values = await read_pieces(
            self._link,
            [(found[place], n_pieces(found[place])) for place in large],
            lambda value, piece: ("HGET", start + hashes[large[value]], piece),
        )
        for place, value in zip(large, values, strict=True):
            found[place] = value
        whole: list[bytes | None] = found
        return whole


def _cut(name: str, data: bytes | memoryview) -> Iterator[_Piece]:
    n_bytes = memoryview(data).nbytes
    last = n_pieces(n_bytes) - 1
    for number, piece in enumerate(pieces(data)):
        yield name, number, n_bytes if number == last else "", piece


def _size(piece: _Piece) -> int:
    return len(piece[3])
