"""The connection to the first process in a container, through the engine's attach stream.

The connection works wherever the engine is and needs no socket in the container, and only those who
may use the engine can write to it. The SDK reads with blocking calls. So a thread reads, and passes
each message to the event loop.
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

_STREAMS = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}

# Head of a frame of the engine: 1 for stdout or 2 for stderr, three unused bytes, number of bytes.
_HEAD = struct.Struct(">BxxxL")

_STDERR = 2
_KEPT_CHARACTERS = 2000
_READ_BYTES = 65536
_MAX_LINE_BYTES = 65536


class Wire:
    """A connection to a container's first process.

    on_message: called on the loop with each message, and with {"gone": True} at the end of the
    connection. stderr: the end of what the process wrote there.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, on_message: Callable[[dict[str, Any]], None]
    ) -> None:
        self._loop, self._on_message = loop, on_message
        self._stream: Any = None
        self._line, self._sending = b"", threading.Lock()
        self.stderr = ""

    def attach(self, container_id: str) -> None:
        """Join the container's input and output; start to listen. Blocks; raises engine errors."""
        self._stream = connect().api.attach_socket(container_id, params=_STREAMS)
        self._socket.settimeout(None)  # the SDK's time limit is meant for answers, not for a stream
        threading.Thread(
            target=self._listen, name=f"dagnb-wire-{container_id[:12]}", daemon=True
        ).start()

    def send(self, request: dict[str, Any]) -> None:
        """Write one line. Blocks; does nothing when the container is gone."""
        with self._sending, contextlib.suppress(OSError):
            self._socket.sendall(json.dumps(request).encode() + b"\n")

    @property
    def _socket(self) -> Any:
        # On a local engine the SDK gives a wrapper that can only be read; its socket can do both.
        return getattr(self._stream, "_sock", self._stream)

    def _listen(self) -> None:
        try:
            for kind, data in self._frames():
                self._take(kind, data)
        finally:
            self._deliver({"gone": True})

    def _take(self, kind: int, data: bytes) -> None:
        """Split output into lines and deliver those that are messages.

        Other lines are dropped, and lines have a limit, because a task may write to this output.
        """
        if kind == _STDERR:
            self.stderr = (self.stderr + data.decode(errors="replace"))[-_KEPT_CHARACTERS:]
            return
        *lines, self._line = (self._line + data).split(b"\n")
        if len(self._line) > _MAX_LINE_BYTES:
            self._line = b""
        for line in lines:
            with contextlib.suppress(ValueError, RecursionError):
                message = json.loads(line[:_MAX_LINE_BYTES])
                # Only the end of the connection may say that the container is gone.
                if isinstance(message, dict) and "gone" not in message:
                    self._deliver(message)

    def _frames(self) -> Iterator[tuple[int, bytes]]:
        """Yields (1 for stdout or 2 for stderr, data) as the engine interleaves them."""
        buffer = b""
        while data := self._receive():
            buffer += data
            # One read may hold several frames, or a part of one.
            while len(buffer) >= _HEAD.size:
                kind, n_bytes = _HEAD.unpack_from(buffer)
                end = _HEAD.size + n_bytes
                if len(buffer) < end:
                    break
                yield kind, buffer[_HEAD.size : end]
                buffer = buffer[end:]

    def _receive(self) -> bytes:
        try:
            data: bytes = self._socket.recv(_READ_BYTES)
        except (OSError, ValueError):
            return b""
        return data

    def _deliver(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._on_message, message)
