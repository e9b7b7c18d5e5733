"""Fork servers that have imported what a run will most likely import.

A worker that is forked from one of them imports such modules in milliseconds, and finds its process
as if they had not been imported (surroundings/early_import.py). The modules are those that the
client names, or else those that earlier runs of its Python and folder imported
(hosting/past_imports.py).

    state     entered when                                left when
    loading   a run is over whose imports are new, or     all is imported, or a module is unfit:
              a run starts without a server               then another server starts without it
    ready     all is imported                             it is unused for `idle_s`, stale, or one
                                                          too many by number or memory
    gone      it was ended, or it died                    a run needs it

Packages read variables, folder and warning filters when they are imported, so there is a server for
each combination of these (`mark_of`). A run that comes while its server is loading waits if it will
be ready before the imports of the latest run could be repeated, and no longer. A run never depends
on such a server: without one that fits, its supervisor is forked from the fork server that has
imported dagnb alone. Supervisors outlive the server that forked them, so any server may be ended at
any moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dagnb.errors import LaunchError
from dagnb_workers.agent.host_key import HostKey
from dagnb_workers.hosting.fork_server import ForkServerClient
from dagnb_workers.hosting.past_imports import PastImports
from dagnb_workers.surroundings.early_import import IS_POSSIBLE

MAX_SERVERS = 3
"""Servers that are kept at most."""

MEMORY_SHARE = 0.25
"""Share of the machine's memory that all servers may have together."""

IDLE_S = 600.0
"""Seconds for which an unused server is kept, unless the client says otherwise."""

LOAD_S = 60.0
"""Seconds that one import may take."""

NAMED_WAIT_S = 10.0
"""Seconds that a run waits for a server with modules that its client named."""

ANSWER_S = 1.0
"""Seconds that a loaded server may take to answer whether it fits a run."""

MAX_DEATHS = 2
"""Deaths of servers during the import of one module, after which the module is left out."""

