"""The fleet: the containers of one user and the runs they work for. Carries out allocations.

The fleet holds no state that must not be lost: containers are found again by their labels, runs by
their records. Everything happens on one event loop, so code without `await` is never interrupted:
`reallocate` reads the state, decides, and updates all containers concerned before anything else can
decide. The slow acts, such as starting a container, then run as asyncio tasks.
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
from dagnb.storage.broker import Broker, Request, RunFiles
from dagnb.storage.embedded import make_socket_folder, socket_folder
from dagnb.storage.open import without_secrets
from dagnb_workers.hosting.run_locks import RunRecord
from dagnb_workers.launchers.docker.allocation import (
    Allocation,
    ContainerRequest,
    ContainerState,
    Limits,
    allocate,
)
from dagnb_workers.launchers.docker.container import ENGINE_ERRORS, Container, cure
from dagnb_workers.launchers.docker.container_exits import ContainerExit, ContainerExits
from dagnb_workers.launchers.docker.containers import Containers
from dagnb_workers.launchers.docker.engine import connect
from dagnb_workers.launchers.docker.run_driver import MAX_FAILURES, DriverSettings, RunDriver
from dagnb_workers.launchers.docker.spec import INSIDE, Spec

TICK_S = 0.5

# Seconds that workers have to leave by themselves after the end of their run.
LEAVE_S = 5.0

# Seconds after which a lent container whose worker has not registered is ended.
REGISTER_S = 20.0

_log = logging.getLogger(__name__)


class Fleet:
    """All containers of a runtime directory and a host, and the runs that they work for.

    _proven_images: images of which a container was ready once; later failures may be temporary.
    """

    def __init__(self, directory: Path, mark: str) -> None:
        self._directory = directory
        # Each host has a socket of its own; one that is restarted has the same.
        self.broker = Broker(socket_folder(directory) / mark, self._files_for)
        self.containers = Containers(directory, mark, self._on_message)
        self._drivers: dict[str, RunDriver] = {}
        self._limits = Limits(cap=1, memory_mb=0)
        self._exits = ContainerExits(self.containers.home)
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._proven_images: set[str] = set()

    def start_task(self, work: Coroutine[Any, Any, None]) -> None:
        """Run the coroutine as an asyncio task. An error in it is logged, and other runs go on."""
        task = asyncio.create_task(work)
        self._tasks.add(task)  # the loop holds only weak references
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a task of the fleet failed", exc_info=error)

    def share_memory(self) -> None:
        """Begin to give the files of segments to containers."""
        try:
            make_socket_folder(self._directory)
            self.broker.listen()
        except OSError as error:
            _log.warning(
                "containers cannot share memory: %s. Large values go through the store, but large "
                "arrays given to tasks cannot be read: Docker(shared_memory_mb=0) stores them.",
                error,
            )
        else:
            self.start_task(self.broker.serve())

    # ---- runs ------------------------------------------------------------------------------------

    async def serve_run(self, run: str, launch: dict[str, Any]) -> None:
        """Give a run the containers that it needs, until it is over."""
        driver = self._drivers[run] = RunDriver(
            record=RunRecord(self._directory, run),
            invocation=Invocation.from_json(launch["invocation"]),
            store_url=launch["inside"],
            broker=f"{INSIDE}/{self.broker.name}",
            directory=self._directory,
            settings=DriverSettings.of(launch["terms"]),
            reallocate=self.reallocate,
        )
        self._update_limits()
        try:
            await driver.drive(self._release)
        finally:
            self._drivers.pop(run, None)
            self._update_limits()
            self.reallocate()

    async def stop(self, run: str) -> None:
        """End the containers of a run now; its driver then sees that it is over."""
        driver = self._drivers.get(run)
        if driver is not None:
            driver.is_over = True
            driver.wake()
        await asyncio.gather(*map(self.containers.end, self.containers.of_run(run)))
        self.reallocate()

    async def prewarm(self, n: int, settings: DriverSettings) -> int:
        """Start containers until `n` of the settings' one spec are idle, or the limits are reached.

        Returns how many are idle then. Raises the engine's error.
        """
        ((kind, spec),) = settings.kinds.items()
        if not self._drivers:  # while there are runs, their limits are in force
            self._limits = Limits(cap=settings.cap, memory_mb=settings.memory_mb)

        # First make room. The loop ends, because each pass leaves fewer idle containers to end.
        while (allocation := self._allocate_warm(kind, spec, n)).end:
            leaving = [self.containers.get(name) for name in allocation.end]
            for container in leaving:
                container.state = ContainerState.ENDING  # before the await, so that no run gets it
            await asyncio.gather(*map(self.containers.end, leaving))

        added = [self.containers.add(each, settings.idle_s) for each in allocation.start]
        # All starts are awaited, so that after an error none goes on without a caller.
        results = await asyncio.gather(*map(self._start, added), return_exceptions=True)
        for error in results:
            if isinstance(error, BaseException):
                raise error
        idle = [c for c in self.containers.all() if c.state is ContainerState.IDLE]
        return sum(container.spec == spec for container in idle)

    def _allocate_warm(self, kind: str, spec: Spec, n: int) -> Allocation:
        """Returns what to do so that `n` containers of a spec are warm."""
        n_warm = sum(container.spec == spec for container in self.containers.of_run(""))
        n_missing = min(n, self._limits.cap) - n_warm
        request = ContainerRequest(
            run="",
            kind=kind,
            spec=spec,
            n=n_missing,
        )
        return self._allocate([request])

    async def _release(self, run: str) -> None:
        """Wait until the workers of a run that is over have left; end containers that remain."""
        # Containers that are still starting have no worker: they become idle when they are ready.
        for container in self.containers.of_run(run):
            if container.state is ContainerState.STARTING:
                container.run, container.is_expected = "", False

        deadline = time.monotonic() + LEAVE_S
        while self.containers.of_run(run) and time.monotonic() < deadline:
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), TICK_S)
        await asyncio.gather(*map(self.containers.end, self.containers.of_run(run)))

    def _files_for(self, request: Request) -> RunFiles | None:
        """Returns the files of a run for a container that is lent to it; None for any other."""
        for container in self.containers.of_run(request.run):
            if container.name == request.place and container.state is ContainerState.LENT:
                driver = self._drivers.get(request.run)
                return driver.files_for(request) if driver is not None else None
        return None

    # ---- allocation ------------------------------------------------------------------------------

    def reallocate(self) -> None:
        """Decide on the allocation with what is known now, and carry it out."""
        for container in self.containers.all():
            driver = self._drivers.get(container.run)
            if container.state is ContainerState.LENT and driver is not None:
                self._note_worker(container, driver)

        requests = [r for driver in self._drivers.values() for r in driver.requests()]
        allocation = self._allocate(requests)
        for name in allocation.end:
            self._end(self.containers.get(name))
        for name, request in allocation.lend:
            self._lend(self.containers.get(name), request)
        for request in allocation.start:
            driver = self._drivers[request.run]
            container = self.containers.add(request, driver.settings.idle_s)
            self.start_task(self._start_for(driver, container))
        for name in allocation.end_when_idle:
            self.start_task(self.containers.get(name).end_when_idle())
        self._changed.set()

    def _note_worker(self, container: Container, driver: RunDriver) -> None:
        """Update a container by what the store says of the worker in it."""
        worker = driver.worker_in(container)
        container.is_resting = worker == ""
        if worker is None:
            return
        driver.n_failures = 0  # a worker that registers proves that containers can work
        container.is_expected = False
        if worker and worker != container.worker:
            self.start_task(container.rename(container.run, worker))

    def _allocate(self, requests: list[ContainerRequest]) -> Allocation:
        return allocate([c.facts() for c in self.containers.all()], requests, self._limits)

    def _update_limits(self) -> None:
        """Take the widest limits of the launchers of all runs, and each run's own number."""
        settings = {run: driver.settings for run, driver in self._drivers.items()}
        # Without any run the last limits stay in force, because containers are still kept warm.
        if settings:
            self._limits = Limits(
                cap=max(each.cap for each in settings.values()),
                memory_mb=max(each.memory_mb for each in settings.values()),
                per_run={run: each.cap for run, each in settings.items()},
            )

    # ---- start, lend, return, end ----------------------------------------------------------------

    async def _start(self, container: Container) -> None:
        """Start a container, then lend it or keep it warm. Raises the engine's error."""
        driver = self._drivers.get(container.run)
        await self.containers.start(
            container,
            attempt=driver.n_failures + 1 if driver else 1,
            project=driver.invocation.namespace if driver else "",
        )
        self._proven_images.add(container.spec.image)

        if container.is_gone:
            await self.containers.end(container)
            self.reallocate()
            return
        # Looked up again: the run may have ended, or the container was given to another meanwhile.
        driver = self._drivers.get(container.run)
        if driver is None:
            self._mark_idle(container)
            return
        driver.engine_gone_at = 0.0
        self._lend(
            container,
            ContainerRequest(
                run=container.run,
                kind=container.kind,
                spec=container.spec,
                n=1,
            ),
        )

    async def _start_for(self, driver: RunDriver, container: Container) -> None:
        try:
            await self._start(container)
        except ENGINE_ERRORS as error:
            is_gone = not await asyncio.to_thread(_engine_answers)
            reason, image = reason_of(error), container.spec.image
            # If every container of the image would fail in the same way, the run is cancelled now.
            may_pass = is_gone or image in self._proven_images
            if not may_pass and (advice := cure(error, image)):
                await self._on_failure(driver, f"{reason}. {advice}", weight=MAX_FAILURES)
            else:
                await self._on_failure(driver, reason, is_engine_gone=is_gone)

    async def _on_failure(
        self, driver: RunDriver, reason: str, *, weight: int = 1, is_engine_gone: bool = False
    ) -> None:
        await driver.on_failure(reason, weight=weight, is_engine_gone=is_engine_gone)
        # The driver requests nothing for a while. Afterwards nothing else may trigger a decision.
        wait_s = max(0.0, driver.blocked_until - time.monotonic())
        asyncio.get_running_loop().call_later(wait_s, self.reallocate)

    def _lend(self, container: Container, request: ContainerRequest) -> None:
        container.run, container.kind = request.run, request.kind
        container.is_expected, container.is_resting = True, False
        if container.state is ContainerState.STARTING and not container.versions:
            return  # `_start` lends it when it is ready

        driver = self._drivers[request.run]
        container.state, container.lent_since = ContainerState.LENT, time.monotonic()
        container.idle_s = driver.settings.idle_s
        self.start_task(self._send_lend_request(container, driver, request))

    async def _send_lend_request(
        self, container: Container, driver: RunDriver, request: ContainerRequest
    ) -> None:
        if await driver.refuses(container.versions):
            self._mark_idle(container)
            return

        lend_request = driver.lend_request(container)
        # A new container was created with the right name.
        has_name = container.n_lent == 0 and bool(container.phases)
        container.n_lent, container.last_run = container.n_lent + 1, request.run
        container.phases = ()
        await container.send(lend_request)
        if not has_name:
            await container.rename(request.run, request.kind)

    def _mark_idle(self, container: Container) -> None:
        """Mark a container idle and forget its run."""
        container.state = ContainerState.IDLE
        container.run, container.kind = "", ""
        container.is_expected, container.is_resting = False, False
        container.phases = ()  # its next start is a warm one
        container.idle_since = time.monotonic()
        self.reallocate()

    def _end(self, container: Container) -> None:
        container.state = ContainerState.ENDING
        self.start_task(self._end_and_reallocate(container))

    async def _end_and_reallocate(self, container: Container) -> None:
        await self.containers.end(container)
        self.reallocate()

    # ---- messages of containers ------------------------------------------------------------------

    def _on_message(self, container: Container, message: dict[str, Any]) -> None:
        if "gone" in message:
            container.is_gone = True
            # In other states the asyncio task that starts or ends the container notices it.
            if container.state in (ContainerState.IDLE, ContainerState.LENT):
                self._discard(container, "")
            return

        has_ended = container.run in (message.get("exited"), message.get("failed"))
        if container.state is not ContainerState.LENT or not has_ended:
            return
        if message.get("status") == 0:
            driver = self._drivers.get(container.run)
            self._mark_idle(container)
            if driver is not None:
                driver.wake()
            return
        reason = message.get("reason", "its supervisor ended early")
        fault = f"container {container.name} could not work: {reason}. {container.stderr[-500:]}"
        self._discard(container, fault.strip())

    def _discard(self, container: Container, fault: str) -> None:
        """End a container that is gone or of no use.

        fault: reason why it never worked for its run, which counts as a failure of the run; '' if
        it died later.
        """
        was_lent = container.state is ContainerState.LENT
        driver = self._drivers.get(container.run) if was_lent else None
        container.state = ContainerState.ENDING
        self.start_task(self._on_exit(container, driver, fault))

    async def _on_exit(self, container: Container, driver: RunDriver | None, fault: str) -> None:
        # Ended first, because only dead instances may be reported as dead. A broken connection does
        # not prove a death; only the engine's answer does.
        await self.containers.end(container)
        if driver is not None:
            ended = ContainerExit() if fault else await self._exits.exit_of(container.id)
            await driver.on_exit(container, ended)
            if fault:
                # Such a failure is noticed late, so that two of them cancel the run already.
                await self._on_failure(driver, fault, weight=MAX_FAILURES // 2 + 1)
        self.reallocate()

    # ---- housekeeping ----------------------------------------------------------------------------

    async def housekeeping(self) -> None:
        """End containers that were idle for too long or never registered; ping the others."""
        while True:
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            for container in self.containers.all():
                is_idle = container.state is ContainerState.IDLE
                is_awaited = container.state is ContainerState.LENT and container.is_expected
                if is_idle and now - container.idle_since > container.idle_s:
                    self._end(container)
                elif is_awaited and now - container.lent_since > REGISTER_S:
                    self._discard(container, self._not_registered(container))

            if self.containers.is_stuck:
                for driver in tuple(self._drivers.values()):
                    if any(driver.requests()):
                        await self._on_failure(driver, "it does not answer", is_engine_gone=True)
            await self.containers.adopt()  # does nothing once an engine has answered
            await self.containers.ping()

    def _not_registered(self, container: Container) -> str:
        driver = self._drivers.get(container.run)
        store = without_secrets(driver.store_url) if driver is not None else "?"
        return (
            f"no worker in container {container.name} registered within {REGISTER_S:g} s: "
            f"can it reach the store at {store} over its network, {container.spec.network!r}? "
            f"{container.stderr[-500:]}"
        ).strip()


def _engine_answers() -> bool:
    try:
        return bool(connect().ping())
    except ENGINE_ERRORS:
        return False
