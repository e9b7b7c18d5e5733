"""Values too large for one string in Redis, written and read in pieces, as many in a round trip as memory allows.

A server refuses strings over its proto-max-bulk-len, and holds all that one round trip asks for at once.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from dagnb.storage.interface import CHUNK_BYTES
from dagnb.storage.redis_link import Command, RedisConnection

T = TypeVar("T")

WINDOW_BYTES = 16 * CHUNK_BYTES
"""In one round trip: the server holds the answers of all its commands in memory"""


def n_pieces(n_bytes: int) -> int:
    """Number of pieces of so many bytes; nothing is one piece, too."""
    return max(1, -(-n_bytes // CHUNK_BYTES))


def pieces(data: bytes | memoryview) -> Iterator[memoryview]:
    """Views of the pieces, in order. Nothing is copied."""
    view = memoryview(data)
    view = (
        view.cast("B") if view.nbytes else memoryview(b"")
    )  # what has a length of 0 cannot be cast
    for piece in range(n_pieces(len(view))):
        yield view[piece * CHUNK_BYTES : (piece + 1) * CHUNK_BYTES]


def portions(
    items: Iterable[T], size: Callable[[T], int], most_bytes: int, most: int = 1000
) -> Iterator[list[T]]:
    """The items in order, in lists of at most so many bytes and so many items; one that is larger alone."""
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
    """Answers to the commands of `head`, which ride along first; and values, None for each that is missing or torn.

    wanted: bytes and pieces of each value. command: for a value by its place in `wanted`, and one of its pieces.
    At no time more than the values and one window are held.
    """
    places = [(value, piece) for value, (_, n) in enumerate(wanted) for piece in range(n)]
    windows = list(
        portions(places, lambda place: min(CHUNK_BYTES, wanted[place[0]][0]), WINDOW_BYTES)
    ) or [[]]
    buffers = [io.BytesIO() for _ in wanted]
    torn: set[int] = set()
    told: list[Any] = []

    for number, window in enumerate(windows):
        first = list(head) if number == 0 else []
        commands = [*first, *(command(value, piece) for value, piece in window)]
        if not commands:
            break
        n_bytes = len(window) * CHUNK_BYTES + (head_bytes if first else 0)
        answers = await link.ask(commands, n_bytes=n_bytes)
        told += answers[: len(first)]
        for (value, _), found in zip(window, answers[len(first) :], strict=True):
            if found is None:
                torn.add(value)
            else:
                buffers[value].write(found)

    values = [buffer.getvalue() for buffer in buffers]
    sound = [
        data if value not in torn and len(data) == wanted[value][0] else None
        for value, data in enumerate(values)
    ]
    return told, sound
