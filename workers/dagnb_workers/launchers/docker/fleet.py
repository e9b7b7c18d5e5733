"""The containers of one user and the runs they work for: asks the allotment what to do, and does it.

It holds no state that could be lost: containers are found again by their labels, runs by the ledger.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from dagnb.failure import reason_of
from dagnb.protocol.invocation import Invocation
from dagnb.storage.open import without_secrets
from dagnb_workers.hosting.run_locks import RunRecord
from dagnb_workers.launchers.docker.allocation import ContainerState, Limits, Orders, Want, decide
from dagnb_workers.launchers.docker.container import ENGINE_ERRORS, Container, cure
from dagnb_workers.launchers.docker.container_exits import ContainerExits, Ending
from dagnb_workers.launchers.docker.containers import Containers
from dagnb_workers.launchers.docker.engine import connect
from dagnb_workers.launchers.docker.run_driver import MOST_FAILURES, DriverSettings, RunDriver
from dagnb_workers.launchers.docker.spec import Spec

TICK_S = 0.5
LEAVE_S = 5.0
REGISTER_S = 20.0
"""A worker that has not registered so long after its container was lent will not come any more"""

_log = logging.getLogger(__name__)


class Fleet:
    """All containers of a runtime directory, and the runs they work for."""

    def __init__(self, directory: Path, mark: str) -> None:
        self._directory = directory
        self._containers = Containers(directory, mark, self._hear)
        self._drivers: dict[str, RunDriver] = {}
        self._limits = Limits(cap=1, memory_mb=0)
        self._exits = ContainerExits(self._containers.home)
        self._changed = asyncio.Event()
        self._acts: set[asyncio.Task[None]] = set()
        self._proven: set[str] = set()
        """images of which a container was ready once: what fails later may pass"""

    @property
    def boxes(self) -> tuple[Container, ...]:
        """The containers."""
        return self._containers.boxes

    async def adopt(self) -> None:
        """Take over what an earlier process like this one left at work."""
        await self._containers.adopt()

    async def leave(self) -> None:
        """End all containers."""
        await self._containers.leave()

    def begin(self, act: Coroutine[Any, Any, None]) -> None:
        """Do it beside the rest. What goes wrong in it is its own affair: other runs go on."""
        task = asyncio.create_task(act)
        self._acts.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._acts.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("an act of the fleet failed", exc_info=error)

    # ---- runs ---------------------------------------------------------------------------------------------------

    async def follow(self, run: str, launch: dict[str, Any]) -> None:
        """Give a run what it needs until it is over."""
        follower = self._drivers[run] = RunDriver(
            entry=RunRecord(self._directory, run),
            invocation=Invocation.from_json(launch["invocation"]),
            inside=launch["inside"],
            terms=DriverSettings.of(launch["terms"]),
            settle=self.settle,
        )
        self._limit()
        try:
            await follower.follow(self._retire)
        finally:
            self._drivers.pop(run, None)
            self._limit()
            self.settle()

    async def stop(self, run: str) -> None:
        """End the containers that work for a run. Its follower then sees that it is over."""
        follower = self._drivers.get(run)
        if follower is not None:
            follower.is_over = True
            follower.poke()
        await asyncio.gather(*(self._containers.end(box) for box in self._containers.of(run)))
        self.settle()

    async def prewarm(self, n: int, terms: DriverSettings) -> int:
        """Have so many idle containers of the one spec in the terms, as far as the caps allow. How many are idle then.

        Raises what the engine says.
        """
        ((kind, spec),) = terms.kinds.items()
        self._limits = (
            self._limits if self._drivers else Limits(cap=terms.cap, memory_mb=terms.memory_mb)
        )
        while (
            orders := self._more(kind, spec, n)
        ).end:  # room first; each turn there are fewer idle ones to end
            leaving = [self._containers.box(name) for name in orders.end]
            for box in leaving:
                box.state = ContainerState.ENDING  # at once, else a run may get it before it goes
            await asyncio.gather(*map(self._containers.end, leaving))
        started = [self._containers.new(want, terms.idle_s) for want in orders.start]
        went = await asyncio.gather(*(self._start(box) for box in started), return_exceptions=True)
        for error in went:
            if isinstance(error, BaseException):
                raise error
        return sum(box.spec == spec and box.state is ContainerState.IDLE for box in self.boxes)

    def _more(self, kind: str, spec: Spec, n: int) -> Orders:
        """What to do for so many warm containers of a spec."""
        warm = [
            box
            for box in self.boxes
            if box.spec == spec and not box.run and box.state is not ContainerState.ENDING
        ]
        want = Want(run="", kind=kind, spec=spec, n=min(n, self._limits.cap) - len(warm))
        return decide([box.held() for box in self.boxes], [want], self._limits)

    async def _retire(self, run: str) -> None:
        """A run is over: its workers leave by themselves; who does not is ended with its container."""
        for box in self._containers.of(run):
            if box.state is ContainerState.STARTING:
                box.run, box.is_expected = "", False
        deadline = time.monotonic() + LEAVE_S
        while self._containers.of(run) and time.monotonic() < deadline:
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), TICK_S)
        await asyncio.gather(*(self._containers.end(box) for box in self._containers.of(run)))

    # ---- who gets which container -------------------------------------------------------------------------------

    def settle(self) -> None:
        """Do what is decided by what is known now."""
        for box in self.boxes:
            follower = self._drivers.get(box.run)
            if box.state is ContainerState.LENT and follower is not None:
                is_there, worker = follower.staffed(box.name)
                if is_there:
                    follower.n_failures = 0
                box.is_expected = box.is_expected and not is_there
                box.is_resting = is_there and not worker
                if worker and worker != box.worker:
                    self.begin(box.rename(box.run, worker))
        wants = [want for follower in tuple(self._drivers.values()) for want in follower.wants()]
        orders = decide([box.held() for box in self.boxes], wants, self._limits)
        for name in orders.end:
            self._end(self._containers.box(name))
        for name, want in orders.lend:
            self._lend(self._containers.box(name), want)
        for want in orders.start:
            follower = self._drivers[want.run]
            self.begin(self._start_for(follower, self._containers.new(want, follower.terms.idle_s)))
        for name in orders.hurry:
            self.begin(self._containers.box(name).hurry())
        self._changed.set()

    def _limit(self) -> None:
        """The widest of what the launchers of the runs that go on allow, and what each run may hold."""
        terms = {run: follower.terms for run, follower in self._drivers.items()}
        if terms:
            self._limits = Limits(
                cap=max(term.cap for term in terms.values()),
                memory_mb=max(term.memory_mb for term in terms.values()),
                per_run={run: term.cap for run, term in terms.items()},
            )

    async def _start(self, box: Container) -> None:
        """Start a container, for the run it is meant for or for whoever comes. Raises what the engine says."""
        follower = self._drivers.get(box.run)
        attempt = follower.n_failures + 1 if follower else 1
        await self._containers.start(
            box, attempt=attempt, project=follower.invocation.namespace if follower else ""
        )
        self._proven.add(box.spec.image)
        if box.is_gone:
            await self._containers.end(box)
            self.settle()
        elif (follower := self._drivers.get(box.run)) is not None:
            follower.engine_gone_at = 0.0
            self._lend(box, Want(run=box.run, kind=box.kind, spec=box.spec, n=1))
        else:
            self._rest(box)

    async def _start_for(self, follower: RunDriver, box: Container) -> None:
        try:
            await self._start(box)
        except ENGINE_ERRORS as error:
            is_gone = not await asyncio.to_thread(_answers)
            hopeless = (
                "" if is_gone or box.spec.image in self._proven else cure(error, box.spec.image)
            )
            reason = f"{reason_of(error)}. {hopeless}" if hopeless else reason_of(error)
            weight = MOST_FAILURES if hopeless else 1
            await self._failed(follower, reason, weight=weight, is_engine_gone=is_gone)

    async def _failed(
        self, follower: RunDriver, reason: str, *, weight: int = 1, is_engine_gone: bool = False
    ) -> None:
        await follower.failed(reason, weight=weight, is_engine_gone=is_engine_gone)
        wait_s = max(0.0, follower.blocked_until - time.monotonic())
        asyncio.get_running_loop().call_later(wait_s, self.settle)

    def _lend(self, box: Container, want: Want) -> None:
        follower = self._drivers[want.run]
        box.run, box.kind, box.is_expected, box.is_resting = want.run, want.kind, True, False
        if box.state is ContainerState.STARTING and not box.versions:
            return  # it is lent when it is ready
        box.state, box.idle_s, box.lent_since = (
            ContainerState.LENT,
            follower.terms.idle_s,
            time.monotonic(),
        )
        self.begin(self._send(box, follower, want))

    async def _send(self, box: Container, follower: RunDriver, want: Want) -> None:
        if await follower.refused(box.versions):
            self._rest(box)
            return
        lease, is_called_so = follower.lease(box), box.n_lent == 0 and bool(box.phases)
        box.n_lent, box.last_run, box.phases = box.n_lent + 1, want.run, ()
        await box.send(lease)
        if not is_called_so:
            await box.rename(want.run, want.kind)

    def _rest(self, box: Container) -> None:
        """Nobody needs it now."""
        box.state, box.run, box.kind, box.is_expected, box.is_resting = (
            ContainerState.IDLE,
            "",
            "",
            False,
            False,
        )
        box.phases = ()  # whoever gets it now has a warm start
        box.idle_since = time.monotonic()
        self.settle()

    def _end(self, box: Container) -> None:
        box.state = ContainerState.ENDING
        self.begin(self._end_and_settle(box))

    async def _end_and_settle(self, box: Container) -> None:
        await self._containers.end(box)
        self.settle()

    # ---- news of containers -------------------------------------------------------------------------------------

    def _hear(self, box: Container, news: dict[str, Any]) -> None:
        if "gone" in news:
            box.is_gone = True
            if box.state in (
                ContainerState.IDLE,
                ContainerState.LENT,
            ):  # else whoever starts or ends it learns it
                self._lose(box, "")
        elif box.state is ContainerState.LENT and box.run in (
            news.get("exited"),
            news.get("failed"),
        ):
            if news.get("status") == 0:
                follower = self._drivers.get(box.run)
                self._rest(box)
                if follower is not None:
                    follower.poke()
            else:
                said = f"{news.get('reason', 'its supervisor ended early')}. {box.stderr[-500:]}".strip()
                self._lose(box, f"container {box.name} could not work: {said}")

    def _lose(self, box: Container, fault: str) -> None:
        """A container is gone, or of no use any more. fault: why a container does not come to work, '' for a death."""
        follower = self._drivers.get(box.run) if box.state is ContainerState.LENT else None
        box.state = ContainerState.ENDING
        self.begin(self._on_exit(box, follower, fault))

    async def _on_exit(self, box: Container, follower: RunDriver | None, fault: str) -> None:
        await self._containers.end(box)  # first: who is reported dead must be dead
        if follower is not None:
            await follower.on_exit(box, Ending() if fault else await self._exits.of(box.id))
            if fault:
                await self._failed(
                    follower, fault, weight=MOST_FAILURES // 2 + 1
                )  # each took long to be noticed
        self.settle()

    async def care(self) -> None:
        """End who was idle for too long, or never came to work; let the others know that somebody is here."""
        while True:
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            for box in self.boxes:
                if box.state is ContainerState.IDLE and now - box.idle_since > box.idle_s:
                    self._end(box)
                elif (
                    box.state is ContainerState.LENT
                    and box.is_expected
                    and now - box.lent_since > REGISTER_S
                ):
                    self._lose(box, self._unheard(box))
            if self._containers.is_stuck:
                for follower in tuple(self._drivers.values()):
                    if any(follower.wants()):
                        await self._failed(follower, "it does not answer", is_engine_gone=True)
            await self._containers.adopt()  # which failed, if there was no engine before
            await self._containers.ping()

    def _unheard(self, box: Container) -> str:
        follower = self._drivers.get(box.run)
        store = without_secrets(follower.inside) if follower is not None else "?"
        return (
            f"no worker in container {box.name} registered within {REGISTER_S:g} s: can it reach the store at {store} "
            f"over its network, {box.spec.network!r}? {box.stderr[-500:]}"
        ).strip()


def _answers() -> bool:
    """Whether there is an engine."""
    try:
        return bool(connect().ping())
    except ENGINE_ERRORS:
        return False
