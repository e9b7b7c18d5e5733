"""The asyncio client of a fork server: requests children, and learns of their ends.

The messages are those of fork_server.py. Hosts of containers answer the same requests, and "ask" as
well: see launchers/docker/host.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dagnb.errors import LaunchError

_READ_BYTES = 65536


@dataclass(frozen=True, slots=True)
class Exit:
    """The end of a child. status: as waitpid gives it."""

    name: str
    pid: int
    status: int

    @property
    def code(self) -> int:
        """The exit code, or minus the signal."""
        return os.waitstatus_to_exitcode(self.status)


class ForkServerClient:
    """A connection to a fork server.

    exits: the children that ended, in order; then None, once, when the fork server is gone.
    is_gone: whether the fork server is gone.
    """

    def __init__(self, control: socket.socket) -> None:
        control.setblocking(False)
        self._control = control
        self._writing = asyncio.Lock()
        self._starting: dict[str, asyncio.Future[int]] = {}
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._n_asked = 0
        self.is_gone = False
        self.exits: asyncio.Queue[Exit | None] = asyncio.Queue()

    async def listen(self) -> None:
        """Read messages until the fork server is gone; run this as a task."""
        text = b""
        while data := await self._read():
            *lines, text = (text + data).split(b"\n")
            for line in lines:
                self._handle_message(json.loads(line))

        # is_gone first: a caller that is woken below must not send another request.
        self.is_gone = True
        waiting: list[asyncio.Future[Any]] = [*self._starting.values(), *self._answers.values()]
        for future in waiting:
            if not future.done():
                future.set_exception(_gone())
        self._starting.clear()
        self._answers.clear()
        self.exits.put_nowait(None)

    async def spawn(
        self, kind: str, name: str, args: dict[str, Any], fds: Sequence[int] = ()
    ) -> int:
        """Fork a child and return its pid. Raises LaunchError."""
        if self.is_gone:
            raise _gone()
        started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._starting[name] = started
        await self._send({"spawn": kind, "name": name, "args": args, "fds": len(fds)}, fds)
        return await started

    async def ask(self, about: dict[str, Any]) -> dict[str, Any]:
        """Returns a host's answer to a question. Raises LaunchError when it ends before that."""
        if self.is_gone:
            raise _gone()
        self._n_asked += 1
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[self._n_asked] = answer
        await self._send({"ask": self._n_asked, **about})
        return await answer

    async def signal(self, name: str, number: signal.Signals) -> None:
        """Signal a child and all that it started; does nothing when it has ended."""
        await self._send({"signal": int(number), "name": name})

    async def leave(self) -> None:
        """Ask the fork server to end."""
        await self._send({"leave": True})

    def close(self) -> None:
        """Close the connection, which ends a fork server of workers."""
        self._control.close()

    async def _read(self) -> bytes:
        try:
            return await asyncio.get_running_loop().sock_recv(self._control, _READ_BYTES)
        except OSError:
            return b""

    async def _send(self, request: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Write one line. A fork server that is gone is noticed by `listen`, not here."""
        line = json.dumps(request).encode() + b"\n"
        # One writer at a time: descriptors are matched to lines by their order.
        async with self._writing:
            with contextlib.suppress(ConnectionError):
                n_sent = await self._send_fds(line, fds) if fds else 0
                await asyncio.get_running_loop().sock_sendall(self._control, line[n_sent:])

    async def _send_fds(self, line: bytes, fds: Sequence[int]) -> int:
        # asyncio has no call that sends descriptors. Polling is enough: a full socket is rare.
        while True:
            try:
                return socket.send_fds(self._control, [line], list(fds))
            except BlockingIOError:
                await asyncio.sleep(0.001)

    def _handle_message(self, message: dict[str, Any]) -> None:
        if "exited" in message:
            self.exits.put_nowait(Exit(message["exited"], message["pid"], message["status"]))
            return
        if "answered" in message:
            answer = self._answers.pop(message["answered"])
            if not answer.done():  # else its caller was cancelled
                answer.set_result(message)
            return

        name = message.get("started") or message["failed"]
        started = self._starting.pop(name, None)
        if started is None or started.done():
            return
        if "started" in message:
            started.set_result(message["pid"])
        else:
            reason = message["reason"]
            started.set_exception(
                LaunchError(f"a process could not be forked: {reason}. Free memory or processes.")
            )


def _gone() -> LaunchError:
    return LaunchError("the fork server is gone. Start the run again; `dagnb doctor` tells more.")
