"""The containers there are: made, found again, ended. A place is free when its container is gone for certain."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dagnb.errors import LaunchError
from dagnb_workers.launchers.docker import spec as labels
from dagnb_workers.launchers.docker.allocation import ContainerState, Want
from dagnb_workers.launchers.docker.container import ENGINE_ERRORS, Container
from dagnb_workers.launchers.docker.engine import connect
from dagnb_workers.launchers.docker.spec import Spec

PING_S = 30.0
ADOPT_S = 5.0
_AGAIN_S = 1.0

Hear = Callable[[Container, dict[str, Any]], None]


class Containers:
    """Of one runtime directory and one agent's process. hear: told the news of every container.

    is_stuck: a container cannot be ended because the engine does not answer.
    """

    def __init__(self, directory: Path, mark: str, hear: Hear) -> None:
        self.home, self._mark, self._hear = labels.home_mark(directory), mark, hear
        self.is_stuck, self._has_adopted = False, False
        self._boxes: dict[str, Container] = {}
        self._pinged = time.monotonic()

    @property
    def boxes(self) -> tuple[Container, ...]:
        """The containers."""
        return tuple(self._boxes.values())

    def box(self, name: str) -> Container:
        """The one of this name."""
        return self._boxes[name]

    def of(self, run: str) -> list[Container]:
        """Those that work for a run, or will."""
        return [
            box for box in self.boxes if box.run == run and box.state is not ContainerState.ENDING
        ]

    def new(self, want: Want, idle_s: float) -> Container:
        """One that is to be started."""
        box = Container(
            name=secrets.token_hex(4), spec=want.spec, hear=self._hear, run=want.run, kind=want.kind
        )
        box.is_expected, box.idle_s = bool(want.run), idle_s
        self._boxes[box.name] = box
        return box

    async def start(self, box: Container, *, attempt: int = 1, project: str = "") -> None:
        """Returns when it can work. Raises what the engine says; nothing is left then."""
        told = {
            labels.HOME: self.home,
            labels.HOST: self._mark,
            labels.NAME: box.name,
            labels.SPEC: box.spec.without_secrets().to_json(),
            labels.RUN: box.run,
            labels.WORKER: box.kind,
            labels.INSTANCE: box.name,
            labels.ATTEMPT: str(attempt),
            labels.PROJECT: project,
            labels.IDLE: f"{box.idle_s:g}",
        }
        try:
            await box.start(told)
        except ENGINE_ERRORS:
            await self.end(box)
            raise

    async def end(self, box: Container) -> None:
        """Returns when it is gone for certain; an engine that is out of reach is waited for."""
        box.state = ContainerState.ENDING
        while not await box.remove():  # an engine that does not answer cannot tell when it will
            self.is_stuck = True
            await asyncio.sleep(_AGAIN_S)
        self.is_stuck = False
        self._boxes.pop(box.name, None)

    async def adopt(self) -> None:
        """Take over what an earlier process like this one left at work, once; remove what does not answer."""
        if self._has_adopted:
            return
        with contextlib.suppress(*ENGINE_ERRORS):
            found = await asyncio.to_thread(self._listed)
            known = {box.id for box in self.boxes}
            await asyncio.gather(
                *(self._adopt_one(container) for container in found if container.id not in known)
            )
            self._has_adopted = True

    async def leave(self) -> None:
        """End all, also those that are just being made."""
        await asyncio.gather(*(box.remove() for box in self.boxes))
        with contextlib.suppress(*ENGINE_ERRORS):
            for container in await asyncio.to_thread(self._listed):
                await asyncio.to_thread(container.remove, force=True)

    async def ping(self) -> None:
        """Let all know now and then that somebody is here."""
        if time.monotonic() - self._pinged > PING_S:
            self._pinged = time.monotonic()
            await asyncio.gather(*(box.send({"who": True}) for box in self.boxes))

    def _listed(self) -> list[Any]:
        wanted: dict[str, Any] = {
            "label": [f"{labels.HOME}={self.home}", f"{labels.HOST}={self._mark}"]
        }
        return list(connect().containers.list(all=True, filters=wanted))

    async def _adopt_one(self, container: Any) -> None:
        told = container.labels
        box = Container(
            name=told[labels.NAME],
            spec=Spec.from_json(told[labels.SPEC]),
            hear=self._hear,
            id=container.id,
        )
        try:
            if container.status != "running":
                raise LaunchError("it does not run")
            runs = await box.adopt(container.id, ADOPT_S)
        except ENGINE_ERRORS:
            await box.remove()
            return
        self._boxes[box.name], box.n_lent = box, 1
        box.idle_s = float(told.get(labels.IDLE, box.idle_s))
        box.run, box.state = (runs[0], ContainerState.LENT) if runs else ("", ContainerState.IDLE)
        box.idle_since = time.monotonic()
