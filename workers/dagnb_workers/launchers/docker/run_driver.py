"""One run on containers: sees whom its tasks need, lends containers to it, tells the store which of them died.

It decides nothing about tasks; which container goes to whom the allotment says.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from dagnb.errors import DagnbError, RunMissingError, StorageError, VersionMismatchError
from dagnb.failure import WORKER_DIED, TaskError
from dagnb.protocol.invocation import Invocation
from dagnb.protocol.messages import HELD, Charge, Death, Demand, RunState
from dagnb.storage.interface import Store
from dagnb.storage.open import open_store
from dagnb_workers.hosting.run_locks import RunRecord, hold
from dagnb_workers.launchers.docker.allocation import Want
from dagnb_workers.launchers.docker.container import Container
from dagnb_workers.launchers.docker.container_exits import Ending
from dagnb_workers.launchers.docker.spec import Spec
from dagnb_workers.worker.retry import until_available

LOOK_S = 2.0
LOCK_S = 5.0
DAMP_S = 0.005
"""So long a worker that rests may take what was just made ready, before anybody asks who else is wanted"""
MOST_FAILURES = 5
ENGINE_GONE_S = 120.0
"""How long a run waits for an engine that is out of reach"""

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverSettings:
    """What the user's launcher says of the containers: see launcher.Docker. kinds: kind -> what such a container is."""

    kinds: Mapping[str, Spec]
    cap: int
    memory_mb: int
    idle_s: float
    linger_s: float

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> DriverSettings:
        """From JSON; the specs in it are JSON themselves."""
        kinds = {kind: Spec.from_json(spec) for kind, spec in told["kinds"].items()}
        return cls(**{**told, "kinds": kinds})


