"""A proxy on loopback whose connections can fall silent: nobody is told, and what is sent is never
answered.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit


class SilentProxy:
    """TCP in front of the unix socket of a server. New connections are forwarded, also after others
    fell silent.
    """

    def __init__(self, url: str) -> None:
        """Listen in front of the server at this unix:// URL."""
        parts = urlsplit(url)
        self._target = unquote(parts.path)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://:{parts.password}@127.0.0.1:{self._listener.getsockname()[1]}"
        self._silent: set[socket.socket] = set()
        self._connections: list[tuple[socket.socket, socket.socket]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def fall_silent(self) -> int:
        """Forward nothing any more on the connections that are open. Returns how many there are."""
        fresh = [
            client
            for client, _ in self._connections
            if client not in self._silent and client.fileno() >= 0
        ]
        self._silent.update(fresh)
        return len(fresh)

    def close(self) -> None:
        """Hang up everywhere."""
        self._listener.close()
        for pair in self._connections:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener is closed
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._target)
                self._connections.append((client, server))
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(
                        target=self._forward, args=(client, source, sink), daemon=True
                    ).start()

    def _forward(self, client: socket.socket, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if client not in self._silent:
                    sink.sendall(data)
        if (
            client not in self._silent
        ):  # who is silent does not even tell that the other side hung up
            for end in (source, sink):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()


@contextlib.contextmanager
def silent_proxy(url: str) -> Iterator[SilentProxy]:
    """A proxy that closes with the block."""
    proxy = SilentProxy(url)
    try:
        yield proxy
    finally:
        proxy.close()
