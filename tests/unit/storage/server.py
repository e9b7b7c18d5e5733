"""A server that speaks Redis' protocol, notes what it was sent, and answers what a test wants."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

Command = list[bytes]
Answer = Callable[[Command], Awaitable[bytes | None]]
"""A command -> the bytes to send back; None hangs up"""


@dataclass(slots=True)
class Server:
    """url: where it listens. received: every command so far, in order."""

    url: str
    received: list[Command] = field(default_factory=list)


def bulk(value: bytes) -> bytes:
    """A string as the protocol writes it."""
    return b"$%d\r\n%s\r\n" % (len(value), value)


async def read_command(reader: asyncio.StreamReader) -> Command:
    """The next command: an array of strings. [] when the client has hung up."""
    head = await reader.readline()
    words = []
    for _ in range(int(head[1:] or 0)):
        n_bytes = int((await reader.readline())[1:])
        words.append((await reader.readexactly(n_bytes + 2))[:-2])
    return words


@contextlib.asynccontextmanager
async def answering_server(folder: Path, answer: Answer) -> AsyncIterator[Server]:
    """A server at a socket in the folder, which ends with the block."""
    path = folder / "server.sock"
    server = Server(url=f"unix://{path}")
    connections: set[asyncio.Task[None]] = set()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while command := await read_command(reader):
                server.received.append(command)
                told = await answer(command)
                if told is None:
                    break
                writer.write(told)
        finally:
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(converse(reader, writer))
        connections.add(task)

    listener = await asyncio.start_unix_server(accept, path)
    try:
        yield server
    finally:
        listener.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
