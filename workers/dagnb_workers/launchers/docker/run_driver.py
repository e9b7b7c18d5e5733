"""The driver of one run on containers: asks the store for its demand, reports containers that died.

It decides nothing about tasks, and nothing about containers: the store's `demand` says for how many
workers ready tasks wait, and allocation.py which container each of these gets.

    store --demand--> driver --requests--> fleet: allocate --lend--> container: spawn a supervisor
                        ^                                                |
                        +------- a worker registered, or the container died

The driver looks again when the store hints that the demand changed, when the fleet wakes it, and
every LOOK_S, because a hint may be lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import (
    Awaitable,
    Callable,
    Iterable,
    Mapping,
)
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from dagnb.errors import (
    DagnbError,
    RunMissingError,
    StorageError,
    VersionMismatchError,
)
from dagnb.failure import WORKER_DIED, TaskError
from dagnb.protocol.invocation import Invocation
from dagnb.protocol.messages import (
    HELD,
    Charge,
    Death,
    Demand,
    RunState,
)
from dagnb.storage import segments
from dagnb.storage.broker import Request, RunFiles, secret_of
from dagnb.storage.interface import Store
from dagnb.storage.open import open_store_of
from dagnb_workers.hosting.run_locks import RunRecord, acquire_lock
from dagnb_workers.launchers.docker.allocation import ContainerRequest
from dagnb_workers.launchers.docker.container import Container
from dagnb_workers.launchers.docker.container_exits import ContainerExit
from dagnb_workers.launchers.docker.spec import Spec
from dagnb_workers.worker.retry import until_available

LOOK_S = 2.0

# Seconds to wait for the lock, which an earlier host of the run may still hold.
LOCK_S = 5.0

# Seconds after a hint in which resting workers may take ready tasks, before the demand is read.
SETTLE_S = 0.005

# Containers in a row that may fail to work for a run before it is cancelled.
MAX_FAILURES = 5

# Seconds for which a run waits for an engine that is out of reach.
ENGINE_GONE_S = 120.0

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverSettings:
    """The settings of the user's launcher that concern containers: see launcher.Docker.

    kinds: kind of resources -> spec of the containers for it. idle_s: seconds for which an idle
    container is kept. linger_s: seconds for which an idle worker keeps its container.
    """

    kinds: Mapping[str, Spec]
    cap: int
    memory_mb: int
    idle_s: float
    linger_s: float

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> DriverSettings:
        """Returns the settings that launcher.Docker wrote; each spec in the fields is JSON text."""
        kinds = {kind: Spec.from_json(spec) for kind, spec in fields["kinds"].items()}
        return cls(**{**fields, "kinds": kinds})


@dataclass(slots=True, eq=False)
class RunDriver:
    """The driver of one run.

    store_url: URL of the store as containers see it. broker: its socket, as they see it.
    directory: the runtime directory. reallocate: makes the fleet decide again.
    demand: the store's latest answer. blocked_until: after a failure, monotonic seconds before
    which the driver requests nothing. n_failures: failures in a row. engine_gone_at: monotonic
    seconds since which the engine is out of reach, 0 while it answers. is_over: set to end the
    driver.
    """

    record: RunRecord
    invocation: Invocation
    store_url: str
    broker: str
    directory: Path
    settings: DriverSettings
    reallocate: Callable[[], None]
    demand: Demand | None = None
    blocked_until: float = 0.0
    n_failures: int = 0
    engine_gone_at: float = 0.0
    is_over: bool = False
    _asked_at: dict[str, float] = field(default_factory=dict)
    _woken: asyncio.Event = field(default_factory=asyncio.Event)
    _store: Store | None = None
    _files: RunFiles | None = None

    @property
    def run(self) -> str:
        """The run's id."""
        return self.invocation.run

    async def drive(self, release: Callable[[str], Awaitable[None]]) -> None:
        """Drive the run from its launch to its end. release: called to take its containers back."""
        lock = await asyncio.to_thread(acquire_lock, self.record.lock_file, wait_s=LOCK_S)
        if lock is None:
            return  # another host drives it
        self.record.write_holder(lock)
        made = segments.make(self.directory, self.run, self.invocation.segment_bytes)
        files = self._files = RunFiles(made)
        try:
            await self._watch()
        except RunMissingError:
            _log.warning("run %s is given up: the store does not know it any more", self.run)
        except StorageError as error:
            _log.warning("run %s is given up: %s", self.run, error)
        finally:
            self.is_over, self.demand = True, None
            await release(self.run)
            files.close()
            # Before the record: the agent removes those that are left of runs without a record.
            await asyncio.to_thread(segments.remove, self.directory, self.run)
            # Last, because the agent restarts a run that has a record and no process.
            self.record.remove()
            os.close(lock)
            if self._store is not None:
                await self._store.close()

    async def _watch(self) -> None:
        while True:
            demand = await self._ask(lambda store: store.demand(self.run))
            if demand.state is not RunState.RUNNING or self.is_over:
                return
            self._note_demand(demand)
            self.reallocate()
            self._woken.clear()
            await self._wait_for_change()

    async def _wait_for_change(self) -> None:
        """Wait for a hint of the store, a call of `wake`, or LOOK_S."""
        hint = asyncio.ensure_future(self._ask(lambda store: store.wait_demand(self.run, LOOK_S)))
        woken = asyncio.ensure_future(self._woken.wait())
        try:
            await asyncio.wait((hint, woken), return_when=asyncio.FIRST_COMPLETED)
            if hint.done():
                hint.result()  # raises its error
                await asyncio.sleep(SETTLE_S)
        finally:
            for task in (hint, woken):
                task.cancel()
            await asyncio.gather(hint, woken, return_exceptions=True)

    def _note_demand(self, demand: Demand) -> None:
        # A start counts from the moment at which its kind was first in demand. For the first kinds
        # of a run that is its launch.
        first_at = self.invocation.asked_at if self.demand is None else demand.now
        self.demand = demand
        first_at = first_at or demand.now
        self._asked_at = {kind: self._asked_at.get(kind, first_at) for kind in demand.wanted}

    # ---- for the fleet ---------------------------------------------------------------------------

    def wake(self) -> None:
        """Ask the store for the demand now."""
        self._woken.set()

    def files_for(self, request: Request) -> RunFiles | None:
        """Returns the run's files for a container that works for it; None if it has no right."""
        is_allowed = not self.is_over and request.is_signed(self.invocation.broker_key)
        return self._files if is_allowed else None

    def requests(self) -> Iterable[ContainerRequest]:
        """Yields one request for each kind in the latest demand."""
        if self.demand is None or time.monotonic() < self.blocked_until:
            return
        instances = self.demand.instances.values()
        for kind, n_wanted in self.demand.wanted.items():
            # Resting instances, which staff no worker, will take ready tasks without a request.
            n = n_wanted - sum(instance == (kind, "") for instance in instances)
            if n > 0 and kind in self.settings.kinds:
                yield ContainerRequest(
                    run=self.run,
                    kind=kind,
                    spec=self.settings.kinds[kind],
                    n=n,
                )

    def worker_in(self, container: Container) -> str | None:
        """Returns the worker that a container staffs: '' for none yet, None before it registers."""
        if self.demand is not None:
            for instance, (_, worker) in self.demand.instances.items():
                if _is_in(instance, container):
                    return worker
        return None

    def lend_request(self, container: Container) -> dict[str, Any]:
        """Returns the request to a container's first process to work for this run."""
        is_cold = bool(container.phases)
        now = self.demand.now if self.demand else 0.0
        invocation = replace(
            self.invocation,
            n_workers=1,
            segment_bytes=0,  # the container makes no directory of its own
            broker=self.broker if self.invocation.segment_bytes else "",
            broker_key=secret_of(self.invocation.broker_key, container.name),
            kind=container.kind,
            store=self.store_url,
            cpus=container.spec.cpus,
            linger_s=self.settings.linger_s,
            place=container.name,
            asked_at=self._asked_at.get(container.kind, now),
            start="cold" if is_cold else "warm",
            phases=container.phases,
            sent_at=time.time(),
        )
        return {"spawn": "run", "name": self.run, "args": {"invocation": invocation.to_json()}}

    async def refuses(self, versions: str) -> bool:
        """Returns whether a container with these versions could not read what was pickled here.

        If so, the run is cancelled: all containers of the image have these versions.
        """
        if versions == self.invocation.versions:
            return False
        await self._cancel(str(VersionMismatchError(versions, self.invocation.versions)))
        return True

    async def on_failure(
        self, reason: str, *, weight: int = 1, is_engine_gone: bool = False
    ) -> None:
        """Count a failure: pause requests, longer each time; cancel after MAX_FAILURES in a row.

        weight: number of failures for which this one counts. is_engine_gone: the failure does not
        count, but the run is cancelled when the engine is out of reach for ENGINE_GONE_S.
        """
        now = time.monotonic()
        self.blocked_until = now + min(2.0, 0.1 * 2 ** (self.n_failures + 1))
        if is_engine_gone:
            self.engine_gone_at = self.engine_gone_at or now
            if now - self.engine_gone_at > ENGINE_GONE_S:
                await self._cancel(
                    f"the Docker engine stayed out of reach for {ENGINE_GONE_S:g} s: {reason}"
                )
            return

        self.n_failures += weight
        if self.n_failures >= MAX_FAILURES:
            n = -(-self.n_failures // weight)
            what = f"{n} containers in a row" if n > 1 else "a container"
            await self._cancel(f"{what} did not start: {reason}")

    async def on_exit(self, container: Container, ended: ContainerExit) -> None:
        """Report all instances of a container that is gone as dead. ended: its exit, as proof."""
        with contextlib.suppress(StorageError):
            # The latest demand may be older than an instance that registered just before.
            demand = await self._ask(lambda store: store.demand(self.run))
            for instance, (_, worker) in demand.instances.items():
                if _is_in(instance, container):
                    await self._report(_death_of(instance, worker, container, ended))
        self.wake()

    # ---- parts -----------------------------------------------------------------------------------

    async def _report(self, death: Death) -> None:
        await self._ask(lambda store: store.dead(self.run, death))

    async def _cancel(self, reason: str) -> None:
        _log.warning("run %s is given up: %s", self.run, reason)
        with contextlib.suppress(DagnbError):
            await self._ask(lambda store: store.cancel(self.run, reason))
        self.wake()

    async def _ask(self, request: Callable[[Store], Awaitable[_T]]) -> _T:
        async def ask() -> _T:
            if self._store is None:
                self._store = await open_store_of(self.invocation)
            return await request(self._store)

        return await until_available(ask)


def _is_in(instance: str, container: Container) -> bool:
    # The supervisor in a container begins the names of its instances with Invocation.place.
    return instance.startswith(f"{container.name}-")


def _death_of(instance: str, worker: str, container: Container, ended: ContainerExit) -> Death:
    code = ended.code
    how = "was removed or killed"
    if ended.is_out_of_memory:
        how = (
            f"ran out of memory: it may use {container.spec.memory_mb} MB. "
            "Give it more with Resources(memory_mb=...)"
        )
    elif code == 128 + 9:
        how = f"ended with exit code {code}: it was killed"
    elif code is not None:
        how = f"ended with exit code {code}"

    error = TaskError(
        worker=worker or instance,
        type=WORKER_DIED,
        message=f"the container of this worker, {container.name}, {how}",
        exit_code=code,
        stderr_tail=container.stderr,
        at=time.time(),
    )
    # Only if memory ran out, the task is charged: otherwise the container may have been killed for
    # any reason. HELD means the task that the instance held, which only the store knows now.
    charge = Charge.CRASH if ended.is_out_of_memory else Charge.LOSS
    return Death(
        instance=instance,
        task=HELD,
        charge=charge,
        error=error.to_json(),
        delay_s=0.0,
    )
