"""One container, as the fleet holds it: made, lent to a run, hurried, ended.

The engine's calls block, so they happen in threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import docker.errors
import requests

from dagnb.errors import LaunchError
from dagnb_workers.hosting.supervisor import HURRY
from dagnb_workers.launchers.docker.allocation import ContainerState, Held
from dagnb_workers.launchers.docker.engine import connect
from dagnb_workers.launchers.docker.image.images import REPOSITORY
from dagnb_workers.launchers.docker.spec import RUN, WORKER, Spec, create_arguments
from dagnb_workers.launchers.docker.wire import Wire

READY_S = 60.0
_BEING_REMOVED = 409
_BAD_REQUEST = 400
ENGINE_ERRORS = (docker.errors.DockerException, requests.RequestException, OSError, LaunchError)


class ContainerError(LaunchError):
    """A container ended, or said nothing, before it was ready."""


@dataclass(slots=True, eq=False)
class Container:
    """A container. name: its own for good; what the engine calls it tells whom it serves.

    phases: (phase, begin, end) of its start, epoch seconds, for whom it was started. n_lent: how often it was lent.
    last_run: to which run it was lent last, also when it is idle again.
    """

    name: str
    spec: Spec
    hear: Callable[[Container, dict[str, Any]], None]
    state: ContainerState = ContainerState.STARTING
    run: str = ""
    kind: str = ""
    is_expected: bool = False
    is_resting: bool = False
    worker: str = ""
    idle_s: float = 60.0
    idle_since: float = 0.0
    born: float = field(default_factory=time.time)
    n_lent: int = 0
    last_run: str = ""
    phases: tuple[tuple[str, float, float], ...] = ()
    versions: str = ""
    id: str = ""
    is_gone: bool = False
    lent_since: float = 0.0
    called: str = ""
    _making: asyncio.Future[None] | None = None
    _wire: Wire | None = None
    _news: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)

    @property
    def stderr(self) -> str:
        """The last its first process wrote there."""
        return self._wire.stderr.strip() if self._wire is not None else ""

    def held(self) -> Held:
        """As the allotment sees it."""
        return Held(
            name=self.name,
            spec=self.spec,
            state=self.state,
            run=self.run,
            kind=self.kind,
            is_expected=self.is_expected,
            is_resting=self.is_resting,
            idle_since=self.idle_since,
        )

    async def start(self, labels: Mapping[str, str]) -> None:
        """Make it, and wait until it can work. Raises ContainerError, or what the engine says."""
        loop, begin = asyncio.get_running_loop(), time.time()
        self._making = asyncio.ensure_future(asyncio.to_thread(self._create, loop, labels))
        await asyncio.shield(self._making)
        created = time.time()
        told = await self._answer("ready", READY_S)
        begun = max(created, told["begun"])
        self.versions = told["versions"]
        self.phases = (
            ("create", begin, created),
            ("boot", created, begun),
            ("import", begun, told["imported"]),
        )

    async def adopt(self, container: str, wait_s: float) -> list[str]:
        """Take over a container that runs already. Returns the runs it works for. Raises ContainerError."""
        self.id = container
        self._wire = Wire(asyncio.get_running_loop(), self._receive)
        await asyncio.to_thread(self._wire.attach, container)
        await self.send({"who": True})
        told = await self._answer("children", wait_s)
        self.versions = told["versions"]
        children: list[str] = told["children"]
        return children

    async def send(self, request: dict[str, Any]) -> None:
        """Tell its first process."""
        if self._wire is not None:
            await asyncio.to_thread(self._wire.send, request)

    async def hurry(self) -> None:
        """Have its worker leave as soon as it has nothing to do."""
        await self.send({"signal": int(HURRY), "name": self.run})

    async def rename(self, run: str, worker: str) -> None:
        """Let people see in the engine's list whom it serves; the name it had when it cannot be changed."""
        self.worker = worker
        with contextlib.suppress(*ENGINE_ERRORS):
            await asyncio.to_thread(
                connect().api.rename, self.id, container_name(self.name, run, worker)
            )

    async def remove(self) -> bool:
        """End it with all that runs in it. Whether it is gone for certain, as far as it was known to be there."""
        if self._making is not None:  # a thread that makes it cannot be stopped
            with contextlib.suppress(*ENGINE_ERRORS):
                await asyncio.shield(self._making)
        if not self.id and not self.called:
            return True
        try:
            await asyncio.to_thread(
                connect().api.remove_container, self.id or self.called, force=True
            )
        except docker.errors.NotFound:
            return True
        except ENGINE_ERRORS as error:
            is_going = (
                isinstance(error, docker.errors.APIError) and error.status_code == _BEING_REMOVED
            )
            return is_going or not self.id
        return True

    def _create(self, loop: asyncio.AbstractEventLoop, labels: Mapping[str, str]) -> None:
        self.called = container_name(self.name, labels.get(RUN, ""), labels.get(WORKER, ""))
        container = connect().containers.create(**create_arguments(self.spec, self.called, labels))
        self.id = str(container.id)
        self._wire = Wire(loop, self._receive)
        try:
            self._wire.attach(self.id)
            container.start()
        except BaseException:
            with contextlib.suppress(*ENGINE_ERRORS):
                container.remove(force=True)
            raise

    def _receive(self, news: dict[str, Any]) -> None:
        self._news.put_nowait(news)
        self.hear(self, news)

    async def _answer(self, what: str, wait_s: float) -> dict[str, Any]:
        """The news of this kind; whatever comes before it is not meant for us."""
        try:
            async with asyncio.timeout(wait_s):
                while what not in (news := await self._news.get()):
                    if "gone" in news:
                        raise ContainerError(
                            f"container {self.name} ended before it was ready. {self._said()}"
                        )
        except TimeoutError:
            raise ContainerError(
                f"container {self.name} was not ready in {wait_s:g} s. {self._said()}"
            ) from None
        answer: dict[str, Any] = news[what]
        return answer

    def _said(self) -> str:
        return f"It said: {self.stderr}" if self.stderr else "It said nothing."


def cure(error: BaseException, image: str) -> str:
    """What the user can do where every other container of that image would fail as well; '' where one might not."""
    if isinstance(error, docker.errors.ImageNotFound):
        return "Fetch it with `docker pull`, or leave image= out: dagnb then builds one"
    # Python is not there, or what the image starts is another program than the first process of a worker.
    is_refused = isinstance(error, docker.errors.APIError) and error.status_code == _BAD_REQUEST
    if image.startswith(f"{REPOSITORY}:"):
        return ""  # it starts what it should: a slow or crowded machine may be the reason
    if is_refused or isinstance(error, ContainerError):
        return (
            "An image of your own must start `python -m dagnb_workers.container` with dagnb installed: build it FROM "
            "one that `dagnb image build` made, or leave image= out"
        )
    return ""


def container_name(name: str, run: str, worker: str) -> str:
    """What the engine calls it: 'dagnb-<end of the run's id>-<worker>-<its own name>', in the letters that allows."""
    parts = ("dagnb", run[-6:].lower(), worker, name)
    return "-".join(
        clean for part in parts if (clean := re.sub(r"[^A-Za-z0-9_.]+", "-", part).strip("-."))
    )
