"""The agent's process that owns containers. It answers the messages of a fork server.

In these messages a run takes the place of a child, though no process is forked for it:

    {"spawn": "supervisor", "name": run, "args": launch}  ->  {"started": run, "pid": own pid}
    {"signal": 9, "name": run}                                end the run's containers now
    {"ask": serial, "op": "staff"}                        ->  {"answered": serial, "staff": [...]}
    {"ask": serial, "op": "prewarm", "n":, "terms":}      ->  {"answered": serial, "warm": n idle}
    {"leave": true}                                           end all containers, then this process
    a run is over                                         ->  {"exited": run, "pid":, "status": 0}

When the connection ends without a "leave", the agent was killed. This process then ends and leaves
the containers running: the host that the next agent starts takes them over.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dagnb.protocol.invocation import Invocation
from dagnb_workers.hosting.history_writer import keep_in_history
from dagnb_workers.launchers.docker.container import ENGINE_ERRORS, Container
from dagnb_workers.launchers.docker.fleet import Fleet
from dagnb_workers.launchers.docker.run_driver import DriverSettings

_LINE_BYTES = 64 * 1024 * 1024


class Host:
    """Answers the agent's requests."""

    def __init__(self, directory: Path, mark: str, writer: asyncio.StreamWriter) -> None:
        self._directory, self._mark, self._writer = directory, mark, writer

    async def serve(self, reader: asyncio.StreamReader) -> None:
        """Serve until the agent is gone or asks to leave; then end this process."""
        self._fleet = Fleet(self._directory, self._mark)
        # Before containers are adopted: their workers may wait for this broker.
        self._fleet.share_memory()
        # Before runs, because containers of an earlier host count against the limits.
        await self._fleet.containers.adopt()
        self._fleet.start_task(self._fleet.housekeeping())
        while line := await reader.readline():
            request = json.loads(line)
            if "leave" in request:
                # First: ending containers may take longer than the agent waits, and then the next
                # host listens at the same place.
                self._fleet.broker.close()
                await self._fleet.containers.leave()
                break
            self._handle_request(request)
        os._exit(0)  # a normal exit would wait for threads that wait for the engine

    def _handle_request(self, request: dict[str, Any]) -> None:
        if "spawn" in request:
            self._fleet.start_task(self._serve_run(request["name"], request["args"]))
        elif "signal" in request:
            self._fleet.start_task(self._fleet.stop(request["name"]))
        elif "ask" in request:
            self._fleet.start_task(self._answer(request))

    def _send(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self._writer.write(json.dumps(message).encode() + b"\n")

    async def _serve_run(self, run: str, launch: dict[str, Any]) -> None:
        self._send({"started": run, "pid": os.getpid()})
        try:
            await self._fleet.serve_run(run, launch)
        finally:
            self._send({"exited": run, "pid": os.getpid(), "status": 0})
        await keep_in_history(Invocation.from_json(launch["invocation"]))

    async def _answer(self, request: dict[str, Any]) -> None:
        answer: dict[str, Any]
        try:
            if request["op"] == "staff":
                answer = {
                    "staff": [_fields(container) for container in self._fleet.containers.all()]
                }
            else:
                settings = DriverSettings.of(request["terms"])
                answer = {"warm": await self._fleet.prewarm(request["n"], settings)}
        except ENGINE_ERRORS as error:
            answer = {"error": str(error), "type": "LaunchError"}
        self._send({"answered": request["ask"], **answer})


def _fields(container: Container) -> dict[str, Any]:
    return {
        "name": container.name,
        "state": container.state.value,
        "run": container.run,
        "worker": container.worker,
        "cpus": container.spec.cpus,
        "memory_mb": container.spec.memory_mb,
        "image": container.spec.image,
        "age_s": time.time() - container.created_at,
        "n_lent": container.n_lent,
        "last_run": container.last_run,
        "key": container.spec.key,
    }


async def _serve(control: socket.socket, directory: Path, mark: str) -> None:
    reader, writer = await asyncio.open_connection(sock=control, limit=_LINE_BYTES)
    await Host(directory, mark, writer).serve(reader)


def main(argv: Sequence[str]) -> int:
    """Run a host of containers; the agent executes this.

    argv: descriptor of the connection to the agent, runtime directory, the agent's idle_s, mark of
    this host.
    """
    logging.basicConfig(format="%(asctime)s %(process)d %(name)s: %(message)s")
    asyncio.run(_serve(socket.socket(fileno=int(argv[0])), Path(argv[1]), argv[3]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
