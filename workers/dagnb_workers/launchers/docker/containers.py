"""All containers of one host: creates them, finds them again after a restart, ends them.

A container stays in the list, and counts against the limits, until the engine says that it is gone.
"""

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
from dagnb_workers.launchers.docker.allocation import ContainerRequest, ContainerState
from dagnb_workers.launchers.docker.container import ENGINE_ERRORS, Container
from dagnb_workers.launchers.docker.engine import connect
from dagnb_workers.launchers.docker.spec import Spec

# Seconds between two messages to idle containers, which end after 120 s without one.
PING_S = 30.0

ADOPT_S = 5.0
_RETRY_S = 1.0

OnMessage = Callable[[Container, dict[str, Any]], None]


class Containers:
    """The containers of one runtime directory and one host. on_message: gets all their messages.

    is_stuck: a container cannot be ended because the engine does not answer.
    """

    def __init__(self, directory: Path, mark: str, on_message: OnMessage) -> None:
        self.home, self._mark, self._on_message = labels.home_mark(directory), mark, on_message
        self.is_stuck, self._has_adopted = False, False
        self._containers: dict[str, Container] = {}
        self._pinged_at = time.monotonic()

    def all(self) -> tuple[Container, ...]:
        """Returns all containers; a copy, since they come and go while callers wait."""
        return tuple(self._containers.values())

    def get(self, name: str) -> Container:
        """Returns the container of this name."""
        return self._containers[name]

    def of_run(self, run: str) -> list[Container]:
        """Returns the containers that work for a run, or will."""
        of_run = [container for container in self.all() if container.run == run]
        return [c for c in of_run if c.state is not ContainerState.ENDING]

    def add(self, request: ContainerRequest, idle_s: float) -> Container:
        """Returns a new container that is to be started for a request."""
        container = Container(
            name=secrets.token_hex(4),
            spec=request.spec,
            on_message=self._on_message,
            run=request.run,
            kind=request.kind,
            is_expected=bool(request.run),
            idle_s=idle_s,
        )
        self._containers[container.name] = container
        return container

    async def start(self, container: Container, *, attempt: int = 1, project: str = "") -> None:
        """Start a container; returns when it is ready.

        Raises engine errors, after which the container is gone.
        """
        # Labels cannot change later. They name the container's owner and what it was started for.
        values = {
            labels.HOME: self.home,
            labels.HOST: self._mark,
            labels.NAME: container.name,
            labels.SPEC: container.spec.without_secrets().to_json(),
            labels.RUN: container.run,
            labels.WORKER: container.kind,
            labels.INSTANCE: container.name,
            labels.ATTEMPT: str(attempt),
            labels.PROJECT: project,
            labels.IDLE: f"{container.idle_s:g}",
        }
        try:
            await container.start(values)
        except ENGINE_ERRORS:
            await self.end(container)
            raise

    async def end(self, container: Container) -> None:
        """End a container; returns when it is certainly gone.

        While the engine is out of reach, this waits, because the container may still run.
        """
        container.state = ContainerState.ENDING
        while not await container.remove():
            self.is_stuck = True
            await asyncio.sleep(_RETRY_S)
        self.is_stuck = False
        self._containers.pop(container.name, None)

    async def adopt(self) -> None:
        """Take over the containers of an earlier process, once; remove those that do not answer.

        Does nothing while no engine answers: call it again later.
        """
        if self._has_adopted:
            return
        with contextlib.suppress(*ENGINE_ERRORS):
            listed = await asyncio.to_thread(self._listed)
            known = {container.id for container in self.all()}
            unknown = [listing for listing in listed if listing.id not in known]
            await asyncio.gather(*map(self._adopt_one, unknown))
            self._has_adopted = True

    async def leave(self) -> None:
        """End all containers, also those that are being created right now."""
        await asyncio.gather(*(container.remove() for container in self.all()))
        # Containers created meanwhile, or by an earlier process, are found by their labels.
        with contextlib.suppress(*ENGINE_ERRORS):
            for engine_container in await asyncio.to_thread(self._listed):
                await asyncio.to_thread(engine_container.remove, force=True)

    async def ping(self) -> None:
        """Send a message to all containers every PING_S, so that they know that the fleet lives."""
        if time.monotonic() - self._pinged_at > PING_S:
            self._pinged_at = time.monotonic()
            await asyncio.gather(*(container.send({"who": True}) for container in self.all()))

    def _listed(self) -> list[Any]:
        label = [f"{labels.HOME}={self.home}", f"{labels.HOST}={self._mark}"]
        return list(connect().containers.list(all=True, filters={"label": label}))

    async def _adopt_one(self, engine_container: Any) -> None:
        values = engine_container.labels
        container = Container(
            name=values[labels.NAME],
            spec=Spec.from_json(values[labels.SPEC]),
            on_message=self._on_message,
            id=engine_container.id,
            n_lent=1,  # a guess: it is stored nowhere how often the container was lent
        )
        try:
            if engine_container.status != "running":
                raise LaunchError("it does not run")
            runs = await container.adopt(engine_container.id, ADOPT_S)
        except ENGINE_ERRORS:
            await container.remove()
            return

        self._containers[container.name] = container
        container.idle_s = float(values.get(labels.IDLE, container.idle_s))
        container.state, container.idle_since = ContainerState.IDLE, time.monotonic()
        if runs:
            container.run, container.state = runs[0], ContainerState.LENT
