"""The Docker launcher: workers in containers with the CPUs, memory and packages tasks ask for.

It makes images and sets the limits. The containers belong to the fleet, a process of the agent,
which outlives the notebook's kernel and keeps containers warm between runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import secrets
import time
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Mapping,
)
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
from dagnb.storage.segments import ArraySegment
from dagnb_workers.agent.client import (
    ask_agent,
    ask_running,
    ensure_hosted,
    is_agent_gone,
    store_url,
)
from dagnb_workers.agent.host_key import HostKey
from dagnb_workers.hosting.interpreter import (
    PythonStart,
    code_mark,
    own_folders,
    python_path,
)
from dagnb_workers.launchers.docker import engine
from dagnb_workers.launchers.docker import spec as labels
from dagnb_workers.launchers.docker.image import images
from dagnb_workers.launchers.docker.settings import (
    StoreAccess,
    check_names,
    check_numbers,
    check_writable,
    environment_of,
    mounts_of,
    store_access,
)
from dagnb_workers.launchers.docker.spec import Mount, Spec
from dagnb_workers.launchers.process import (
    check_shared_memory,
    shared_bytes,
    usable_cpus,
)
from dagnb_workers.surroundings.surroundings import Surroundings

# Megabytes that Python, its supervisor and a worker need before any task does anything.
MIN_MEMORY_MB = 64

_SHOWN_LABELS = (labels.RUN, labels.WORKER, labels.INSTANCE)


@dataclass(frozen=True, kw_only=True)
class Docker:
    """Up to `cap` containers at a time for all runs together, with `total_memory_mb` of memory.

    By default these are the number of usable CPUs and the memory of the engine's machine.

    cpus, memory_mb: of a worker whose tasks ask for none. base: image to build on; by default
    $DAGNB_DOCKER_BASE, the image that `dagnb image base` made, or the official Python of this minor
    version. image: an image that holds dagnb already; nothing is built then.
    requirements: packages that all workers have, or the path of a requirements.txt. mounts:
    'folder', 'folder:/where', 'folder:/where:rw'. network: the engine's name of a network that
    tasks may use; by default none. environment: variables set in containers. idle_s: seconds for
    which an idle container is kept warm. linger_s: seconds for which a worker without work keeps
    its container. pids: processes and threads in a container at a time. tmp_mb: size of its /tmp.
    batches: workers take several short tasks at a time; else each task is committed at once.
    shared_memory_mb: of large values of one run at most, as for Processes; None: half of what is
        free when the run starts. 0: all go through the store, as they do to a store that is not
        dagnb's own. A value there does not count against the memory of containers that make or read
        it; what a task changes of it does, in its own container.
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
    # Not in repr: values may be passwords.
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    idle_s: float = 60.0
    linger_s: float = 0.5
    pids: int = 256
    tmp_mb: int = 256
    batches: bool = True
    shared_memory_mb: float | None = None

    def __post_init__(self) -> None:
        """Raises ConfigError for settings with which nothing could run.

        Reads files and paths now, so that the error is raised at the user's line that is wrong.
        """
        check_numbers(self, {"cap": 1, "pids": 16, "tmp_mb": 1})
        check_numbers(self, {"memory_mb": MIN_MEMORY_MB, "total_memory_mb": MIN_MEMORY_MB})
        check_numbers(self, {"cpus": 0.01, "idle_s": 0.0, "linger_s": 0.0})
        check_names(self, ("base", "image", "network"))
        check_shared_memory(self)

        keep = functools.partial(object.__setattr__, self)  # the dataclass is frozen
        keep("requirements", requirements_from(self.requirements))
        keep("mounts", mounts_of(self.mounts))
        keep("environment", environment_of(self.environment))
        if self.image is not None and self._requirements:
            raise ConfigError(
                "Docker(image=..., requirements=...): an image of your own must hold its packages."
            )

    def shared_arrays(self, run: str, store: str) -> ArraySegment:
        """See SharingMemory.shared_arrays."""
        return ArraySegment(runtime_directory(), run, self._segment_bytes(store_access(store)))

    def _segment_bytes(self, access: StoreAccess) -> int:
        """Returns bytes of shared memory that a run may take which is launched now."""
        return shared_bytes(self.shared_memory_mb) if access.has_broker else 0

    async def default_store(self) -> str:
        """Returns the URL of the embedded server, which the agent starts when there is none."""
        return await store_url()

    async def pool(self, needs: Collection[Resources] = ()) -> Pool:
        """Returns the limits, and how many containers are warm for these needs."""
        was_gone = is_agent_gone()  # asking for the store starts the agent
        idle = [fields for fields in await self._ask_fleet() if fields["state"] == "idle"]
        warm = {}
        if idle:  # otherwise looking for images and the store is not worth its time
            access = store_access(await store_url())
            for resources in needs:
                spec = await asyncio.to_thread(self._spec, resources, access, None)
                n_warm = sum(fields["key"] == spec.key for fields in idle)
                if n_warm:
                    warm[resources] = n_warm
        return Pool(
            cap=self.cap,
            memory_mb=self.total_memory_mb,
            warm=warm,
            eager=False,
            linger_s=self.linger_s,
            keep_alive_s=self.idle_s,
            worker_memory_mb=self.memory_mb,
            batches=self.batches,
            is_agent_gone=was_gone,
        )

    async def prepare(self, needs: Collection[Resources], tell: Callable[[str], None]) -> None:
        """Make the images for these needs, unless they exist. Raises ConfigError, LaunchError."""
        # The engine is asked first, so that no process is started for one that is not there.
        await asyncio.to_thread(engine.size)

        # The fleet starts while images are built.
        starting = asyncio.ensure_future(self._ask(start=True, op="staff"))
        try:
            await asyncio.to_thread(self._prepare, needs, tell)
            await starting
        finally:
            # After an error of an image nothing else awaits this task, and asyncio would warn.
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)

    async def prewarm(self, resources: Resources, n: int) -> int:
        """Start containers until `n` are idle, with all imports done.

        Returns the number of idle ones; the limits may allow fewer than `n`.
        """
        await self.prepare([resources], lambda line: None)
        access = store_access(await self.default_store())
        settings = await asyncio.to_thread(self._driver_settings, [resources], access)
        answer = await self._ask(
            start=True,
            op="prewarm",
            n=n,
            terms=settings,
        )
        return int(answer["warm"])

    async def launch(self, invocation: Invocation, needs: Collection[Resources] = ()) -> None:
        """Make the agent's fleet serve the run. Raises LaunchError."""
        access = store_access(invocation.store)
        surroundings = Surroundings.of_this_process().portable().to_dict()
        invocation = replace(
            invocation,
            surroundings=surroundings,
            batches=self.batches,
            segment_bytes=invocation.segment_bytes or self._segment_bytes(access),
            broker_key=secrets.token_hex(16),
        )
        await ask_agent(
            "launch",
            invocation=invocation.to_json(),
            inside=access.url,
            terms=await asyncio.to_thread(self._driver_settings, needs, access),
            **_host(),
        )

    async def stop(self, run: str) -> None:
        """End the containers that work for the run."""
        await ask_agent("stop", run=run)

    async def ensure_hosted(self, run: str) -> None:
        """See Hosting.ensure_hosted."""
        await ensure_hosted(run)

    async def seats(self) -> tuple[WorkerSlot, ...]:
        """Returns the containers of this user: the engine's list, with the fleet's facts added."""
        of_fleet = {fields["name"]: fields for fields in await self._ask_fleet()}
        listed = await asyncio.to_thread(_listed)
        names = dict.fromkeys([*of_fleet, *listed])
        return tuple(_slot(listed.get(name, {}) | of_fleet.get(name, {})) for name in names)

    # ---- parts -----------------------------------------------------------------------------------

    @property
    def _requirements(self) -> tuple[str, ...]:
        """The requirements, as __post_init__ has parsed them."""
        return cast(tuple[str, ...], self.requirements)

    async def _ask_fleet(self) -> list[dict[str, Any]]:
        """Returns the fleet's facts about each of its containers; none while it is not running."""
        containers: list[dict[str, Any]] = []
        with contextlib.suppress(LaunchError):  # the fleet died just now; the agent restarts it
            containers = (await self._ask(start=False, op="staff")).get("staff", [])
        return containers

    async def _ask(self, *, start: bool, **about: Any) -> dict[str, Any]:
        ask = ask_agent if start else ask_running
        return await ask(
            "ask",
            start=start,
            about=about,
            **_host(),
        )

    def _prepare(self, needs: Collection[Resources], tell: Callable[[str], None]) -> None:
        n_cpus, engine_memory_mb = engine.size()
        if engine.is_here():  # otherwise the mounted folders are those of another machine
            check_writable(cast(tuple[Mount, ...], self.mounts), _user())
        if self.image is not None:
            engine.require(self.image)

        limit_mb = min(engine_memory_mb, self.total_memory_mb or engine_memory_mb)
        for resources in needs:
            cpus, memory_mb = resources.cpus or self.cpus, resources.memory_mb or self.memory_mb
            if cpus > n_cpus:
                raise ConfigError(
                    f"Resources(cpus={cpus:g}): the engine has {n_cpus} CPUs. Ask for fewer."
                )
            if not MIN_MEMORY_MB <= memory_mb <= limit_mb:
                raise ConfigError(
                    f"Resources(memory_mb={memory_mb}): a container may have {MIN_MEMORY_MB} to "
                    f"{limit_mb} MB here. Ask for that, or change Docker(total_memory_mb=...)."
                )
            if self.image is None:
                images.ensure(self._recipe(resources), tell)

    def _recipe(self, resources: Resources) -> images.Recipe:
        requirements = parse((*self._requirements, *resources.requirements))
        return images.Recipe(base=self.base or images.default_base(), requirements=requirements)

    def _driver_settings(self, needs: Collection[Resources], access: StoreAccess) -> dict[str, Any]:
        """Returns the settings for the fleet, as run_driver.DriverSettings.of reads them."""
        specs = {each.kind: self._spec(each, access, lambda line: None) for each in needs}
        return {
            "kinds": {kind: spec.to_json() for kind, spec in specs.items()},
            "cap": self.cap,
            "memory_mb": self.total_memory_mb or engine.size()[1],
            "idle_s": self.idle_s,
            "linger_s": self.linger_s,
        }

    def _spec(
        self, resources: Resources, access: StoreAccess, tell: Callable[[str], None] | None
    ) -> Spec:
        """Returns the spec of containers for these resources.

        tell: gets progress of building a missing image. None: it is not built, and the spec is one
        that no container has.
        """
        image = self.image
        if image is None:
            recipe = self._recipe(resources)
            image = images.ensure(recipe, tell) if tell else images.find(recipe) or "?"

        needs_network = resources.network and access.network == "none"
        return Spec(
            image=image,
            cpus=float(resources.cpus or self.cpus),
            memory_mb=resources.memory_mb or self.memory_mb,
            network=self.network or ("bridge" if needs_network else access.network),
            user=_user(),
            mounts=(*access.mounts, *cast(tuple[Mount, ...], self.mounts)),
            environment=cast(tuple[tuple[str, str], ...], self.environment),
            pids=self.pids,
            tmp_mb=self.tmp_mb,
        )


