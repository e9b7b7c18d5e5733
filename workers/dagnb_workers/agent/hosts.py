"""The processes an agent keeps to have workers: for each platform, interpreter and state of dagnb's code one.

A host speaks the words of a nursery. For process workers it is one, and forks supervisors; for a platform of containers
it is the process that owns them, and a run takes the place of a child. Which module a host is, entry points say.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dagnb import registry
from dagnb.errors import LaunchError
from dagnb_workers.agent.fail_run import fail_run
from dagnb_workers.hosting.fork_server_client import ForkServerClient
from dagnb_workers.hosting.interpreter import PythonStart
from dagnb_workers.hosting.run_locks import RunRecord

GONE_S = 5.0
PAUSE_S = 0.01
MOST_RESTARTS = 5

MOST_SPARE = 4
"""Fork servers without a run that are kept, for clients that start their interpreters differently"""

SPARE_S = 60.0
"""Seconds for which one that nobody uses is kept, less where the agent leaves earlier. The one used last stays."""


@dataclass(frozen=True, slots=True)
class HostKey:
    """The host that is meant: its platform, interpreter, state of dagnb's code, and start."""

    host: str
    python: str
    code: str
    start: PythonStart = field(default_factory=PythonStart)

    @classmethod
    def of(cls, request: dict[str, Any]) -> HostKey:
        """The host a request or a launch is for."""
        return cls(request["host"], request["python"], request["code"], PythonStart.of(request))

    def to_dict(self) -> dict[str, Any]:
        """What a request or a launch says of its host, for JSON."""
        return {"host": self.host, "python": self.python, "code": self.code, **self.start.to_dict()}

    @property
    def mark(self) -> str:
        """Tells the hosts of one platform apart, so that each knows what is its own."""
        return hashlib.sha256(f"{self.python}\n{self.code}\n{self.start}".encode()).hexdigest()[:8]


@dataclass(slots=True)
class _Child:
    """Who looks after a run. pid 0: it is just being started."""

    key: HostKey
    pid: int = 0


class Hosts:
    """What it knows can be lost: who looks after a run holds a lock, and how to start it stands in the ledger."""

    def __init__(self, directory: Path, idle_s: float, group: asyncio.TaskGroup) -> None:
        self._directory, self._idle_s, self._group = directory, idle_s, group
        self._links: dict[HostKey, ForkServerClient] = {}
        self._children: dict[str, _Child] = {}
        self._restarts: dict[str, int] = {}
        self._used: dict[HostKey, float] = {}

    def link(self, key: HostKey) -> ForkServerClient:
        """The host of a platform for an interpreter and a state of dagnb's code: others need other ones."""
        if (link := self._links.get(key)) is None or link.is_gone:
            module = registry.module("host", key.host)
            here, there = socket.socketpair()
            facts = (str(there.fileno()), str(self._directory), str(self._idle_s), key.mark)
            command, environment = (
                key.start.command(key.python, module, facts),
                key.start.environment(os.environ),
            )
            try:
                subprocess.Popen(
                    command,
                    pass_fds=[there.fileno()],
                    start_new_session=True,
                    env=environment,
                    cwd=os.sep,
                )
            except OSError as error:
                here.close()
                raise LaunchError(
                    f"{key.python} cannot be started: {error}. Restart the kernel."
                ) from error
            finally:
                there.close()
            link = self._links[key] = ForkServerClient(here)
            self._group.create_task(link.listen())
            self._group.create_task(self._hear(key, link))
        self._used[key] = time.monotonic()
        return link

    @property
    def n_running(self) -> int:
        """Number of hosts."""
        return len(self._links)

    async def end_spare(self) -> None:
        """End fork servers that nobody has used for long, and of more than a few those that were used longest ago."""
        at_work = {child.key for child in self._children.values()}
        spare = [key for key in self._links if key.host == "process" and key not in at_work]
        spare.sort(key=lambda key: self._used[key], reverse=True)
        now = time.monotonic()
        for place, key in enumerate(spare[1:], 1):  # the latest is kept for the next run
            if place >= MOST_SPARE or now - self._used[key] > min(SPARE_S, self._idle_s):
                del self._used[key]
                await self._links.pop(key).leave()

    async def _hear(self, key: HostKey, link: ForkServerClient) -> None:
        """Look after a run as soon as its supervisor ends."""
        while (ended := await link.exits.get()) is not None:
            self._children.pop(ended.name, None)
            await self.look_after(RunRecord(self._directory, ended.name))
        if self._links.get(key) is link:
            del self._links[key], self._used[key]
        for run in [run for run, child in self._children.items() if child.key == key]:
            del self._children[run]  # whoever lives holds a lock
        link.close()

    def has(self, entry: RunRecord) -> bool:
        """Whether somebody looks after the run."""
        return entry.run in self._children or entry.is_alive()

    async def launch(self, entry: RunRecord, launch: dict[str, Any]) -> None:
        """Have somebody look after a run; a host that dies meanwhile is started once more. Raises LaunchError."""
        self._restarts.pop(entry.run, None)
        try:
            if not await self._spawned(entry, launch):
                await self._spawn(entry, launch)
        except LaunchError:
            entry.strike()
            raise

    async def ask(self, key: HostKey, about: dict[str, Any], *, start: bool) -> dict[str, Any]:
        """What a host answers; {} when it is not there and shall not be started."""
        return await self.link(key).ask(about) if start or key in self._links else {}

    async def leave(self) -> None:
        """None is needed any more."""
        for link in tuple(self._links.values()):
            await link.leave()

    async def _spawn(self, entry: RunRecord, launch: dict[str, Any]) -> None:
        child = self._children[entry.run] = _Child(
            HostKey.of(launch)
        )  # so that nobody starts a second one meanwhile
        try:
            child.pid = await self.link(child.key).spawn("supervisor", entry.run, launch)
        except LaunchError:
            self._children.pop(entry.run, None)
            raise

    async def _spawned(self, entry: RunRecord, launch: dict[str, Any]) -> bool:
        try:
            await self._spawn(entry, launch)
        except LaunchError:
            return False
        return True

    async def look_after(self, entry: RunRecord) -> None:
        """Start a supervisor for a run that lost its own before its end; one that sees the end strikes the entry."""
        launch = entry.read()
        if launch is None or entry.run in self._children or entry.is_alive():
            return
        n_restarts = self._restarts[entry.run] = self._restarts.get(entry.run, 0) + 1
        if n_restarts > MOST_RESTARTS:
            await fail_run(launch, f"its supervisor died {n_restarts} times in a row")
            entry.strike()
            return
        await self._spawned(entry, launch)  # if not, the next look finds the run alone again

    async def stop(self, entry: RunRecord) -> bool:
        """End who looks after a run, and its workers. Whoever is the last of them lets go of the lock.

        A supervisor is killed, and its nursery then kills the workers; hosts that fork nobody are told.
        """
        was_alive, child = (
            entry.is_alive() or entry.run in self._children,
            self._children.get(entry.run),
        )
        host = (entry.read() or {}).get("host", "process")
        entry.note.unlink(missing_ok=True)
        if host != "process" and child is not None:
            await self.link(child.key).signal(entry.run, signal.SIGKILL)
        elif was_alive and (pid := child.pid if child is not None else entry.holder().pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + GONE_S
        while (entry.is_alive() or entry.run in self._children) and time.monotonic() < deadline:  # noqa: ASYNC110  # a lock tells nobody
            await asyncio.sleep(PAUSE_S)
        entry.strike()
        return was_alive
