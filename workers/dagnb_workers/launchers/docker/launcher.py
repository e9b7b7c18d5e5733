"""Workers in containers: isolated, with the CPUs, the memory and the packages their tasks ask for, warm when possible.

The agent's fleet owns the containers and outlives the kernel; this side makes images and says what may be used.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, cast

import docker.errors
import requests

from dagnb.errors import ConfigError, LaunchError
from dagnb.graph.options import requirements_from
from dagnb.graph.requirements import parse
from dagnb.graph.resources import Resources
from dagnb.planning.planner import Pool
from dagnb.protocol.invocation import Invocation
from dagnb.protocol.launcher import WorkerSlot
from dagnb.storage.home import runtime_directory
from dagnb_workers.agent.client import ask_agent, ask_running, ensure_hosted, store_url
from dagnb_workers.agent.hosts import HostKey
from dagnb_workers.hosting.code_state import code_mark, interpreter
from dagnb_workers.hosting.interpreter import PythonStart, own_folders
from dagnb_workers.launchers.docker import engine
from dagnb_workers.launchers.docker import spec as labels
from dagnb_workers.launchers.docker.image import images
from dagnb_workers.launchers.docker.settings import (
    StorePlace,
    check_names,
    check_numbers,
    check_writable,
    environment_of,
    mounts_of,
    store_place,
)
from dagnb_workers.launchers.docker.spec import Mount, Spec
from dagnb_workers.launchers.process import usable_cpus
from dagnb_workers.surroundings.surroundings import Surroundings

LEAST_MB = 64
"""What Python, its supervisor and a worker need before any task does anything"""

_SHOWN = (labels.RUN, labels.WORKER, labels.INSTANCE)


@dataclass(frozen=True, kw_only=True)
class Docker:
    """Up to `cap` containers at a time, of all runs together, and `total_memory_mb` of memory; both have defaults.

    cpus, memory_mb: of a worker whose tasks ask for none. base: image to build on, by default the official Python of
    this minor version; image: one that holds dagnb already, nothing is built. requirements: packages all workers have,
    or the path of a requirements.txt. mounts: 'folder', 'folder:/where', 'folder:/where:rw'. network: the engine's name
    of a network that tasks may use; by default none. environment: variables set in containers. idle_s: an idle
    container is kept warm so long; linger_s: a worker without work keeps its container so long. pids: processes and
    threads in a container at a time; tmp_mb: size of its /tmp.
    """

    name: ClassVar[str] = "docker"
    by_kind: ClassVar[bool] = True
    cap: int = field(default_factory=usable_cpus)
    cpus: float = 1.0
    memory_mb: int = 1024
    total_memory_mb: int | None = None
    base: str | None = None
    image: str | None = None
    requirements: str | os.PathLike[str] | Iterable[str] = ()
    mounts: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] = ()
    network: str | None = None
    environment: Mapping[str, str] = field(
        default_factory=dict, repr=False
    )  # values may be secrets
    idle_s: float = 60.0
    linger_s: float = 0.5
    pids: int = 256
    tmp_mb: int = 256

    def __post_init__(self) -> None:
        """Refuse a launcher that could run nothing; read files and paths now, so that errors come where they are."""
        check_numbers(
            self,
            {"cap": 1, "memory_mb": LEAST_MB, "pids": 16, "tmp_mb": 1, "total_memory_mb": LEAST_MB},
        )
        check_numbers(self, {"cpus": 0.01, "idle_s": 0.0, "linger_s": 0.0})
        check_names(self, ("base", "image", "network"))
        keep = functools.partial(object.__setattr__, self)
        keep("requirements", requirements_from(self.requirements))
        keep("mounts", mounts_of(self.mounts))
        keep("environment", environment_of(self.environment))
        if self.image is not None and self._requirements:
            raise ConfigError(
                "Docker(image=..., requirements=...): an image of your own must hold its packages."
            )

    async def default_store(self) -> str:
        """URL of the embedded server, which the agent starts when there is none."""
        return await store_url()

    async def pool(self, needs: Collection[Resources] = ()) -> Pool:
        """The caps, and what is warm for these needs."""
        seats = [seat for seat in await self._seats() if seat["state"] == "idle"]
        warm = dict.fromkeys(needs, 0)
        if seats:
            place = store_place(await store_url())
            for resources in needs:
                spec = await asyncio.to_thread(self._spec, resources, place, None)
                warm[resources] = sum(seat["key"] == spec.key for seat in seats)
        return Pool(
            cap=self.cap,
            memory_mb=self.total_memory_mb,
            warm={r: n for r, n in warm.items() if n},
            eager=False,
            linger_s=self.linger_s,
            keep_alive_s=self.idle_s,
            worker_memory_mb=self.memory_mb,
        )

    async def prepare(self, needs: Collection[Resources], tell: Callable[[str], None]) -> None:
        """Make the images these needs ask for, unless they are there. Raises ConfigError, LaunchError."""
        await asyncio.to_thread(
            engine.size
        )  # before a process is started for an engine that is not there
        asking = asyncio.ensure_future(self._ask(start=True, op="staff"))
        try:
            await asyncio.to_thread(self._prepare, needs, tell)
            await asking
        finally:
            asking.cancel()  # where images fail nobody awaits it, and the interpreter would complain at its end
            await asyncio.gather(asking, return_exceptions=True)

    async def prewarm(self, resources: Resources, n: int) -> int:
        """Start containers and import what workers need. Returns how many are idle then; the cap may allow fewer."""
        await self.prepare([resources], lambda line: None)
        place = store_place(await self.default_store())
        terms = await asyncio.to_thread(self._terms, [resources], place)
        answer = await self._ask(start=True, op="prewarm", n=n, terms=terms)
        return int(answer["warm"])

    async def launch(self, invocation: Invocation, needs: Collection[Resources] = ()) -> None:
        """Have the agent's fleet follow the run. Raises LaunchError."""
        place = store_place(invocation.store)
        around = Surroundings.of_this_process().portable().to_dict()
        await ask_agent(
            "launch",
            invocation=replace(invocation, surroundings=around).to_json(),
            inside=place.url,
            terms=await asyncio.to_thread(self._terms, needs, place),
            **_host(),
        )

    async def stop(self, run: str) -> None:
        """End the containers that work for the run."""
        await ask_agent("stop", run=run)

    async def ensure_hosted(self, run: str) -> None:
        """See Hosting.ensure_hosted."""
        await ensure_hosted(run)

    async def seats(self) -> tuple[WorkerSlot, ...]:
        """The containers of this user: as the engine lists them, with what the fleet says of its own."""
        staff = {told["name"]: told for told in await self._seats()}
        listed = await asyncio.to_thread(_listed)
        return tuple(
            _seat({**listed.get(name, {}), **staff.get(name, {})})
            for name in dict.fromkeys([*staff, *listed])
        )

    @property
    def _requirements(self) -> tuple[str, ...]:
        """As __post_init__ left them."""
        return cast(tuple[str, ...], self.requirements)

    # ---- parts --------------------------------------------------------------------------------------------------

    async def _seats(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        with contextlib.suppress(LaunchError):  # it died just now, and will be there again
            found = (await self._ask(start=False, op="staff")).get("staff", [])
        return found

    async def _ask(self, *, start: bool, **about: Any) -> dict[str, Any]:
        ask = ask_agent if start else ask_running
        return await ask("ask", start=start, about=about, **_host())

    def _prepare(self, needs: Collection[Resources], tell: Callable[[str], None]) -> None:
        n_cpus, memory_mb = engine.size()
        if engine.is_here():  # else the folders are those of another machine
            check_writable(cast(tuple[Mount, ...], self.mounts), _user())
        if self.image is not None:
            engine.require(self.image)
        for resources in needs:
            cpus, wanted_mb = resources.cpus or self.cpus, resources.memory_mb or self.memory_mb
            limit_mb = min(memory_mb, self.total_memory_mb or memory_mb)
            if cpus > n_cpus:
                raise ConfigError(
                    f"Resources(cpus={cpus:g}): the engine has {n_cpus} CPUs. Ask for fewer."
                )
            if not LEAST_MB <= wanted_mb <= limit_mb:
                raise ConfigError(
                    f"Resources(memory_mb={wanted_mb}): a container may have {LEAST_MB} to {limit_mb} MB here. "
                    "Ask for that, or change Docker(total_memory_mb=...)."
                )
            if self.image is None:
                images.ensure(self._recipe(resources), tell)

    def _recipe(self, resources: Resources) -> images.Recipe:
        wanted = parse((*self._requirements, *resources.requirements))
        return images.Recipe(base=self.base or images.default_base(), requirements=wanted)

    def _terms(self, needs: Collection[Resources], place: StorePlace) -> dict[str, Any]:
        """See follower.Terms."""
        specs = {
            resources.kind: self._spec(resources, place, lambda line: None) for resources in needs
        }
        return {
            "kinds": {kind: spec.to_json() for kind, spec in specs.items()},
            "cap": self.cap,
            "memory_mb": self.total_memory_mb or engine.size()[1],
            "idle_s": self.idle_s,
            "linger_s": self.linger_s,
        }

    def _spec(
        self, resources: Resources, place: StorePlace, tell: Callable[[str], None] | None
    ) -> Spec:
        """tell None: an image that is not there is not made, and no container is of that spec."""
        image = self.image
        if image is None:
            recipe = self._recipe(resources)
            image = images.ensure(recipe, tell) if tell else images.find(recipe) or "?"
        network = self.network or (
            "bridge" if resources.network and place.network == "none" else place.network
        )
        return Spec(
            image=image,
            cpus=float(resources.cpus or self.cpus),
            memory_mb=resources.memory_mb or self.memory_mb,
            network=network,
            user=_user(),
            mounts=(*place.mounts, *cast(tuple[Mount, ...], self.mounts)),
            environment=cast(tuple[tuple[str, str], ...], self.environment),
            pids=self.pids,
            tmp_mb=self.tmp_mb,
        )


def _user() -> str:
    """As whom tasks run in containers: as this user, but never as root."""
    return f"{os.getuid()}:{os.getgid()}" if os.getuid() else "65534:65534"


def _host() -> dict[str, Any]:
    """Which process is meant that owns containers: of which interpreter, code and engine."""
    variables = tuple((name, os.environ.get(name, "")) for name in engine.VARIABLES)
    start = PythonStart(variables=variables, folders=own_folders())
    return HostKey(Docker.name, interpreter(), code_mark(), start).to_dict()


def _listed() -> dict[str, dict[str, Any]]:
    """The containers of this user by name, whoever has them; none where no engine answers."""
    home = labels.home_mark(runtime_directory())
    try:
        found = engine.connect().api.containers(
            all=True, filters={"label": f"{labels.HOME}={home}"}
        )
    except (docker.errors.DockerException, requests.RequestException, LaunchError):
        return {}
    told = {}
    for container in found:
        known, spec = container["Labels"], Spec.from_json(container["Labels"][labels.SPEC])
        told[known[labels.NAME]] = {
            "listed": container["Names"][0].removeprefix("/")
            if container["Names"]
            else known[labels.NAME],
            "labels": tuple((name, known[name]) for name in _SHOWN if name in known),
            "cpus": spec.cpus,
            "memory_mb": spec.memory_mb,
            "image": spec.image,
            "age_s": time.time() - container["Created"],
        }
    return told


def _seat(told: dict[str, Any]) -> WorkerSlot:
    return WorkerSlot(
        name=told.get("listed") or told["name"],
        platform=Docker.name,
        what="container",
        state=told.get("state", "elsewhere"),
        run=told.get("run", ""),
        worker=told.get("worker", ""),
        cpus=told["cpus"],
        memory_mb=told["memory_mb"],
        made_of=told["image"],
        age_s=told["age_s"],
        n_lent=told.get("n_lent", 0),
        last_run=told.get("last_run", ""),
        labels=told.get("labels", ()),
    )