def _user() -> str:
    """Returns 'uid:gid' of tasks in containers: this user's, but never root's."""
    return f"{os.getuid()}:{os.getgid()}" if os.getuid() else "65534:65534"


def _host() -> dict[str, Any]:
    """Returns the fields of the host that owns containers: its interpreter, code and engine."""
    variables = tuple((name, os.environ.get(name, "")) for name in engine.VARIABLES)
    start = PythonStart(variables=variables, folders=own_folders())
    return HostKey(Docker.name, python_path(), code_mark(), start).to_dict()


def _listed() -> dict[str, dict[str, Any]]:
    """Returns the containers of this user by name, of all hosts; none when no engine answers."""
    filters = {"label": f"{labels.HOME}={labels.home_mark(runtime_directory())}"}
    try:
        containers = engine.connect().api.containers(all=True, filters=filters)
    except (docker.errors.DockerException, requests.RequestException, LaunchError):
        return {}

    listed = {}
    for container in containers:
        values = container["Labels"]
        spec = Spec.from_json(values[labels.SPEC])
        # A container that is being removed has no names.
        names = container["Names"] or [values[labels.NAME]]
        listed[values[labels.NAME]] = {
            "listed": names[0].removeprefix("/"),
            "labels": tuple((name, values[name]) for name in _SHOWN_LABELS if name in values),
            "cpus": spec.cpus,
            "memory_mb": spec.memory_mb,
            "image": spec.image,
            "age_s": time.time() - container["Created"],
        }
    return listed


def _slot(fields: dict[str, Any]) -> WorkerSlot:
    return WorkerSlot(
        name=fields.get("listed") or fields["name"],
        platform=Docker.name,
        what="container",
        state=fields.get("state", "elsewhere"),  # else it belongs to the fleet of another host
        run=fields.get("run", ""),
        worker=fields.get("worker", ""),
        cpus=fields["cpus"],
        memory_mb=fields["memory_mb"],
        made_of=fields["image"],
        age_s=fields["age_s"],
        n_lent=fields.get("n_lent", 0),
        last_run=fields.get("last_run", ""),
        labels=fields.get("labels", ()),
    )
