"""The asking side of a nursery, for an event loop."""

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
    """A child ended. status: as waitpid gives it."""

    name: str
    pid: int
    status: int

    @property
    def code(self) -> int:
        """The exit code, or minus the signal."""
        return os.waitstatus_to_exitcode(self.status)


class ForkServerClient:
    """exits: the children that ended, in order; then None, once, when the nursery itself is gone, as is_gone tells."""

    def __init__(self, control: socket.socket) -> None:
        control.setblocking(False)
        self._control = control
        self._writing = asyncio.Lock()
        self._births: dict[str, asyncio.Future[int]] = {}
        self._questions: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._n_asked = 0
        self.is_gone = False
        self.exits: asyncio.Queue[Exit | None] = asyncio.Queue()

    async def listen(self) -> None:
        """Read news until the nursery is gone; run it as a task."""
        text = b""
        while data := await self._read():
            *lines, text = (text + data).split(b"\n")
            for line in lines:
                self._note(json.loads(line))
        self.is_gone = True
        waiting: list[asyncio.Future[Any]] = [*self._births.values(), *self._questions.values()]
        for future in waiting:
            if not future.done():
                future.set_exception(_gone())
        self._births.clear()
        self._questions.clear()
        self.exits.put_nowait(None)

    async def spawn(
        self, kind: str, name: str, args: dict[str, Any], fds: Sequence[int] = ()
    ) -> int:
        """Fork a child; returns its pid. Raises LaunchError."""
        if self.is_gone:
            raise _gone()
        birth: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._births[name] = birth
        await self._send({"spawn": kind, "name": name, "args": args, "fds": len(fds)}, fds)
        return await birth

    async def ask(self, about: dict[str, Any]) -> dict[str, Any]:
        """What a host answers to a question. Raises LaunchError when it is gone before it did."""
        if self.is_gone:
            raise _gone()
        self._n_asked += 1
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._questions[self._n_asked] = answer
        await self._send({"ask": self._n_asked, **about})
        return await answer

    async def signal(self, name: str, number: signal.Signals) -> None:
        """Signal a child and what it started; nothing happens when it has ended."""
        await self._send({"signal": int(number), "name": name})

    async def leave(self) -> None:
        """Tell the nursery that it is not needed any more."""
        await self._send({"leave": True})

    def close(self) -> None:
        """Hang up, which ends a nursery of workers."""
        self._control.close()

    async def _read(self) -> bytes:
        try:
            return await asyncio.get_running_loop().sock_recv(self._control, _READ_BYTES)
        except OSError:
            return b""

    async def _send(self, request: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Write one line. Whoever is not there to read it is missed by `listen`."""
        line = json.dumps(request).encode() + b"\n"
        async with self._writing:
            with contextlib.suppress(ConnectionError):
                n_sent = await self._send_fds(line, fds) if fds else 0
                await asyncio.get_running_loop().sock_sendall(self._control, line[n_sent:])

    async def _send_fds(self, line: bytes, fds: Sequence[int]) -> int:
        while True:
            try:
                return socket.send_fds(self._control, [line], list(fds))
            except BlockingIOError:
                await asyncio.sleep(0.001)

    def _note(self, news: dict[str, Any]) -> None:
        if "exited" in news:
            self.exits.put_nowait(Exit(news["exited"], news["pid"], news["status"]))
        elif "answered" in news:
            if not (question := self._questions.pop(news["answered"])).done():
                question.set_result(news)
        elif (
            birth := self._births.pop(news.get("started") or news["failed"], None)
        ) is None or birth.done():
            return
        elif "started" in news:
            birth.set_result(news["pid"])
        else:
            birth.set_exception(
                LaunchError(
                    f"a process could not be forked: {news['reason']}. Free memory or processes."
                )
            )


def _gone() -> LaunchError:
    return LaunchError("the fork server is gone. Start the run again; `dagnb doctor` tells more.")
