"""Bytes in Redis: results of tasks, and content that runs share.

    result, small    field "task:token" of the hash `v`, or `z` for a sink
    result, large    chunks b:<task>:<token>:<i>, plain strings
    content          pieces 0, 1, ... in a hash of its own; the field `n`, its size, comes last

A server refuses strings over its proto-max-bulk-len, and holds all answers of one round trip in
memory. So large values are sent in pieces of CHUNK_BYTES, as many at once as WINDOW_BYTES allows.

A run first registers as a user of its content, and gets the hashes that are missing. From then on
its content stays, even if another run is forgotten. A piece of a run that was forgotten meanwhile
is refused, so that no content without a user is left.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from dagnb.errors import RunMissingError, StorageFullError
from dagnb.protocol.messages import Address
from dagnb.storage.interface import CHUNK_BYTES, SMALL_BYTES
from dagnb.storage.keys import (
    chunk_key,
    content_key,
    contents_key,
    run_prefix,
    small_field,
)
from dagnb.storage.redis_link import RedisConnection
from dagnb.storage.redis_transport import Command

T = TypeVar("T")

WINDOW_BYTES = 16 * CHUNK_BYTES
"""Bytes of one round trip at most: the server holds the answers to all its commands in memory."""

_KEYS = 1000
"""Keys in one command."""

_HASHES = 10_000
"""Contents in one round trip."""

_FIRST_BYTES = 1_000_000
"""Bytes of content in the first answer, at most. Less than a chunk: such content is one piece."""

_Piece = tuple[str, int, int | str, memoryview]
"""Hash, number, size of the whole if it is the last piece or '', its bytes"""


class RedisBlobs:
    """See dagnb.storage.interface.Blobs."""

    def __init__(self, link: RedisConnection, namespace: str) -> None:
        """Move bytes of the runs of one namespace over an open link."""
        self.link = link
        self.namespace = namespace
        self._ttl_ms: dict[str, int] = {}

    # ---- results ----

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
            # No key lists chunks without a commit: on a full server they would take the room that
            # the next attempt needs, until they expire.
            await self._discard(keys)
            raise
        return Address(token, size, len(cut))

    async def _store_chunks(
        self, run: str, chunks: Mapping[str, memoryview], ttl_ms: int, whole: int
    ) -> None:
        """Raises RunMissingError when the run was forgotten meanwhile."""
        commands: list[Command] = [
            ("SET", key, chunk, "PX", ttl_ms) for key, chunk in chunks.items()
        ]
        # EXISTS comes last: a `forget` before it may have looked for chunks before these were
        # written.
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
        """See Blobs.fetch. Small values and the first chunks of large ones take one round trip."""
        prefix = run_prefix(self.namespace, run)
        small = [(task, address) for task, address in wanted if address.n_chunks == 0]
        large = [(task, address) for task, address in wanted if address.n_chunks]

        # An input may be a sink, too, so both hashes are asked; the shortest values stand with the
        # address.
        names = ("z",) if is_sink else ("z", "v")
        fields = [small_field(task, address.token) for task, address in small]
        head: list[Command] = []
        if small:
            head = [("HMGET", prefix + name, *fields) for name in names]
            if not is_sink:
                head.append(("HMGET", prefix + "v", *(task for task, _ in small)))

        def chunk(value: int, piece: int) -> Command:
            task, address = large[value]
            return ("GET", chunk_key(prefix, task, address.token, piece))

        columns, whole = await read_pieces(
            self.link,
            [(address.n_bytes, address.n_chunks) for _, address in large],
            chunk,
            head=head,
            head_bytes=sum(address.n_bytes for _, address in small),
        )
        values: dict[tuple[int, Address], bytes | None] = dict(zip(large, whole, strict=True))
        for position, (task, address) in enumerate(small):
            candidates = [column[position] for column in columns]
            if not is_sink:
                candidates.append(_behind(address, candidates.pop()))
            values[task, address] = _sound(candidates, address.n_bytes)
        return [values[key] for key in wanted]

    async def discard(self, run: str, task: int, token: str) -> None:
        """See Blobs.discard. One round trip."""
        await self.link.call("drop", run_prefix(self.namespace, run), task, token, run=run)

    async def _ttl_of(self, run: str) -> int:
        """Returns the time to live of a run, milliseconds, looked up once."""
        if run not in self._ttl_ms:
            (ttl_ms,) = await self.link.ask(
                [("HGET", run_prefix(self.namespace, run) + "m", "ttl_ms")]
            )
            self.link.require_run(run, ttl_ms)
            self._ttl_ms[run] = int(ttl_ms)
        return self._ttl_ms[run]

    # ---- content ----

    async def share(
        self, contents: Mapping[str, bytes | memoryview], *, run: str, ttl_s: float
    ) -> int:
        """See Blobs.share. One round trip if all is there; one more for each 16 MB missing."""
        if not contents:
            return 0
        ttl_ms, hashes = int(ttl_s * 1000), list(contents)
        missing: list[str] = []
        for begin in range(0, len(hashes), _HASHES):
            portion = hashes[begin : begin + _HASHES]
            # First the uses, then the notes: a run that is forgotten in between leaves no note of
            # a use that was taken back.
            answers = await self.link.ask(
                [
                    *self._of_contents("use", portion, ttl_ms, run),
                    self.link.step("note", self._uses_key(run), ttl_ms, *portion),
                    self.link.step("note", contents_key(self.namespace), ttl_ms, *portion),
                ],
                run=run,
            )
            for name, is_whole in zip(portion, answers, strict=False):
                if not is_whole:
                    missing.append(name)

        whole = sum(memoryview(contents[name]).nbytes for name in missing)
        cut = (piece for name in missing for piece in _cut(name, contents[name]))
        for window in portions(cut, _size, WINDOW_BYTES):
            # A call has at most one chunk: one call with many bytes would stall the server.
            commands = []
            for name, *words in window:
                key = content_key(self.namespace, name)
                commands.append(self.link.step("bring", key, ttl_ms, run, *words))
            answers = await self.link.ask(
                commands, run=run, n_bytes=sum(map(_size, window)), whole=whole
            )
            if not all(answers):
                raise RunMissingError(run)
        return whole

    async def content(self, hashes: Sequence[str]) -> list[bytes | None]:
        """See Blobs.content. One round trip if it is small; one more for each 16 MB of the rest."""
        if not hashes:
            return []
        limit = _FIRST_BYTES // len(hashes)
        answers = await self.link.ask(
            self._of_contents("content", hashes, limit), n_bytes=CHUNK_BYTES
        )
        # A number is the size of a content that was too large for the first answer.
        large = [position for position, answer in enumerate(answers) if isinstance(answer, int)]
        _, values = await read_pieces(
            self.link,
            [(answers[position], n_pieces(answers[position])) for position in large],
            lambda value, piece: (
                "HGET", content_key(self.namespace, hashes[large[value]]), piece,
            ),
        )  # fmt: skip
        contents: list[bytes | None] = answers
        for position, value in zip(large, values, strict=True):
            contents[position] = value
        return contents

    async def renew(self, run: str, ttl_ms: int) -> None:
        """Prolong the uses of a run, which is worked for. Two round trips, one without content."""
        hashes = [name for _, name in await self.uses_of(run)]
        if hashes:
            note = self.link.step("note", contents_key(self.namespace), ttl_ms, *hashes)
            await self.link.ask([*self._of_contents("renew", hashes, ttl_ms, run), note])

    async def leave(self, uses: Sequence[tuple[str, str]], *, at_once: bool = False) -> list[int]:
        """Take runs from the users of contents; contents without a user are deleted.

        uses: run and hash. at_once: free their memory before this returns.
        Returns the bytes of each that was deleted. Two round trips at most.
        """
        if not uses:
            return []
        command = "DEL" if at_once else "UNLINK"
        commands = []
        for run, name in uses:
            key = content_key(self.namespace, name)
            commands.append(self.link.step("leave", key, run, command))
        freed = await self.link.ask(commands)
        gone = {name for (_, name), n_bytes in zip(uses, freed, strict=True) if n_bytes is not None}
        if gone:
            await self.link.ask([("SREM", contents_key(self.namespace), *gone)])
        return [n_bytes for n_bytes in freed if n_bytes]

    async def uses_of(self, run: str) -> list[tuple[str, str]]:
        """Returns the run with the hash of each content that it uses."""
        (names,) = await self.link.ask([("SMEMBERS", self._uses_key(run))])
        return [(run, name.decode()) for name in names]

    def _of_contents(self, function: str, hashes: Sequence[str], *args: Any) -> list[Command]:
        """Returns a call of this function for each content."""
        key = partial(content_key, self.namespace)
        return [self.link.step(function, key(name), *args) for name in hashes]

    def _uses_key(self, run: str) -> str:
        return run_prefix(self.namespace, run) + "use"


def n_pieces(n_bytes: int) -> int:
    """Returns the number of pieces of so many bytes; nothing is one piece, too."""
    return max(1, -(-n_bytes // CHUNK_BYTES))


def pieces(data: bytes | memoryview) -> Iterator[memoryview]:
    """Yields views of the pieces, in order. Nothing is copied."""
    view = memoryview(data)
    # A view with a length of 0 cannot be cast.
    view = view.cast("B") if view.nbytes else memoryview(b"")
    for piece in range(n_pieces(len(view))):
        yield view[piece * CHUNK_BYTES : (piece + 1) * CHUNK_BYTES]


def portions(
    items: Iterable[T], size: Callable[[T], int], most_bytes: int, most: int = 1000
) -> Iterator[list[T]]:
    """Yields the items in order, in lists of at most so many bytes and so many items.

    An item that is larger is alone in its list.
    """
    portion: list[T] = []
    n_bytes = 0
    for item in items:
        if portion and (n_bytes + size(item) > most_bytes or len(portion) == most):
            yield portion
            portion, n_bytes = [], 0
        portion.append(item)
        n_bytes += size(item)
    if portion:
        yield portion


async def read_pieces(
    link: RedisConnection,
    wanted: Sequence[tuple[int, int]],
    command: Callable[[int, int], Command],
    *,
    head: Sequence[Command] = (),
    head_bytes: int = 0,
) -> tuple[list[Any], list[bytes | None]]:
    """Read values in pieces; the first round trip also sends the commands `head`.

    wanted: size and number of pieces of each value. command: reads one piece of one value, both
    by their position. head_bytes: about how much the answers to `head` bring.
    Returns the answers to `head`, and the values; None for each that is missing or incomplete.
    Holds no more in memory than the values and one window.
    """
    reads = [(value, piece) for value, (_, n) in enumerate(wanted) for piece in range(n)]
    # If no value is read in pieces, one empty window is left, with which `head` is sent.
    windows = list(
        portions(reads, lambda read: min(CHUNK_BYTES, wanted[read[0]][0]), WINDOW_BYTES)
    ) or [[]]
    buffers = [io.BytesIO() for _ in wanted]
    torn: set[int] = set()
    head_answers: list[Any] = []

    for number, window in enumerate(windows):
        first = list(head) if number == 0 else []
        commands = [*first, *(command(value, piece) for value, piece in window)]
        if not commands:
            break
        n_bytes = len(window) * CHUNK_BYTES + (head_bytes if first else 0)
        answers = await link.ask(commands, n_bytes=n_bytes)
        head_answers += answers[: len(first)]
        for (value, _), piece_bytes in zip(window, answers[len(first) :], strict=True):
            if piece_bytes is None:
                torn.add(value)
            else:
                buffers[value].write(piece_bytes)

    values: list[bytes | None] = []
    for value, buffer in enumerate(buffers):
        data = buffer.getvalue()
        is_whole = value not in torn and len(data) == wanted[value][0]
        values.append(data if is_whole else None)
    return head_answers, values


def _behind(address: Address, result: bytes | None) -> bytes | None:
    """Returns the bytes that stand with this address in a result, None where there are none."""
    known, newline, data = (result or b"").partition(b"\n")
    return data if newline and known.decode() == address.encode() else None


def _sound(candidates: Sequence[bytes | None], n_bytes: int) -> bytes | None:
    """Returns the first value that is not None; None when its size is wrong."""
    for value in candidates:
        if value is not None:
            return value if len(value) == n_bytes else None
    return None


def _cut(name: str, data: bytes | memoryview) -> Iterator[_Piece]:
    """Yields the pieces of a content. Only the last one has the size: then the content is whole."""
    n_bytes = memoryview(data).nbytes
    last = n_pieces(n_bytes) - 1
    for number, piece in enumerate(pieces(data)):
        yield name, number, n_bytes if number == last else "", piece


def _size(piece: _Piece) -> int:
    return len(piece[3])
