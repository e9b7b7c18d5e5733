"""The agent's process for containers. It speaks the words of a nursery, runs taking the place of children.

    {"spawn": "supervisor", "name": run, "args": launch}  ->  {"started": run, "pid": ...}
    {"signal": 9, "name": run}                                end its containers, now
    {"ask": serial, "op": "staff" | "prewarm", ...}       ->  {"answered": serial, ...}
    {"leave": true}                                           end all containers, then leave
    the run is over                                       ->  {"exited": run, "pid": ..., "status": 0}
The connection gone without a word, it ends and leaves the containers to work: the next agent's host takes them over.
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
    """The agent's requests, answered."""

    def __init__(self, directory: Path, mark: str, writer: asyncio.StreamWriter) -> None:
        self._directory, self._mark, self._writer = directory, mark, writer

    async def serve(self, reader: asyncio.StreamReader) -> None:
        """Until the agent is gone, or says that nothing is needed any more; this process ends with it."""
        self._fleet = Fleet(self._directory, self._mark)
        await self._fleet.adopt()
        self._fleet.begin(self._fleet.care())
        while line := await reader.readline():
            request = json.loads(line)
            if "leave" in request:
                await self._fleet.leave()
                break
            self._obey(request)
        os._exit(0)  # threads that wait for the engine would keep it

    def _obey(self, request: dict[str, Any]) -> None:
        if "spawn" in request:
            self._fleet.begin(self._follow(request["name"], request["args"]))
        elif "signal" in request:
            self._fleet.begin(self._fleet.stop(request["name"]))
        elif "ask" in request:
            self._fleet.begin(self._answer(request))

    def _tell(self, news: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self._writer.write(json.dumps(news).encode() + b"\n")

    async def _follow(self, run: str, launch: dict[str, Any]) -> None:
        self._tell({"started": run, "pid": os.getpid()})
        try:
            await self._fleet.follow(run, launch)
        finally:
            self._tell({"exited": run, "pid": os.getpid(), "status": 0})
        await keep_in_history(Invocation.from_json(launch["invocation"]))

    async def _answer(self, request: dict[str, Any]) -> None:
        told: dict[str, Any]
        try:
            if request["op"] == "staff":
                told = {"staff": [_line(box) for box in self._fleet.boxes]}
            else:
                told = {
                    "warm": await self._fleet.prewarm(
                        request["n"], DriverSettings.of(request["terms"])
                    )
                }
        except ENGINE_ERRORS as error:
            told = {"error": str(error), "type": "LaunchError"}
        self._tell({"answered": request["ask"], **told})


def _line(box: Container) -> dict[str, Any]:
    return {
        "name": box.name,
        "state": box.state.value,
        "run": box.run,
        "worker": box.worker,
        "cpus": box.spec.cpus,
        "memory_mb": box.spec.memory_mb,
        "image": box.spec.image,
        "age_s": time.time() - box.born,
        "n_lent": box.n_lent,
        "last_run": box.last_run,
        "key": box.spec.key,
    }


async def _serve(control: socket.socket, directory: Path, mark: str) -> None:
    reader, writer = await asyncio.open_connection(sock=control, limit=_LINE_BYTES)
    await Host(directory, mark, writer).serve(reader)


def main(argv: Sequence[str]) -> int:
    """What the agent executes. argv: descriptor of its connection, directory, agent's idle_s, mark of this host."""
    logging.basicConfig(format="%(asctime)s %(process)d %(name)s: %(message)s")
    asyncio.run(_serve(socket.socket(fileno=int(argv[0])), Path(argv[1]), argv[3]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
