"""One detached process per user: owns the embedded server and the fork server, schedules nothing, leaves when idle.

Killing it loses nothing: server and supervisors live on, and the next agent finds them in the runtime directory.
Requests and answers are one JSON object a line on `agent.sock`:

    {"op": "ping"}                    -> {"pid": ...}
    {"op": "store"}                   -> {"url": ...}   the server is started when there is none; so is the host that is
                                      named, as for "ready"
    {"op": "ready", "host": ..., "python": ..., "code": ..., more for the host}
                                      -> {"ready": true}   the host is started when it is not there
    {"op": "launch", "invocation": "...", "host": ..., "python": ..., "code": ..., more for the host}
                                      -> {"started": true; false: somebody looks after the run}
    {"op": "ask", "host": ..., "python": ..., "code": ..., "about": {...}}
                                      -> what the host answers; {} when it need not be started for that and is not
    {"op": "stop", "run": ...}        -> {"stopped": ...}   its supervisor and workers are killed
    {"op": "status"}                  -> {"pid": ..., "runs": {run: pid}, "server": pid or null, ...}
    {"op": "leave", "force": false}   -> {"left": true, or false: runs are going on}
Any of them may be answered by {"error": message, "type": class of dagnb.errors}.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dagnb.errors import DagnbError
from dagnb.storage.embedded import (
    ServerProcess,
    n_clients,
    running_server,
    start_server,
    stop_server,
)
from dagnb.storage.home import private_directory, runtime_directory
from dagnb_workers.agent.client import stop
from dagnb_workers.agent.fail_run import fail_run
from dagnb_workers.agent.hosts import GONE_S, PAUSE_S, HostKey, Hosts
from dagnb_workers.hosting.code_state import code_mark, interpreter
from dagnb_workers.hosting.interpreter import PythonStart, own_folders
from dagnb_workers.hosting.run_locks import RunRecord, lock_or_find, run_records
from dagnb_workers.surroundings.left_behind import reap_child

HELP = """
The agent is a background process, one for each user. It owns the embedded server, in which runs keep their state, and
starts the worker processes and containers of runs. It schedules nothing: workers decide among themselves what runs
next. Nobody has to start it: the first run does, and the agent ends ten minutes after its last use. If it is killed,
no run is lost: workers go on, and the next agent takes them over. `dagnb doctor` says whether one is running.
"""

LINE_BYTES = 64 * 1024 * 1024
IDLE_S = 600.0
_TICK_S = 0.5

_log = logging.getLogger(__name__)


class Agent:
    """What it knows can be lost: it is read again from the directory."""

    def __init__(self, directory: Path, idle_s: float) -> None:
        self._directory, self._idle_s = directory, idle_s
        self._server: ServerProcess | None = None
        self._starting = asyncio.Lock()
        self._n_clients = 0
        self._used = time.monotonic()
        self._leaving = asyncio.Event()

    async def serve(self, ready: int | None = None) -> None:
        """Answer until it is time to leave. ready: a descriptor that is let go of when the socket listens."""
        path = self._directory / "agent.sock"
        path.unlink(missing_ok=True)  # of an agent that was killed; the lock says that none lives
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._leaving.set)
        async with asyncio.TaskGroup() as group:
            self._hosts = Hosts(self._directory, self._idle_s, group)
            listener = await asyncio.start_unix_server(self._converse, path, limit=LINE_BYTES)
            if ready is not None:
                os.dup2(os.open(os.devnull, os.O_WRONLY), ready)
            if await asyncio.to_thread(
                running_server, self._directory
            ):  # it must not be left alone, see run_host
                self._hosts.link(_plain_host())
            caring = group.create_task(self._care())
            await self._leaving.wait()
            listener.close()
            path.unlink(missing_ok=True)
            caring.cancel()
            await self._leave()

    # ---- requests -----------------------------------------------------------------------------------------------

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._n_clients += 1
        try:
            while (line := await reader.readline()) and not self._leaving.is_set():
                writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):  # it hung up, or its line was too long
            pass
        finally:
            self._n_clients -= 1
            self._used = time.monotonic()
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            operation = getattr(self, f"_op_{request['op']}")
            answer: dict[str, Any] = await operation(request)
        except DagnbError as error:
            return {"error": str(error), "type": type(error).__name__}
        except OSError as error:  # a full disk, a file in the place of a folder
            cure = f"Correct that, or set DAGNB_HOME to another directory than {self._directory.parent}."
            return {
                "error": f"the agent cannot do {request['op']!r}: {error}. {cure}",
                "type": "LaunchError",
            }
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            return {"error": f"not a request this agent knows: {error}", "type": "ProtocolError"}
        return answer

    async def _op_ping(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"pid": os.getpid()}

    async def _op_ready(self, request: dict[str, Any]) -> dict[str, Any]:
        self._hosts.link(HostKey.of(request))
        return {"ready": True}

    async def _op_store(self, request: dict[str, Any]) -> dict[str, Any]:
        self._hosts.link(HostKey.of(request) if "host" in request else _plain_host())
        async with self._starting:
            found = await asyncio.to_thread(_find_or_start, self._directory)
            if (
                self._server is None or self._server.pid != found.pid
            ):  # who started it can end it without its socket
                self._server = found
        return {"url": self._server.url}

    async def _op_launch(self, request: dict[str, Any]) -> dict[str, Any]:
        invocation = request["invocation"]
        entry = RunRecord(self._directory, json.loads(invocation)["run"])
        if self._hosts.has(entry):
            return {"started": False}
        launch = {"host": "process", "python": sys.executable, "code": "", **request}
        entry.write(launch)
        await self._hosts.launch(entry, launch)
        return {"started": True}

    async def _op_ask(self, request: dict[str, Any]) -> dict[str, Any]:
        return await self._hosts.ask(HostKey.of(request), request["about"], start=request["start"])

    async def _op_stop(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"stopped": await self._hosts.stop(RunRecord(self._directory, request["run"]))}

    async def _op_status(self, request: dict[str, Any]) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "runs": {entry.run: entry.holder().pid for entry in run_records(self._directory)},
            "server": self._server and self._server.pid,
            "clients": self._n_clients,
            "hosts": self._hosts.n_running,
            "idle_s": time.monotonic() - self._used,
        }

    async def _op_leave(self, request: dict[str, Any]) -> dict[str, Any]:
        if run_records(self._directory) and not request.get("force"):
            return {"left": False}
        self._leaving.set()
        return {"left": True}

    # ---- the end ------------------------------------------------------------------------------------------------

    async def _care(self) -> None:
        """Reap, restart, and count the time nobody needs this agent."""
        while not self._leaving.is_set():
            await asyncio.sleep(min(_TICK_S, self._idle_s / 4))
            reap_child()  # server, nurseries, supervisors of an agent that this process was
            for entry in run_records(self._directory):
                await self._hosts.look_after(entry)
            await self._hosts.end_spare()
            if (
                not self._directory.exists()
            ):  # somebody cleaned up: nobody can find this agent any more
                self._leaving.set()
            elif self._n_clients or run_records(self._directory):
                self._used = time.monotonic()
            elif (
                time.monotonic() - self._used > self._idle_s and not await self._has_store_clients()
            ):
                self._leaving.set()

    async def _has_store_clients(self) -> bool:
        """Whether a notebook that did not talk to the agent for long still holds the store open."""
        server = await asyncio.to_thread(running_server, self._directory)
        busy = server is not None and await asyncio.to_thread(n_clients, server) > 0
        if busy:
            self._used = time.monotonic()
        return busy

    async def _leave(self) -> None:
        for entry in run_records(self._directory):
            if (
                launch := entry.read()
            ) is not None:  # who waits for the run is told, also on a server that lives on
                with contextlib.suppress(TimeoutError):  # that server is out of reach
                    async with asyncio.timeout(GONE_S):
                        await fail_run(launch, "the agent that hosted it was stopped")
            await self._hosts.stop(entry)
        await self._hosts.leave()
        if server := self._server or await asyncio.to_thread(running_server, self._directory):
            await asyncio.to_thread(stop_server, server)
        shutil.rmtree(self._directory / "modules", ignore_errors=True)
        deadline = time.monotonic() + GONE_S
        while reap_child() and time.monotonic() < deadline:  # noqa: ASYNC110  # children that other agents had
            await asyncio.sleep(PAUSE_S)


def _plain_host() -> HostKey:
    """A fork server of this interpreter without options."""
    return HostKey("process", interpreter(), code_mark(), PythonStart(folders=own_folders()))


def _find_or_start(directory: Path) -> ServerProcess:
    return running_server(directory) or start_server(directory)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dagnb agent", description=HELP)
    parser.add_argument(
        "--stop",
        action="store_true",
        help="end the running agent, its server and all runs, then exit",
    )
    parser.add_argument(
        "--idle-s",
        metavar="SECONDS",
        type=float,
        default=IDLE_S,
        help="end after this many seconds without a run or a client (default: %(default)g)",
    )
    parser.add_argument(
        "--directory",
        metavar="DIR",
        type=Path,
        help="where its socket and those of its server lie (default: in DAGNB_HOME, or in the runtime directory)",
    )
    parser.add_argument(
        "--detach",
        action="store_true",
        help="go to the background when ready, as an agent does that a run starts; without it, stay in the foreground",
    )
    parser.add_argument(
        "--heir",
        action="store_true",
        help="take over what a killed agent left behind, and exit at once when that is nothing",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """`dagnb agent`: run in the foreground, or detached for ensure_agent; 0 also when another agent lives."""
    options = _parser().parse_args(argv)
    if options.stop:
        return stop()
    if options.detach and os.fork():
        os._exit(0)
    directory = private_directory(options.directory) if options.directory else runtime_directory()
    logging.basicConfig(format="%(asctime)s %(process)d %(name)s: %(message)s")
    try:
        if lock_or_find(directory) is None:
            return 0
        if not options.heir or running_server(directory) or run_records(directory):
            asyncio.run(Agent(directory, options.idle_s).serve(1 if options.detach else None))
        (directory / "agent.log").unlink(missing_ok=True)
        (directory / "agent.lock").unlink(missing_ok=True)
    except OSError as error:
        _log.error("%s", error)  # a file is wrong, which the message names
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
