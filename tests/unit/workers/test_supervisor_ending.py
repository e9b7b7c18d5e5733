"""The end of a run, as the supervisor meets it together with the end of a worker."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from dagnb_workers.hosting import supervisor as supervisor_module
from dagnb_workers.hosting.fork_server import Exit
from dagnb_workers.hosting.supervisor import Supervisor
from dagnb_workers.worker.shared_status import SharedStatus

from dagnb.protocol.invocation import Invocation
from dagnb.protocol.messages import RunState, Status


class ForkServerOfOne:
    """A fork server whose worker imports numpy at its start, and nothing else."""

    def __init__(self) -> None:
        self.exits: asyncio.Queue[Exit | None] = asyncio.Queue()
        self.left = asyncio.Event()
        self.spawned: list[str] = []

    async def listen(self) -> None:
        await self.left.wait()

    async def spawn(self, kind: str, name: str, args: Any, fds: Sequence[int]) -> int:
        status = SharedStatus(fds[0])
        status.note_import("numpy", 0.25)
        self.spawned.append(name)
        return 1

    async def leave(self) -> None:
        self.exits.put_nowait(None)
        self.left.set()


class StoreOfAnEndedRun:
    """A store that says that the run is over at the moment at which the worker ends."""

    def __init__(self, fork_server: ForkServerOfOne) -> None:
        self._fork_server = fork_server

    async def heartbeat(
        self, run: str, instances: Sequence[str], *, lease_s: float
    ) -> dict[str, Status]:
        for instance in self._fork_server.spawned:
            self._fork_server.exits.put_nowait(Exit(instance, 1, 0))
        return dict.fromkeys(self._fork_server.spawned, Status.STOP)

    async def wait_end(self, run: str, seconds: float) -> None:
        await self._fork_server.left.wait()

    async def observe(self, run: str) -> SimpleNamespace:
        return SimpleNamespace(state=RunState.CANCELLED)

    async def close(self) -> None:
        pass


async def test_imports_are_noted_when_the_run_ends_at_the_moment_of_the_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    noted: dict[str, float] = {}
    fork_server = ForkServerOfOne()

    async def opened(_: Invocation) -> StoreOfAnEndedRun:
        return StoreOfAnEndedRun(fork_server)

    monkeypatch.setattr(supervisor_module, "open_store_of", opened)
    # The first look comes before the worker starts, and no other follows.
    monkeypatch.setattr(supervisor_module, "LOOK_S", 3600.0)
    invocation = Invocation(run="r1", store="", key=bytes(32), heartbeat_s=0.01)

    await Supervisor(invocation, fork_server, (), lambda _: None, noted.update).supervise()  # type: ignore[arg-type]

    assert noted == {"numpy": 0.25}