# Variables that differ from one terminal or kernel to the next, and that no package reads at its
# import. They would make servers that differ in nothing else.
_VOLATILE = frozenset(
    {
        "_",
        "COLUMNS",
        "JPY_PARENT_PID",
        "JPY_SESSION_NAME",
        "LINES",
        "OLDPWD",
        "PWD",
        "PYTEST_CURRENT_TEST",
        "SHLVL",
        "SSH_CLIENT",
        "SSH_CONNECTION",
        "SSH_TTY",
        "TERM_SESSION_ID",
        "TMUX_PANE",
        "WINDOWID",
    }
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """Facts that decide whether a server is kept. Times are seconds of one clock."""

    name: str
    used_at: float
    idle_s: float
    memory_bytes: int


def surplus(servers: Sequence[ServerFacts], now: float, limit_bytes: float) -> list[str]:
    """Returns the names of servers to end: idle ones, and the oldest beyond number or memory."""
    ended = []
    n_kept, n_bytes = 0, 0
    for server in sorted(servers, key=lambda server: server.used_at, reverse=True):
        n_bytes += server.memory_bytes
        is_idle = now - server.used_at > server.idle_s
        if is_idle or n_kept >= MAX_SERVERS or (n_kept and n_bytes > limit_bytes):
            n_bytes -= server.memory_bytes
            ended.append(server.name)
        else:
            n_kept += 1
    return ended


def settings_of(launch: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what packages may read at their import: the request "enter" of early_import.py."""
    invocation = json.loads(launch["invocation"])
    surroundings = invocation.get("surroundings", {})
    environment = dict(surroundings.get("environment", {}))
    for name in _VOLATILE:
        environment.pop(name, None)
    entered = {
        "environment": environment,
        "is_whole": surroundings.get("is_whole", False),
        "folder": surroundings.get("folder", ""),
        "warnings": surroundings.get("warnings"),
    }
    return {"enter": entered, "cpus": invocation.get("cpus", 1.0)}


def mark_of(key: HostKey, settings: Mapping[str, Any], named: Sequence[str] | None) -> str:
    """Returns a hash that is equal for runs that may share a server."""
    text = json.dumps([settings, named], sort_keys=True)
    return hashlib.sha256(f"{key}\n{text}".encode(errors="surrogatepass")).hexdigest()[:16]


@dataclass(slots=True)
class _Server:
    """A server. host: the key without early imports. key: '' as `early` until it starts.

    names: modules to import, in this order. total_s: what their imports take, 0 if it is not known.
    client: None before its start. left_out: module -> why it is not imported.
    """

    host: HostKey
    mark: str
    settings: dict[str, Any]
    names: tuple[str, ...]
    idle_s: float
    total_s: float
    started_at: float
    used_at: float
    key: HostKey
    client: ForkServerClient | None = None
    memory_bytes: int = 0
    is_ended: bool = False
    left_out: dict[str, str] = field(default_factory=dict)
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_gone(self) -> bool:
        """True when it was ended or has died."""
        is_dead = self.ready.is_set() and self.client is not None and self.client.is_gone
        return self.is_ended or is_dead

    def remaining_s(self) -> float:
        """Returns the expected seconds until it is ready."""
        return max(0.0, self.started_at + self.total_s - time.monotonic())


class ImportServers:
    """The fork servers of one agent that import early."""

    def __init__(
        self,
        directory: Path,
        group: asyncio.TaskGroup,
        connect: Callable[[HostKey], ForkServerClient],
    ) -> None:
        """Start nothing yet. connect: starts a fork server, returns the connection to it."""
        self._directory, self._group, self._connect = directory, group, connect
        self._servers: dict[str, _Server] = {}
        self._left_out: dict[str, dict[str, str]] = {}  # mark -> module -> reason
        self._n_deaths: dict[tuple[str, str], int] = {}  # by mark and module
        self._n_started = 0
        self._is_leaving = False

    async def choose(self, key: HostKey, launch: Mapping[str, Any], *, waits: bool) -> HostKey:
        """Returns the key of the fork server for a run: one with early imports, or `key`.

        waits: whether it may wait for a server that is loading.
        """
        # Twice at most: a server that is stale again was changed within seconds.
        for _ in range(2):
            server = self.prepare(key, launch)
            if server is None or not await self._is_ready(server, launch, waits=waits):
                return key
            answer = await self._answer(server, launch)
            if not answer["stale"]:
                server.used_at = time.monotonic()
                return key if answer["misfit"] else server.key
            await self._end(server)
        return key

    async def _is_ready(self, server: _Server, launch: Mapping[str, Any], *, waits: bool) -> bool:
        """Returns whether a server is loaded, after waiting for it if that pays."""
        if not server.ready.is_set():
            wait_s = NAMED_WAIT_S
            if launch.get("preload") is None:
                wait_s = PastImports.of(self._directory, launch).read().latest_s
            if not waits or server.remaining_s() > wait_s:
                return False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await server.ready.wait()
        return server.ready.is_set() and server.client is not None

    async def _answer(self, server: _Server, launch: Mapping[str, Any]) -> dict[str, Any]:
        """Returns whether a server fits a run; one that does not answer is a misfit."""
        surroundings = json.loads(launch["invocation"])["surroundings"]
        question = {name: surroundings.get(name) or () for name in ("path", "places")}
        question["folder"] = surroundings.get("folder", "")
        assert server.client is not None
        try:
            async with asyncio.timeout(ANSWER_S):
                return await server.client.ask(question)
        except (TimeoutError, LaunchError) as error:
            return {"misfit": str(error) or "no answer", "stale": False}

    def prepare(self, key: HostKey, launch: Mapping[str, Any]) -> _Server | None:
        """Returns the server for runs like this one, which may still be loading; None without one.

        Starts it if its client names modules, or if earlier runs have imported some.
        """
        named, total_s = launch.get("preload"), 0.0
        wanted = tuple(named or ())
        if named is None:
            past = PastImports.of(self._directory, launch).read()
            wanted, total_s = past.modules, sum(past.seconds.values())
        if not wanted or not IS_POSSIBLE or self._is_leaving:
            return None

        settings = settings_of(launch)
        mark = mark_of(key, settings, named)
        left_out = self._left_out.setdefault(mark, {})
        names = tuple(name for name in wanted if name not in left_out)
        if not names:
            return None
        server = self._servers.get(mark)
        if server is None or server.is_gone or not {*names} <= {*server.names}:
            if server is not None:
                self._group.create_task(self._end(server))
            server = _Server(
                host=key,
                mark=mark,
                settings=settings,
                names=names,
                idle_s=launch.get("idle_s", IDLE_S),
                total_s=total_s,
                started_at=time.monotonic(),
                used_at=time.monotonic(),
                left_out=left_out,
                key=key,
            )
            self._servers[mark] = server
            self._group.create_task(self._load(server))
        return server

    def left_out(self, key: HostKey, launch: Mapping[str, Any]) -> dict[str, str]:
        """Returns module -> why it is not imported early, of those that the client named."""
        named = launch.get("preload")
        if not named:
            return {}
        return self._left_out.get(mark_of(key, settings_of(launch), named), {})

    def status(self) -> list[dict[str, Any]]:
        """Returns the facts of each server, for the answer to "status"."""
        status = []
        for server in self._servers.values():
            facts = {
                "pid": server.client.pid if server.client is not None else 0,
                "modules": server.names,
                "left_out": server.left_out,
                "is_ready": server.ready.is_set() and not server.is_gone,
                "memory_bytes": server.memory_bytes,
            }
            status.append(facts)
        return status

    async def end_unused(self) -> None:
        """End idle servers, and those beyond the bounds of number and memory."""
        facts = []
        for mark, server in tuple(self._servers.items()):
            if server.is_gone:
                del self._servers[mark]
                continue
            facts.append(
                ServerFacts(
                    name=mark,
                    used_at=server.used_at,
                    idle_s=server.idle_s,
                    memory_bytes=server.memory_bytes,
                )
            )
        for mark in surplus(facts, time.monotonic(), _limit_bytes()):
            await self._end(self._servers.pop(mark))

    def leave(self) -> None:
        """Start no server any more, and end those that are loading at once."""
        self._is_leaving = True
        for server in self._servers.values():
            if not server.ready.is_set():
                _kill(server.client)

    async def _end(self, server: _Server) -> None:
        server.is_ended = True
        if server.client is None or server.client.is_gone:
            return
        if server.ready.is_set():
            await server.client.leave()
        else:
            _kill(server.client)  # in the middle of an import it reads no request

    # ---- loading ----

    async def _load(self, server: _Server) -> None:
        """Import its modules; start the server again without those that are unfit."""
        while not server.is_ended and not self._is_leaving:
            names = [name for name in server.names if name not in server.left_out]
            if not names or await self._try(server, names):
                break
        if server.is_ended and server.client is not None:
            _kill(server.client)
        server.ready.set()

    async def _try(self, server: _Server, names: Sequence[str]) -> bool:
        """Start the server and import these modules. Returns False if one of them was unfit."""
        self._n_started += 1
        server.key = replace(server.host, early=f"{server.mark}-{self._n_started}")
        loading = ""
        try:
            client = server.client = self._connect(server.key)
            await client.ask(server.settings)
            for loading in names:
                async with asyncio.timeout(LOAD_S):
                    answer = await client.ask({"load": loading})
                if reason := answer["unfit"]:
                    self._leave_out(server, loading, reason)
                    _kill(client)  # with a child that the import may have left
                    server.client = None
                    return False
                server.memory_bytes = answer["memory_bytes"]
                if server.memory_bytes > _limit_bytes():
                    _log.warning("memory is short: nothing is imported early after %s", loading)
                    break
        except (LaunchError, TimeoutError) as error:
            _kill(server.client)
            server.client = None
            self._on_death(server, loading, str(error) or f"it takes more than {LOAD_S:g} s")
            return False
        return True

    def _on_death(self, server: _Server, name: str, reason: str) -> None:
        """Leave out a module during whose import servers die; the first death may be a chance."""
        if server.is_ended or self._is_leaving:
            return
        place = server.mark, name
        self._n_deaths[place] = self._n_deaths.get(place, 0) + 1
        if self._n_deaths[place] >= MAX_DEATHS:
            for left_out in [name] if name else server.names:
                self._leave_out(server, left_out, reason)

    def _leave_out(self, server: _Server, name: str, reason: str) -> None:
        _log.warning("%s is not imported early: %s", name, reason)
        server.left_out[name] = reason


def _kill(client: ForkServerClient | None) -> None:
    """Kill a server and what its imports started. Supervisors are in groups of their own."""
    if client is not None and not client.is_gone and client.pid > 1:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(client.pid, signal.SIGKILL)


def _limit_bytes() -> float:
    """Returns the bytes that all servers may have together."""
    return MEMORY_SHARE * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
