"""The agent: one detached process per user, which owns the embedded server and worker hosts.

It schedules nothing, and it ends after being idle for `idle_s`. If it is killed, nothing is lost:
server and supervisors live on, and the next agent finds them in the runtime directory.

Requests and answers are one JSON object a line on `agent.sock`. The socket outlives an upgrade of
dagnb, so keys are only ever added: an agent and a client of different versions must understand
each other.

    {"op": "ping"}                    -> {"pid": ...}
    {"op": "store", HOST}             -> {"url": ...}   starts the embedded server when there is
                                      none; also starts the host, if the request names one
    {"op": "ready", HOST}             -> {"ready": true}   starts the host when it does not run
    {"op": "launch", "invocation": "...", "preload": [name, ...] or null, "idle_s": ..., HOST}
                                      -> {"started": true, "left_out": {name: reason}}, without
                                      the latter if empty; or false: the run has processes already
    {"op": "ask", "start": bool, "about": {...}, HOST}
                                      -> the host's answer; {} when it does not run and `start` is
                                      false
    {"op": "stop", "run": ...}        -> {"stopped": ...}   kills its supervisor and workers
    {"op": "status"}                  -> {"pid": ..., "runs": {run: pid}, "server": pid or null, ..}
    {"op": "leave", "force": false}   -> {"left": true}, or false: runs are going on

HOST stands for "host", "python", "code" and the fields of its start (hosts.HostKey). Any request
may be answered by {"error": message, "type": name of a class in dagnb.errors}.
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
from dagnb.storage import segments
from dagnb.storage.embedded import (
    ServerProcess,
    n_clients,
    running_server,
    start_server,
    stop_server,
)
from dagnb.storage.home import private_directory, runtime_directory
from dagnb_workers.agent.client import stop
from dagnb_workers.agent.host_key import HostKey
from dagnb_workers.agent.hosts import PAUSE_S, STOP_S, Hosts, fail_run
from dagnb_workers.hosting.interpreter import (
    PythonStart,
    code_mark,
    own_folders,
    python_path,
)
from dagnb_workers.hosting.run_locks import RunRecord, acquire_agent_lock, run_records
from dagnb_workers.surroundings.left_behind import reap_child

HELP = """
The agent is a background process, one for each user. It owns the embedded server, in which runs
keep their state, and starts the worker processes and containers of runs. It schedules nothing:
workers decide among themselves what runs next. The first run starts the agent, and it ends ten
minutes after its last use. If it is killed, no run is lost: workers go on, and the next agent
takes them over. `dagnb doctor` says whether one is running.
"""

# Bytes of the longest request: an invocation may hold the records of a whole DAG.
LINE_BYTES = 64 * 1024 * 1024

IDLE_S = 600.0
_TICK_S = 0.5

_log = logging.getLogger(__name__)


class Agent:
    """The agent of one runtime directory.

    Its state may be lost at any moment: another agent reads all it needs from the directory.
    """

    def __init__(self, directory: Path, idle_s: float) -> None:
        self._directory, self._idle_s = directory, idle_s
        self._server: ServerProcess | None = None
        self._starting_server = asyncio.Lock()
        self._n_clients = 0
        self._used_at = time.monotonic()
        self._leaving = asyncio.Event()

    async def serve(self, ready: int | None = None) -> None:
        """Answer requests until it is time to leave.

        ready: a descriptor that is closed when the socket listens, for a process that waits.
        """
        path = self._directory / "agent.sock"
        path.unlink(missing_ok=True)  # left by an agent that was killed: the lock says none lives
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._leaving.set)

        async with asyncio.TaskGroup() as group:
            self._hosts = Hosts(self._directory, self._idle_s, group)
            listener = await asyncio.start_unix_server(self._serve_client, path, limit=LINE_BYTES)
            if ready is not None:
                os.dup2(os.open(os.devnull, os.O_WRONLY), ready)
            # If this agent is killed, a host becomes the next agent (run_host.main). So a server
            # that an earlier agent started needs a host, too, or it would run for ever.
            if await asyncio.to_thread(running_server, self._directory):
                self._hosts.ensure_host(_plain_host())

            housekeeping = group.create_task(self._housekeeping())
            await self._leaving.wait()
            listener.close()
            path.unlink(missing_ok=True)
            housekeeping.cancel()
            await self._end_all()

    # ---- requests --------------------------------------------------------------------------------

    async def _serve_client(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._n_clients += 1
        try:
            while (line := await reader.readline()) and not self._leaving.is_set():
                writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            pass  # the client has gone, or its line was too long
        finally:
            self._n_clients -= 1
            self._used_at = time.monotonic()
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            operation = getattr(self, f"_op_{request['op']}")
            answer: dict[str, Any] = await operation(request)
        except DagnbError as error:
            return {"error": str(error), "type": type(error).__name__}
        except OSError as error:  # a full disk, or a file where a folder should be
            message = (
                f"the agent cannot do {request['op']!r}: {error}. Correct that, "
                f"or set DAGNB_HOME to another directory than {self._directory.parent}."
            )
            return {"error": message, "type": "LaunchError"}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            return {"error": f"not a request this agent knows: {error}", "type": "ProtocolError"}
        return answer

    async def _op_ping(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"pid": os.getpid()}

    async def _op_ready(self, request: dict[str, Any]) -> dict[str, Any]:
        self._hosts.ensure_host(HostKey.of(request))
        return {"ready": True}

    async def _op_store(self, request: dict[str, Any]) -> dict[str, Any]:
        # The client launches a run next: its host can start while the server does.
        self._hosts.ensure_host(HostKey.of(request) if "host" in request else _plain_host())
        async with self._starting_server:
            server = await asyncio.to_thread(_find_or_start, self._directory)
            # The first object is kept while the pid is the same: if it started the server, it can
            # end the server without the socket.
            if self._server is None or self._server.pid != server.pid:
                self._server = server
        return {"url": self._server.url}

    async def _op_launch(self, request: dict[str, Any]) -> dict[str, Any]:
        record = RunRecord(self._directory, json.loads(request["invocation"])["run"])
        if self._hosts.is_hosted(record):
            return {"started": False}
        launch = {"host": "process", "python": sys.executable, "code": "", **request}
        record.write(launch)  # before the start: if this agent is killed, the next one starts it
        await self._hosts.launch(record, launch)
        left_out = self._hosts.left_out(launch)
        return {"started": True, **({"left_out": left_out} if left_out else {})}

    async def _op_ask(self, request: dict[str, Any]) -> dict[str, Any]:
        return await self._hosts.ask(HostKey.of(request), request["about"], start=request["start"])

    async def _op_stop(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"stopped": await self._hosts.stop(RunRecord(self._directory, request["run"]))}

    async def _op_status(self, request: dict[str, Any]) -> dict[str, Any]:
        records = run_records(self._directory)
        return {
            "pid": os.getpid(),
            "runs": {record.run: record.holder().pid for record in records},
            "server": self._server and self._server.pid,
            "clients": self._n_clients,
            "hosts": self._hosts.n_hosts,
            "import_servers": self._hosts.import_servers,
            "idle_s": time.monotonic() - self._used_at,
        }

    async def _op_leave(self, request: dict[str, Any]) -> dict[str, Any]:
        if run_records(self._directory) and not request.get("force"):
            return {"left": False}
        self._leaving.set()
        return {"left": True}

    # ---- housekeeping and the end ----------------------------------------------------------------

    async def _housekeeping(self) -> None:
        """Reap processes, restart lost runs, end unused hosts; leave when idle for long."""
        while not self._leaving.is_set():
            await asyncio.sleep(min(_TICK_S, self._idle_s / 4))
            # Children are the server, the hosts, and the supervisors of a fork server that became
            # this agent by exec, which keeps children.
            reap_child()
            for record in run_records(self._directory):
                await self._hosts.restart_if_lost(record)
            await self._hosts.end_unused()
            self._remove_segments()
            self._hosts.import_early()

            unused_s = time.monotonic() - self._used_at
            if not self._directory.exists():
                self._leaving.set()  # the user removed it: no client can find this agent any more
            elif self._n_clients or run_records(self._directory):
                self._used_at = time.monotonic()
            elif unused_s > self._idle_s and not await self._has_store_clients():
                self._leaving.set()  # the store's clients are counted last: that is a round trip

    def _remove_segments(self) -> None:
        """Remove large values of runs whose processes were all killed, or stopped."""
        # Looked at before the records: a run has a record before it has segments.
        held = segments.runs_with_segments(self._directory)
        if held:
            known = {record.run for record in run_records(self._directory)}
            for run in set(held) - known:
                segments.remove(self._directory, run)

    async def _has_store_clients(self) -> bool:
        """Returns whether a client, such as an idle notebook, is connected to the embedded server.

        A connected client counts as use of the agent.
        """
        server = await asyncio.to_thread(running_server, self._directory)
        if server is None or await asyncio.to_thread(n_clients, server) == 0:
            return False
        self._used_at = time.monotonic()
        return True

    async def _end_all(self) -> None:
        """End runs, hosts and the embedded server."""
        for record in run_records(self._directory):
            launch = record.read()
            if launch is not None:
                # Before the run's processes end, so that waiters see the reason. The run's store
                # may be another server, which lives on, or is out of reach.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(STOP_S):
                        await fail_run(launch, "the agent that hosted it was stopped")
            await self._hosts.stop(record)

        await self._hosts.leave()
        if server := self._server or await asyncio.to_thread(running_server, self._directory):
            await asyncio.to_thread(stop_server, server)
        shutil.rmtree(self._directory / "modules", ignore_errors=True)

        deadline = time.monotonic() + STOP_S
        # Children of a fork server that became this agent are unknown to asyncio: poll for all.
        while reap_child() and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(PAUSE_S)


def _plain_host() -> HostKey:
    """Returns the key of a fork server of this interpreter without options."""
    return HostKey("process", python_path(), code_mark(), PythonStart(folders=own_folders()))


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
        help="directory of the sockets of the agent and its server "
        "(default: in DAGNB_HOME, or in the runtime directory)",
    )
    parser.add_argument(
        "--detach",
        action="store_true",
        help="run in the background, as an agent that a run starts; "
        "without this option, stay in the foreground",
    )
    parser.add_argument(
        "--heir",
        action="store_true",
        help="take over what a killed agent left running; exit at once if nothing is left",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run `dagnb agent` in the foreground, or detached for ensure_agent.

    Returns the exit code: 0 also when another agent lives, 1 when a file is wrong.
    """
    options = _parser().parse_args(argv)
    if options.stop:
        return stop()
    if options.detach and os.fork():
        os._exit(0)
    directory = private_directory(options.directory) if options.directory else runtime_directory()
    logging.basicConfig(format="%(asctime)s %(process)d %(name)s: %(message)s")
    try:
        if acquire_agent_lock(directory) is None:
            return 0
        if not options.heir or running_server(directory) or run_records(directory):
            ready = 1 if options.detach else None
            asyncio.run(Agent(directory, options.idle_s).serve(ready))
        segments.remove_all(directory)
        # The log is needed only after an agent that did not end normally.
        (directory / "agent.log").unlink(missing_ok=True)
        (directory / "agent.lock").unlink(missing_ok=True)
    except OSError as error:
        _log.error("%s", error)  # the message names the file
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
