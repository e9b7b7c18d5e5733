"""The connection to the first process in a container, through the engine's attach stream.

It works wherever the engine is, needs no socket in the container, and only who may use the engine can speak on it. The
SDK reads it with blocking calls, so a thread does, and hands what it hears to the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

from dagnb_workers.launchers.docker.engine import connect

_WANTED = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
_HEAD = struct.Struct(">BxxxL")
_STDERR = 2
_KEPT = 2000
_READ_BYTES = 65536
_LONGEST = 65536


class Wire:
    """hear: called on the loop with each line of news, and with {"gone": True} at the end. stderr: the tail of it."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, hear: Callable[[dict[str, Any]], None]
    ) -> None:
        self._loop, self._hear = loop, hear
        self._stream: Any = None
        self._begun, self._sending = b"", threading.Lock()
        self.stderr = ""

    def attach(self, container: str) -> None:
        """Join the container's input and output; begin to listen. Blocks; raises what the engine says."""
        self._stream = connect().api.attach_socket(container, params=_WANTED)
        self._socket.settimeout(None)
        threading.Thread(
            target=self._listen, name=f"dagnb-wire-{container[:12]}", daemon=True
        ).start()

    def send(self, request: dict[str, Any]) -> None:
        """Write one line. Blocks as long as the engine takes; nothing happens when the container is gone."""
        with self._sending, contextlib.suppress(OSError):
            self._socket.sendall(json.dumps(request).encode() + b"\n")

    @property
    def _socket(self) -> Any:
        return getattr(self._stream, "_sock", self._stream)

    def _listen(self) -> None:
        try:
            for kind, data in self._frames():
                self._take(kind, data)
        finally:
            self._tell({"gone": True})

    def _take(self, kind: int, data: bytes) -> None:
        """Lines of JSON objects, of bounded length: what else comes is not from our first process."""
        if kind == _STDERR:
            self.stderr = (self.stderr + data.decode(errors="replace"))[-_KEPT:]
            return
        *lines, self._begun = (self._begun + data).split(b"\n")
        if len(self._begun) > _LONGEST:
            self._begun = b""
        for line in lines:
            with contextlib.suppress(ValueError, RecursionError):
                news = json.loads(line[:_LONGEST])
                if isinstance(news, dict) and "gone" not in news:
                    self._tell(news)

    def _frames(self) -> Iterator[tuple[int, bytes]]:
        """(1 for stdout or 2 for stderr, what was written), as the engine interleaves them."""
        buffer = b""
        while True:
            while (
                len(buffer) < _HEAD.size or len(buffer) < _HEAD.size + _HEAD.unpack_from(buffer)[1]
            ):
                data = self._receive()
                if not data:
                    return
                buffer += data
            kind, n_bytes = _HEAD.unpack_from(buffer)
            yield kind, buffer[_HEAD.size : _HEAD.size + n_bytes]
            buffer = buffer[_HEAD.size + n_bytes :]

    def _receive(self) -> bytes:
        try:
            data: bytes = self._socket.recv(_READ_BYTES)
        except (OSError, ValueError):
            return b""
        return data

    def _tell(self, news: dict[str, Any]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._hear, news)
