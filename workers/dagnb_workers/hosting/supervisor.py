"""The small process beside the workers of one run: it beats for them, keeps their time limits, sees their deaths.

It runs no user code, so nothing a task does can keep it from its work. It decides nothing about tasks: what a death
means for a task is decided by the store's scripts.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import secrets
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import TypeVar

from dagnb.errors import LaunchError, RunMissingError, StorageError, StorageLostError
from dagnb.protocol.invocation import Invocation
from dagnb.protocol.messages import Charge, Death, RunState, Status
from dagnb.storage.interface import Store
from dagnb.storage.open import open_store
from dagnb_workers.hosting import crash, death_report
from dagnb_workers.hosting.fork_server_client import Exit, ForkServerClient
from dagnb_workers.hosting.memory import container_limit, count_oom_kills
from dagnb_workers.hosting.worker_process import WorkerProcess
from dagnb_workers.surroundings.output import TAIL_BYTES
from dagnb_workers.worker.retry import STORE_GONE

LOOK_S = 0.05
GIVE_UP_S = 60.0
LEAVE_S = 1.0
INTERRUPTED_S = 0.5
MOST_STILLBORN = 5
HURRY = signal.SIGUSR1
"""Tells a supervisor whose workers may linger that somebody else needs the place"""

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class Supervisor:
    """Of one run. `watch_over` returns when the run is over and no worker is left.

    exit_code: 0, or STORE_GONE when the store stayed out of reach.
    """

    def __init__(
        self,
        invocation: Invocation,
        link: ForkServerClient,
        orphans: Sequence[str] = (),
        tell: Callable[[Sequence[str]], None] = lambda instances: None,
    ) -> None:
        """Begin nothing yet. orphans: dead instances of an earlier supervisor. tell: called with all that live."""
        self._orphans, self._tell = orphans, tell
        self._invocation, self._run, self._link = invocation, invocation.run, link
        self._store: Store | None = None
        self._places: dict[str, WorkerProcess] = {}
        self._duties: set[asyncio.Task[None]] = set()
        self._over, self._look = asyncio.Event(), asyncio.Event()
        self._is_lost = False
        self.exit_code = 0
        self._reached = time.monotonic()
        self._n_stillborn, self._has_staffed, self._has_left = 0, False, False
        self._linger_s = invocation.linger_s
        self._is_contained = bool(invocation.place)
        self._n_oom_kills = count_oom_kills(in_container=self._is_contained)

    async def watch_over(self) -> None:
        """Start the workers, keep them going until the run is over, end them."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._link.listen())
            self._group = group
            if self._linger_s is not None:
                asyncio.get_running_loop().add_signal_handler(HURRY, self._hurry)
            duties = (
                self._beat(),
                self._await_end(),
                self._keep_limits(),
                self._replace_the_dead(),
                self._bury_orphans(),
            )
            for _ in range(self._invocation.n_workers):  # first: what a run waits for
                self._begin(self._staff())
            for duty in duties:
                self._begin(duty)
            await self._over.wait()
            for task in self._duties:
                task.cancel()
            await self._dismiss()
        if self._store is not None:
            await self._store.close()

    def _begin(self, duty: Coroutine[None, None, None]) -> None:
        """Do it beside the others, until it is done or the run is over."""
        task = self._group.create_task(duty)
        self._duties.add(task)
        task.add_done_callback(self._duties.discard)

    # ---- the run and the store ----------------------------------------------------------------------------------

    async def _beat(self) -> None:
        """Renew the leases of all workers in one call; the answer tells when the run is over."""
        while not self._over.is_set():
            self._look.clear()
            await self._pulse()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._look.wait(), self._invocation.heartbeat_s)

    async def _pulse(self) -> None:
        instances = tuple(self._places) or (
            "nobody",
        )  # with nobody to answer for, STOP could not be told
        answers = await self._ask(
            lambda store: store.heartbeat(self._run, instances, lease_s=self._invocation.lease_s)
        )
        if answers is None:
            return
        self._reached = time.monotonic()
        if Status.STOP in answers.values():
            self._over.set()
        elif Status.TASKS in answers.values():
            self._n_stillborn = 0

    async def _await_end(self) -> None:
        """Let a cancel reach the workers at once: the store's hint makes the next beat come early."""
        while not self._over.is_set():
            await self._ask(lambda store: store.wait_end(self._run, self._invocation.heartbeat_s))
            self._look.set()
            await asyncio.sleep(LOOK_S)

    async def _ask(self, question: Callable[[Store], Awaitable[_T]]) -> _T | None:
        """The store's answer, waiting for it through an outage; None when the run is over or the store stays away."""
        pause_s = LOOK_S
        while not self._over.is_set():
            try:
                store = await self._open()
                answer = await question(store)
            except RunMissingError:
                self._lose("the store does not know it any more")
            except StorageLostError as error:
                self.exit_code = STORE_GONE
                self._lose(str(error))
            except StorageError as error:
                if time.monotonic() - self._reached > GIVE_UP_S:
                    self.exit_code = STORE_GONE
                    self._lose(str(error))
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, self._invocation.heartbeat_s)
            else:
                return answer
        return None

    async def _open(self) -> Store:
        if self._store is None:
            self._store = await open_store(  # whether it is safe enough was decided where the run was submitted
                self._invocation.store,
                namespace=self._invocation.namespace,
                allow_insecure=True,
                allow_eviction=True,
            )
        return self._store

    def _lose(self, reason: str) -> None:
        _log.warning("run %s is given up: %s", self._run, reason)
        self._is_lost = True
        self._over.set()

    # ---- the workers --------------------------------------------------------------------------------------------

    async def _staff(self, after_s: float = 0.0) -> None:
        """Start one worker. When it cannot be forked, this counts as a worker that died before it began."""
        await asyncio.sleep(after_s)
        prefix = f"{self._invocation.place}-" if self._invocation.place else ""
        place = WorkerProcess(f"{prefix}{secrets.token_hex(8)}")
        self._places[place.instance] = place
        self._tell(tuple(self._places))
        try:
            args = {"instance": place.instance, "again": self._has_staffed}
            await self._link.spawn("worker", place.instance, args, place.fds)
        except LaunchError as error:
            self._places.pop(place.instance).close()
            await self._count_stillborn(str(error))

    async def _replace_the_dead(self) -> None:
        while (ended := await self._link.exits.get()) is not None:
            place = self._places.pop(ended.name)
            self._begin(self._replace(place, ended))
        raise LaunchError(
            "the workers' fork server died. Another supervisor is started for the run."
        )

    async def _replace(self, place: WorkerProcess, ended: Exit) -> None:
        """Report the death with its proof, then start another worker."""
        facts = self._facts(place, ended)
        place.close()
        if facts.code == 0 and facts.running is None:
            await self._pulse()  # it left knowingly; most likely the run is over
        if facts.was_overtime or -facts.code in crash.SIGNALS:
            facts = (
                await self._ask(lambda store: crash.explained(facts, self._invocation, store))
                or facts
            )
        told = death_report.leave(facts) if place.is_leaving else death_report.death(facts)
        known = await self._ask(lambda store: store.dead(self._run, told))
        if place.is_leaving:
            self._has_left = not self._places
            if self._has_left:
                self._over.set()
        elif known:
            self._n_stillborn, self._has_staffed = 0, True
            await self._staff()
        elif known is not None:
            *_, last = facts.printed[1].strip().splitlines() or [""]
            await self._count_stillborn(f"{death_report.cause(facts)}. {last}")

    def _facts(self, place: WorkerProcess, ended: Exit) -> death_report.DeathFacts:
        running = place.page.read(is_dead=True)
        return death_report.DeathFacts(
            instance=place.instance,
            worker=place.page.staffed(),
            code=ended.code,
            running=running,
            was_overtime=running is not None
            and place.page.timed_out(running.task, running.attempt),
            ran_out_of_memory=count_oom_kills(in_container=self._is_contained) > self._n_oom_kills,
            memory_bytes=container_limit() if self._is_contained else None,
            printed=place.capture.tails(
                crash.MOST_BYTES if -ended.code in crash.SIGNALS else TAIL_BYTES
            ),
            at=time.time(),
        )

    async def _count_stillborn(self, reason: str) -> None:
        """Try again, later each time; end the run when workers do not even begin."""
        self._n_stillborn += 1
        if self._n_stillborn < MOST_STILLBORN:
            await self._staff(after_s=0.1 * 2**self._n_stillborn)
            return
        reason = f"{MOST_STILLBORN} workers in a row died before they began: {reason}"
        await self._ask(lambda store: store.cancel(self._run, reason))
        self._look.set()

    async def _keep_limits(self) -> None:
        """Look at every page and every output file, twenty times a second."""
        while True:
            for place in tuple(self._places.values()):
                place.capture.trim()
                while (warning := place.warning()) is not None:
                    await self._link.signal(place.instance, warning)
                if self._linger_s is not None and place.rested(self._linger_s):
                    await self._dismiss_idle(place)
            await asyncio.sleep(LOOK_S)

    async def _dismiss_idle(self, place: WorkerProcess) -> None:
        """End a worker that has nothing to do. Should it get a task just now, that goes back uncharged."""
        place.is_leaving = True
        await self._link.signal(place.instance, signal.SIGKILL)

    def _hurry(self) -> None:
        """Somebody else needs the place: workers leave as soon as they have nothing to do."""
        self._linger_s = 0.0

    async def _bury_orphans(self) -> None:
        """The lock of the run was free, so whoever worked for it is dead: its tasks need not wait for a lease."""
        for instance in self._orphans:
            orphan = Death(instance=instance, task=None, charge=Charge.LOSS, error="{}")
            await self._ask(functools.partial(_report, run=self._run, death=orphan))

    # ---- the end ------------------------------------------------------------------------------------------------

    async def _dismiss(self) -> None:
        """The run is over: let workers leave, interrupt who still works for nothing, end who does not listen."""
        if not self._is_lost and not self._has_left:
            if await self._is_ok():
                await self._await_exits(LEAVE_S)
            await self._interrupt()
            await self._await_exits(INTERRUPTED_S)
        await self._link.leave()
        await self._await_exits(GIVE_UP_S, everything=True)
        for place in self._places.values():
            place.close()

    async def _is_ok(self) -> bool:
        assert self._store is not None
        try:
            return (await self._store.observe(self._run)).state is RunState.OK
        except StorageError:
            return False

    async def _interrupt(self) -> None:
        for place in self._places.values():
            if place.page.read() is not None:
                await self._link.signal(place.instance, signal.SIGINT)

    async def _await_exits(self, limit_s: float, *, everything: bool = False) -> None:
        """Wait until no worker is left; with `everything`, until their nursery has gone too."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while self._places or everything:
                    ended = await self._link.exits.get()
                    if ended is None:
                        return
                    if (place := self._places.pop(ended.name, None)) is not None:
                        place.close()


async def _report(store: Store, run: str, death: Death) -> bool:
    return await store.dead(run, death)
