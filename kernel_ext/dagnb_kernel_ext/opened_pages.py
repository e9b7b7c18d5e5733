"""Detects pages that are opened while a cell keeps the kernel busy, by their connections.

A page that opens asks the kernel for its widgets, and a busy kernel answers only when the cell is
over. But Jupyter's server also connects, for each page, to the port where the kernel publishes its
messages, and a thread can see these connections. (The kernel's message to new subscribers,
`iopub_welcome`, does not help: only the first subscriber gets it.)
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

_PERIOD_S = 1.0
"""seconds between two looks: listing connections takes some milliseconds"""

_log = logging.getLogger(__name__)

Peer = tuple[str, int]
"""Address and port of the other end of a connection"""


class PageWatcher:
    """Calls a function, in a thread of its own, soon after a page has connected to this kernel."""

    def __init__(self, port: int, on_opened: Callable[[], None]) -> None:
        """Start the thread. port: the port of this process where the kernel publishes."""
        self._port = port
        self._on_opened = on_opened
        self._is_stopped = threading.Event()
        threading.Thread(target=self._watch, name="dagnb-pages", daemon=True).start()

    def stop(self) -> None:
        """Stop the thread, which ends within a second."""
        self._is_stopped.set()

    def _watch(self) -> None:
        try:
            known = connected_to(self._port)
            while not self._is_stopped.wait(_PERIOD_S):
                now = connected_to(self._port)
                if now - known:
                    self._on_opened()
                known = now
        except OSError as error:
            _log.warning(
                "Pages opened while a cell runs will show its run when the cell is over: %s", error
            )


def connected_to(port: int) -> set[Peer]:
    """The peers connected to a port of this process. Raises OSError where these are not listed."""
    # psutil comes with ipykernel, which a terminal may lack.
    import psutil  # type: ignore[import-untyped]  # noqa: PLC0415

    process = psutil.Process()
    # psutil 6 renamed `connections`, and warns when the old name is used.
    look = getattr(process, "net_connections", None) or process.connections
    try:
        connections = look(kind="tcp")
    except psutil.Error as error:
        raise OSError(f"connections to port {port} cannot be listed: {error}") from error
    peers = set()
    for connection in connections:
        if connection.laddr.port == port and connection.raddr:  # a listening socket has no peer
            peers.add((connection.raddr.ip, connection.raddr.port))
    return peers


def publishing_port() -> int | None:
    """The port where the kernel of this process publishes.

    None when the kernel uses no TCP, or is not ipykernel.
    """
    try:
        from ipykernel.connect import get_connection_info  # noqa: PLC0415  # a terminal may lack it

        info = get_connection_info(unpack=True)
    except (ImportError, RuntimeError, OSError):
        return None
    if not isinstance(info, dict) or info.get("transport") != "tcp":
        return None
    return int(info["iopub_port"])
