"""The host processes of an agent, which start workers: one per platform, interpreter and code.

A host answers the messages of a fork server. The host of process workers is a fork server, and
forks a supervisor for each run. The host of a container platform owns the containers. In its
messages a run takes the place of a child: "spawn" begins to serve a run, "exited" says that the run
is over. The entry points `dagnb.hosts` name the module of each host.

No state in this file has to survive the agent. The lock of a run says whether the run has live
processes, and its launch file how to start a supervisor (hosting/run_locks.py). So a new agent only
has to call `restart_if_lost` for every record, as every agent does twice a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dagnb import registry
from dagnb.errors import DagnbError, LaunchError
from dagnb.protocol.invocation import Invocation
from dagnb_workers.agent.host_key import HostKey
from dagnb_workers.agent.import_servers import ImportServers
from dagnb_workers.hosting.fork_server import ForkServerClient
from dagnb_workers.hosting.run_locks import RunRecord

# Seconds that processes which were killed may take to end.
STOP_S = 5.0

PAUSE_S = 0.01

# Supervisors of one run that may die in a row before the run is cancelled.
MAX_RESTARTS = 5

# Unused fork servers that are kept at most. Clients that start Python differently need different
# ones.
MAX_UNUSED = 4

# Seconds for which an unused fork server is kept. The one that was used last is always kept.
UNUSED_S = 60.0

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _HostedRun:
    """A run that a host works for. pid: of its supervisor or its host; 0 until it has started.

    launch: its request until the run is over; then its imports are known.
    """

    key: HostKey
    launch: dict[str, Any] | None
    pid: int = 0


class Hosts:
    """The hosts of one runtime directory and the runs that they work for."""

    def __init__(self, directory: Path, idle_s: float, group: asyncio.TaskGroup) -> None:
        self._directory, self._idle_s, self._group = directory, idle_s, group
        self._clients: dict[HostKey, ForkServerClient] = {}
        self._used_at: dict[HostKey, float] = {}
        self._runs: dict[str, _HostedRun] = {}
        self._n_restarts: dict[str, int] = {}
        self._import_servers = ImportServers(directory, group, self.ensure_host)

    @property
    def n_hosts(self) -> int:
        """Number of host processes."""
        return len(self._clients)

    def ensure_host(self, key: HostKey) -> ForkServerClient:
        """Returns the connection to a host, which is started if it does not run."""
        client = self._clients.get(key)
        if client is None or client.is_gone:
            client = self._clients[key] = self._start_host(key)
            self._group.create_task(client.listen())
            self._group.create_task(self._watch_exits(key, client))
        self._used_at[key] = time.monotonic()
        return client

    def _start_host(self, key: HostKey) -> ForkServerClient:
        module = registry.module("host", key.host)
        ours, theirs = socket.socketpair()
        arguments = (str(theirs.fileno()), str(self._directory), str(self._idle_s), key.mark)
        try:
            process = subprocess.Popen(
                key.start.command(key.python, module, arguments),
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                env=key.start.environment(os.environ),
                cwd=os.sep,
            )
        except OSError as error:
            ours.close()
            raise LaunchError(
                f"{key.python} cannot be started: {error}. Restart the kernel."
            ) from error
        finally:
            theirs.close()  # only the host may hold it, so that its end closes the connection
        return ForkServerClient(ours, process.pid)

    async def ask(self, key: HostKey, about: dict[str, Any], *, start: bool) -> dict[str, Any]:
        """Returns a host's answer; {} when it does not run and shall not be started."""
        if not start and key not in self._clients:
            return {}
        return await self.ensure_host(key).ask(about)

    async def end_unused(self) -> None:
        """End fork servers that were unused for long, and all but the latest MAX_UNUSED."""
        busy = {run.key for run in self._runs.values()}
        plain = filter(lambda key: key.forks_supervisors and not key.early, self._clients)
        unused = [key for key in plain if key not in busy]
        unused.sort(key=lambda key: self._used_at[key], reverse=True)

        # The one that was used last stays: the next run most likely needs it.
        keep_s, now = min(UNUSED_S, self._idle_s), time.monotonic()
        for n_newer, key in enumerate(unused[1:], 1):
            if n_newer >= MAX_UNUSED or now - self._used_at[key] > keep_s:
                del self._used_at[key]
                await self._clients.pop(key).leave()
        await self._import_servers.end_unused()

    def import_early(self) -> None:
        """Start importing what the runs imported that are over now."""
        for run, hosted in self._runs.items():
            record = RunRecord(self._directory, run)
            if hosted.launch is not None and not record.launch_file.exists():
                self._learn(hosted)

    def _learn(self, hosted: _HostedRun) -> None:
        launch, hosted.launch = hosted.launch, None
        if launch is None or launch.get("preload") is not None:
            return
        if hosted.key.forks_supervisors:
            self._import_servers.prepare(HostKey.of(launch), launch)

    @property
    def import_servers(self) -> list[dict[str, Any]]:
        """The facts of each fork server with early imports."""
        return self._import_servers.status()

    def left_out(self, launch: dict[str, Any]) -> dict[str, str]:
        """Returns module -> why it is not imported early, of those that the client named."""
        return self._import_servers.left_out(HostKey.of(launch), launch)

    async def leave(self) -> None:
        """Ask all hosts to end."""
        self._import_servers.leave()
        for client in tuple(self._clients.values()):
            await client.leave()

    async def _watch_exits(self, key: HostKey, client: ForkServerClient) -> None:
        """Restart runs whose supervisors ended early, until the host itself is gone."""
        while (ended := await client.exits.get()) is not None:
            if (hosted := self._runs.pop(ended.name, None)) is not None:
                self._learn(hosted)
            await self.restart_if_lost(RunRecord(self._directory, ended.name))

        # Another host may have been started for this key meanwhile.
        if self._clients.get(key) is client:
            del self._clients[key], self._used_at[key]
        # Supervisors outlive a fork server and hold their locks. `restart_if_lost` later restarts
        # the runs whose locks are free.
        for run, hosted in tuple(self._runs.items()):
            if hosted.key == key:
                del self._runs[run]
        client.close()

    # ---- runs ------------------------------------------------------------------------------------

    def is_hosted(self, record: RunRecord) -> bool:
        """Returns whether any process works for the run, or is being started for it."""
        return record.run in self._runs or record.is_alive()

    async def launch(self, record: RunRecord, launch: dict[str, Any]) -> None:
        """Make a host work for a run. Raises LaunchError.

        A host that dies meanwhile is started again, once. A run that cannot be launched leaves no
        record.
        """
        self._n_restarts.pop(record.run, None)
        try:
            if not await self._try_start(record, launch, waits=True):
                await self._start(record, launch, waits=True)
        except LaunchError:
            record.remove()
            raise

    async def restart_if_lost(self, record: RunRecord) -> None:
        """Start a supervisor for a run that lost its own before its end.

        A supervisor that sees the end of its run removes the record before it exits.
        """
        launch = record.read()
        if launch is None or self.is_hosted(record):
            return

        n_restarts = self._n_restarts.get(record.run, 0) + 1
        self._n_restarts[record.run] = n_restarts
        if n_restarts > MAX_RESTARTS:
            await fail_run(launch, f"its supervisor died {n_restarts} times in a row")
            record.remove()
            return
        # It does not wait for early imports: the agent has other work meanwhile.
        # If it fails, the next call tries again.
        await self._try_start(record, launch, waits=False)

    async def stop(self, record: RunRecord) -> bool:
        """End all processes of a run and return whether there were any.

        A supervisor is killed, and the fork server of its workers then kills those. A host of
        containers is asked to end them. Returns when the last process has released the lock.
        """
        was_hosted, run = self.is_hosted(record), self._runs.get(record.run)
        launch = record.read() or {}
        record.launch_file.unlink(missing_ok=True)  # first, or the run would be restarted

        if run is not None and launch.get("host", "process") != "process":
            await self.ensure_host(run.key).signal(record.run, signal.SIGKILL)
        elif was_hosted and (pid := run.pid if run is not None else record.holder().pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

        deadline = time.monotonic() + STOP_S
        # A lock that is released sends no event: poll.
        while self.is_hosted(record) and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(PAUSE_S)
        record.remove()
        return was_hosted

    async def _start(self, record: RunRecord, launch: dict[str, Any], *, waits: bool) -> None:
        run = _HostedRun(HostKey.of(launch), launch)
        self._runs[record.run] = run  # before the first await, so that it is not started twice
        try:
            if run.key.forks_supervisors:
                run.key = await self._import_servers.choose(run.key, launch, waits=waits)
            client = self._clients.get(run.key)
            if client is None or client.is_gone:
                run.key = HostKey.of(launch)  # the chosen server has died since
            run.pid = await self.ensure_host(run.key).spawn("supervisor", record.run, launch)
        except LaunchError:
            self._runs.pop(record.run, None)
            raise

    async def _try_start(self, record: RunRecord, launch: dict[str, Any], *, waits: bool) -> bool:
        try:
            await self._start(record, launch, waits=waits)
        except LaunchError:
            return False
        return True


async def fail_run(launch: dict[str, Any], reason: str) -> None:
    """Mark a launched run as cancelled in the store, so that its waiters return with the reason."""
    invocation = Invocation.from_json(launch["invocation"])
    _log.warning("run %s is given up: %s", invocation.run, reason)
    # Imported here: it is rarely needed, and slow to import for a process that starts often.
    opening = importlib.import_module("dagnb.storage.open")
    with contextlib.suppress(DagnbError):
        store = await opening.open_store_of(invocation)
        await store.cancel(invocation.run, reason)
        await store.close()