@dataclass(slots=True, eq=False)
class RunDriver:
    """inside: URL of the store as containers see it. settle: have the allotment look again."""

    entry: RunRecord
    invocation: Invocation
    inside: str
    terms: DriverSettings
    settle: Callable[[], None]
    demand: Demand | None = None
    blocked_until: float = 0.0
    n_failures: int = 0
    engine_gone_at: float = 0.0
    is_over: bool = False
    _asked: dict[str, float] = field(default_factory=dict)
    _poked: asyncio.Event = field(default_factory=asyncio.Event)
    _store: Store | None = None

    @property
    def run(self) -> str:
        """The run's id."""
        return self.invocation.run

    async def follow(self, retire: Callable[[str], Awaitable[None]]) -> None:
        """From the launch to the end of the run. retire: gets the run's containers back."""
        lock = await asyncio.to_thread(hold, self.entry.lock, wait_s=LOCK_S)
        if lock is None:
            return
        self.entry.sign(lock)
        try:
            await self._watch()
        except RunMissingError:
            _log.warning("run %s is given up: the store does not know it any more", self.run)
        except StorageError as error:
            _log.warning("run %s is given up: %s", self.run, error)
        finally:
            self.is_over, self.demand = True, None
            await retire(self.run)
            self.entry.strike()
            os.close(lock)
            if self._store is not None:
                await self._store.close()

    async def _watch(self) -> None:
        while True:
            demand = await self._ask(lambda store: store.demand(self.run))
            if demand.state is not RunState.RUNNING or self.is_over:
                return
            self._take_in(demand)
            self.settle()
            self._poked.clear()
            await self._until_news()

    async def _until_news(self) -> None:
        waiting = asyncio.ensure_future(
            self._ask(lambda store: store.wait_demand(self.run, LOOK_S))
        )
        poked = asyncio.ensure_future(self._poked.wait())
        try:
            await asyncio.wait((waiting, poked), return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                waiting.result()
                await asyncio.sleep(DAMP_S)
        finally:
            for task in (waiting, poked):
                task.cancel()
            await asyncio.gather(waiting, poked, return_exceptions=True)

    def _take_in(self, demand: Demand) -> None:
        first_at = self.invocation.asked_at if self.demand is None else demand.now
        self.demand = demand
        self._asked = {
            kind: self._asked.get(kind, first_at or demand.now) for kind in demand.wanted
        }

    # ---- for the fleet ------------------------------------------------------------------------------------------

    def poke(self) -> None:
        """Look again, now."""
        self._poked.set()

    def wants(self) -> Iterable[Want]:
        """What is wanted by the latest look; instances that rest take what is ready by themselves."""
        if self.demand is None or time.monotonic() < self.blocked_until:
            return
        for kind, n in self.demand.wanted.items():
            n_resting = sum(told == (kind, "") for told in self.demand.instances.values())
            if n > n_resting and kind in self.terms.kinds:
                yield Want(run=self.run, kind=kind, spec=self.terms.kinds[kind], n=n - n_resting)

    def staffed(self, box: str) -> tuple[bool, str]:
        """Whether a worker in this container has registered, and whom it staffs, '' for nobody."""
        instances = self.demand.instances if self.demand is not None else {}
        found = [
            worker for instance, (_, worker) in instances.items() if instance.startswith(f"{box}-")
        ]
        return bool(found), found[0] if found else ""

    def lease(self, box: Container) -> dict[str, Any]:
        """What the first process of the container is told: to work for this run."""
        is_cold = bool(box.phases)
        told = replace(
            self.invocation,
            n_workers=1,
            kind=box.kind,
            store=self.inside,
            cpus=box.spec.cpus,
            linger_s=self.terms.linger_s,
            place=box.name,
            asked_at=self._asked.get(box.kind, self.demand.now if self.demand else 0.0),
            start="cold" if is_cold else "warm",
            phases=box.phases if is_cold else (),
            told_at=time.time(),
        )
        return {"spawn": "run", "name": self.run, "args": {"invocation": told.to_json()}}

    async def refused(self, versions: str) -> bool:
        """End the run when what is in a container cannot read what was pickled here. Whether it was so."""
        if versions == self.invocation.versions:
            return False
        await self._cancel(str(VersionMismatchError(versions, self.invocation.versions)))
        return True

    async def failed(self, reason: str, *, weight: int = 1, is_engine_gone: bool = False) -> None:
        """A container did not come to work: try again later, each time later. Give up after MOST_FAILURES in a row.

        weight: how many it counts for. is_engine_gone: count nothing, but give up when none comes back.
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
        if self.n_failures >= MOST_FAILURES:
            n = -(-self.n_failures // weight)
            what = f"{n} containers in a row" if n > 1 else "a container"
            await self._cancel(f"{what} did not start: {reason}")

    async def on_exit(self, box: Container, ending: Ending) -> None:
        """A container is gone with whoever worked in it: tell the store, with the proof."""
        with contextlib.suppress(StorageError):
            demand = await self._ask(lambda store: store.demand(self.run))
            for instance, (_, worker) in demand.instances.items():
                if instance.startswith(f"{box.name}-"):
                    told = _death_of(instance, worker, box, ending)
                    await self._ask(lambda store, told=told: store.dead(self.run, told))  # type: ignore[misc]
        self.poke()

    # ---- parts --------------------------------------------------------------------------------------------------

    async def _cancel(self, reason: str) -> None:
        _log.warning("run %s is given up: %s", self.run, reason)
        with contextlib.suppress(DagnbError):
            await self._ask(lambda store: store.cancel(self.run, reason))
        self.poke()

    async def _ask(self, question: Callable[[Store], Awaitable[_T]]) -> _T:
        async def ask() -> _T:
            if self._store is None:
                self._store = await open_store(
                    self.invocation.store,
                    namespace=self.invocation.namespace,
                    allow_insecure=True,
                    allow_eviction=True,
                )
            return await question(self._store)

        return await until_available(ask)


def _death_of(instance: str, worker: str, box: Container, ending: Ending) -> Death:
    how = "was removed or killed"
    if ending.is_out_of_memory:
        how = f"ran out of memory: it may use {box.spec.memory_mb} MB. Give it more with Resources(memory_mb=...)"
    elif ending.code is not None:
        how = f"ended with exit code {ending.code}" + (
            ": it was killed" if ending.code == 128 + 9 else ""
        )
    error = TaskError(
        worker=worker or instance,
        type=WORKER_DIED,
        message=f"the container of this worker, {box.name}, {how}",
        exit_code=ending.code,
        stderr_tail=box.stderr,
        at=time.time(),
    )
    charge = (
        Charge.CRASH if ending.is_out_of_memory else Charge.LOSS
    )  # who else killed it need not be the task
    return Death(instance=instance, task=HELD, charge=charge, error=error.to_json(), delay_s=0.0)
