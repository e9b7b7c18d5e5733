"""The process beside the workers of one run: sends their heartbeats, keeps limits, reports deaths.

It runs no user code, so no task can block it. It decides nothing about tasks: the store's scripts
decide what a death means for a task. The process has one event loop; each section below is about
one asyncio task, and all of these end when `_over` is set.

Heartbeats
----------
Leases belong to instances, and the supervisor renews them, all in one call every `heartbeat_s`. A
task that holds the GIL for minutes therefore loses nothing. The answer also says whether the run
is over. A cancelled run must stop at once, not at the next heartbeat: `_await_end` waits for the
store's hint and then has a heartbeat sent early. The hint alone ends nothing, because it may be
lost or late; only the answer to a heartbeat counts.

Limits
------
Every LOOK_S the shared status of each worker is read (no system call):

    a task runs longer than its limit        SIGINT; after 1 s SIGTERM; after 2 s SIGKILL
    a task runs for 2 LONG_S, others of its  the others are given back to the store, for other
    batch wait behind it                     workers (see protocol/worker.py)
    the worker is idle for `linger_s`        SIGKILL, where workers leave (containers); see below
    the worker printed much                  the oldest output is dropped

An idle worker may be handed a task at the moment at which it is killed. That death is reported as a
loss, not as a crash: the task goes back to its queue, and no retry is used up.

Deaths
------
Exits are reported by the fork server, the parent of the workers, so they are certain.

    exit                                        reported as           then
    code 0, no task                             (heartbeat first: the run is most likely over)
    killed because it was idle                  a loss                the last such exit ends all
    any other, the store knew the instance      a crash or timeout    another worker is started
    any other, the store did not know it        -                     a failed start

A failed start is repeated after 0.2, 0.4, 0.8, 1.6 s. MAX_FAILED_STARTS in a row cancel the run:
otherwise a worker that cannot import dagnb, for example, would be started for ever. A heartbeat
that shows a worker with a task resets the count.

The supervisor itself
---------------------
If it is killed, its lock is freed (run_locks.py), the agent starts another one, and that one first
reports the instances of the earlier one as lost (`orphans`), so that their tasks need not wait for
leases to run out. A store that stays out of reach for GIVE_UP_S ends the supervisor.

Worker processes
----------------
Workers send no messages to their supervisor. It reads memory that a worker shares with it, files
that the worker prints to, and counters of the kernel. So it also notices a task that blocks
everything in its process, or kills it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import signal
import time
from collections.abc import (
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from dagnb.errors import (
    LaunchError,
    RunMissingError,
    StorageError,
    StorageLostError,
)
from dagnb.planning.plan import LONG_S
from dagnb.protocol.invocation import Invocation
from dagnb.protocol.messages import Death, RunState, Status
from dagnb.protocol.worker import LOOK_S
from dagnb.storage.interface import Store
from dagnb.storage.open import open_store_of
from dagnb_workers.hosting import crash
from dagnb_workers.hosting.fork_server import Exit, ForkServerClient
from dagnb_workers.surroundings.output import TAIL_BYTES, Capture
from dagnb_workers.worker.retry import STORE_GONE
from dagnb_workers.worker.shared_status import SharedStatus

# (seconds after its time limit, signal that a task gets then if it still runs)
OVERTIME = ((0.0, signal.SIGINT), (1.0, signal.SIGTERM), (2.0, signal.SIGKILL))

_MACHINE = (Path("/proc/vmstat"),)
_CONTAINER = (
    Path("/sys/fs/cgroup/memory.events"),  # version 2 of cgroups
    Path("/sys/fs/cgroup/memory/memory.oom_control"),  # version 1
)
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))

# Without a limit, version 1 of cgroups shows a number of about this size.
_NO_LIMIT = 1 << 60


@dataclass(slots=True)
class WorkerProcess:
    """One worker process. is_leaving: whether it was killed because it was idle.

    _signalled: (task, attempt) that the overtime signals were for; _n_signals: how many it got.
    _relieved: (task, attempt) behind which tasks were given back.
    """

    instance: str
    status: SharedStatus = field(default_factory=SharedStatus.create)
    capture: Capture = field(default_factory=Capture.create)
    is_leaving: bool = False
    _signalled: tuple[int, int] = (-1, -1)
    _n_signals: int = 0
    _relieved: tuple[int, int] = (-1, -1)
    _idle_since: float | None = None
    _imports_end: int = 0

    def new_imports(self) -> dict[str, float]:
        """Returns the modules that tasks have imported since the last call, and the seconds."""
        imports, self._imports_end = self.status.imports(self._imports_end)
        return imports

    @property
    def fds(self) -> tuple[int, int, int]:
        """The descriptors that travel to the worker: shared status, stdout, stderr."""
        return (self.status.fd, self.capture.stdout, self.capture.stderr)

    def close(self) -> None:
        """Release memory and descriptors on this side."""
        self.status.close()
        self.capture.close()

    def is_busy(self) -> bool:
        """Returns whether the worker has a task, or has not had an answer of the store yet."""
        return not self.status.has_asked() or self.status.read() is not None

    def overtime_signal(self) -> signal.Signals | None:
        """Returns the next signal for a task that runs too long, each signal once; None for none.

        Marks the attempt in the shared status first, so that the worker can tell this interrupt
        from one of the user's.
        """
        running = self.status.read()
        if running is None or running.limit_s <= 0:
            return None

        attempt = (running.task, running.attempt)
        if self._signalled != attempt:
            self._signalled, self._n_signals = attempt, 0
        if self._n_signals >= len(OVERTIME):
            return None

        after_s, number = OVERTIME[self._n_signals]
        if time.monotonic() - running.started - running.limit_s < after_s:
            return None
        self.status.flag_timeout(running.task, running.attempt)
        self._n_signals += 1
        return number

    def task_to_relieve(self) -> tuple[int, int] | None:
        """Returns the task and attempt that keep other tasks of their batch waiting, once each.

        Twice LONG_S, so that no rounding lets the worker take its own time for shorter than that.
        """
        running = self.status.read()
        if running is None or running.n_behind == 0:
            return None
        attempt = (running.task, running.attempt)
        if attempt == self._relieved or time.monotonic() - running.started < 2 * LONG_S:
            return None
        self._relieved = attempt
        return attempt

    def has_lingered(self, linger_s: float) -> bool:
        """Returns whether each call of the last `linger_s` seconds has found the worker idle."""
        if self.is_busy():
            self._idle_since = None
            return False
        if self._idle_since is None:
            self._idle_since = time.monotonic()
        return time.monotonic() - self._idle_since >= linger_s


def count_oom_kills(*, in_container: bool) -> int:
    """Returns how many processes of this container or machine the kernel killed for lack of memory.

    The count only grows. 0 where the kernel does not say.
    """
    for line in _lines(_CONTAINER if in_container else _MACHINE):
        if line.startswith("oom_kill "):
            return int(line.split()[1])
    return 0


def container_limit() -> int | None:
    """Returns the bytes that all processes of this container may use; None without a limit."""
    for line in _lines(_LIMITS):
        if line.isdigit() and int(line) < _NO_LIMIT:
            return int(line)
    return None


def _lines(files: Iterable[Path]) -> Iterable[str]:
    for file in files:
        with contextlib.suppress(OSError):
            yield from file.read_text().splitlines()


# Seconds without an answer of the store after which the supervisor gives the run up.
GIVE_UP_S = 60.0

# Seconds that workers have to end by themselves after a run that succeeded.
LEAVE_S = 1.0

# Seconds that interrupted workers have to end before their fork server kills them.
INTERRUPTED_S = 0.5

MAX_FAILED_STARTS = 5

# Signal to a supervisor in a container: another run needs the container, so an idle worker must
# leave at once.
END_WHEN_IDLE = signal.SIGUSR1

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


OnImports = Callable[[Mapping[str, float]], None]
"""notes the modules that tasks imported, and the seconds that each import took"""


def note_nothing(imports: Mapping[str, float]) -> None:
    """Note no import."""


class Supervisor:
    """The supervisor of one run. `supervise` returns when the run is over and no worker is left.

    exit_code: 0, or STORE_GONE when the store stayed out of reach.
    """

    def __init__(
        self,
        invocation: Invocation,
        fork_server: ForkServerClient,
        orphans: Sequence[str] = (),
        on_instances: Callable[[Sequence[str]], None] = lambda instances: None,
        on_imports: OnImports = note_nothing,
    ) -> None:
        """Start nothing yet.

        orphans: instances of an earlier supervisor, all dead. on_instances: called with all
        instances before another one is started. on_imports: called with the modules that tasks
        have imported, soon after their import.
        """
        self._orphans, self._on_instances = orphans, on_instances
        self._on_imports = on_imports
        self._invocation, self._run, self._fork_server = invocation, invocation.run, fork_server
        self._store: Store | None = None
        self._workers: dict[str, WorkerProcess] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._over, self._heartbeat_now = asyncio.Event(), asyncio.Event()
        self._is_given_up = False
        self.exit_code = 0
        self._answered_at = time.monotonic()
        self._n_failed_starts, self._has_started_one, self._all_left = 0, False, False
        self._linger_s = invocation.linger_s
        self._in_container = bool(invocation.place)
        # Earlier kills for want of memory are not the fault of this run's tasks.
        self._n_oom_kills = count_oom_kills(in_container=self._in_container)

    async def supervise(self) -> None:
        """Start the workers, replace those that die until the run is over, then end all."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._fork_server.listen())
            self._group = group
            if self._linger_s is not None:
                loop = asyncio.get_running_loop()
                loop.add_signal_handler(END_WHEN_IDLE, self._end_when_idle)

            # Workers first: the run waits for them.
            for _ in range(self._invocation.n_workers):
                self._start_task(self._start_worker())
            self._start_task(self._send_heartbeats())
            self._start_task(self._await_end())
            self._start_task(self._enforce_limits())
            self._start_task(self._watch_exits())
            self._start_task(self._report_orphans())

            await self._over.wait()
            for task in self._tasks:
                task.cancel()
            await self._end_workers()
        if self._store is not None:
            await self._store.close()

    def _start_task(self, work: Coroutine[None, None, None]) -> None:
        """Run the coroutine as an asyncio task until it ends or the run is over."""
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ---- the run and the store -------------------------------------------------------------------

    async def _send_heartbeats(self) -> None:
        while not self._over.is_set():
            self._heartbeat_now.clear()
            await self._send_heartbeat()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._heartbeat_now.wait(), self._invocation.heartbeat_s)

    async def _send_heartbeat(self) -> None:
        """Renew the leases of all workers in one call; the answer says whether the run is over."""
        # The store answers for each instance in the call. Without any worker, the call names an
        # instance that does not exist, so that STOP still arrives.
        instances = tuple(self._workers) or ("nobody",)
        answers = await self._ask(
            lambda store: store.heartbeat(self._run, instances, lease_s=self._invocation.lease_s)
        )
        if answers is None:
            return
        self._answered_at = time.monotonic()
        if Status.STOP in answers.values():
            self._over.set()
        elif Status.TASKS in answers.values():
            self._n_failed_starts = 0

    async def _await_end(self) -> None:
        """Send a heartbeat at once when the store hints that the run has ended."""
        while not self._over.is_set():
            await self._ask(lambda store: store.wait_end(self._run, self._invocation.heartbeat_s))
            self._heartbeat_now.set()
            await asyncio.sleep(LOOK_S)  # else a store that answers at once keeps this loop busy

    async def _ask(self, request: Callable[[Store], Awaitable[_T]]) -> _T | None:
        """Returns the store's answer, repeating the request while the store is out of reach.

        Returns None when the run is over or given up.
        """
        pause_s = LOOK_S
        while not self._over.is_set():
            try:
                if self._store is None:
                    self._store = await open_store_of(self._invocation)
                return await request(self._store)
            except RunMissingError:
                self._give_up("the store does not know it any more")
            except StorageLostError as error:
                self.exit_code = STORE_GONE
                self._give_up(str(error))
            except StorageError as error:
                # The time counts from the last heartbeat, not from this request, so that all tasks
                # of this event loop give up together.
                if time.monotonic() - self._answered_at > GIVE_UP_S:
                    self.exit_code = STORE_GONE
                    self._give_up(str(error))
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, self._invocation.heartbeat_s)
        return None

    def _give_up(self, reason: str) -> None:
        _log.warning("run %s is given up: %s", self._run, reason)
        self._is_given_up = True
        self._over.set()

    # ---- the workers -----------------------------------------------------------------------------

    async def _start_worker(self, after_s: float = 0.0) -> None:
        """Start one worker. One that cannot be forked counts as a failed start."""
        await asyncio.sleep(after_s)
        # The fleet recognises the instances of a container by this prefix.
        prefix = f"{self._invocation.place}-" if self._invocation.place else ""
        worker = WorkerProcess(f"{prefix}{secrets.token_hex(8)}")
        self._workers[worker.instance] = worker

        # Instances are written before the fork: if this supervisor is killed right after it, the
        # next one knows the orphan.
        self._on_instances(tuple(self._workers))
        args = {"instance": worker.instance, "again": self._has_started_one}
        try:
            await self._fork_server.spawn("worker", worker.instance, args, worker.fds)
        except LaunchError as error:
            self._workers.pop(worker.instance).close()
            await self._on_failed_start(str(error))

    async def _watch_exits(self) -> None:
        while (ended := await self._fork_server.exits.get()) is not None:
            # What the worker left is read before the task starts: the end of the run cancels tasks,
            # even those that have not started yet.
            worker = self._workers.pop(ended.name)
            facts = self._death_facts(worker, ended)
            self._note_imports(worker)
            worker.close()
            self._start_task(self._on_worker_exit(worker, facts))
        raise LaunchError(
            "the workers' fork server died. Another supervisor is started for the run."
        )

    async def _on_worker_exit(self, worker: WorkerProcess, facts: crash.DeathFacts) -> None:
        """Report the death with its proof, then start another worker."""
        if facts.code == 0 and facts.running is None:
            await self._send_heartbeat()  # the worker left by itself: most likely the run is over

        if facts.was_overtime or -facts.code in crash.SIGNALS:
            explained = await self._ask(
                lambda store: crash.with_frames(facts, self._invocation, store)
            )
            facts = explained or facts
        death = crash.report(facts)
        if worker.is_leaving:
            death = crash.loss(worker.instance)
        was_known = await self._report(death)

        if worker.is_leaving:
            self._all_left = not self._workers
            if self._all_left:
                self._over.set()
        elif was_known:
            self._n_failed_starts, self._has_started_one = 0, True
            await self._start_worker()
        elif was_known is not None:
            *_, last_line = facts.printed[1].strip().splitlines() or [""]
            await self._on_failed_start(f"{crash.cause(facts)}. {last_line}")

    def _death_facts(self, worker: WorkerProcess, ended: Exit) -> crash.DeathFacts:
        running = worker.status.read(is_dead=True)
        was_overtime = False
        if running is not None:
            was_overtime = worker.status.timed_out(running.task, running.attempt)

        # faulthandler's report of a crash may be long: it has the lines of every thread.
        n_bytes = crash.MAX_BYTES if -ended.code in crash.SIGNALS else TAIL_BYTES
        n_oom_kills = count_oom_kills(in_container=self._in_container)
        return crash.DeathFacts(
            instance=worker.instance,
            worker=worker.status.staffed(),
            code=ended.code,
            running=running,
            was_overtime=was_overtime,
            ran_out_of_memory=n_oom_kills > self._n_oom_kills,
            memory_bytes=container_limit() if self._in_container else None,
            printed=worker.capture.tails(n_bytes),
            at=time.time(),
        )

    async def _on_failed_start(self, reason: str) -> None:
        """Start another worker after a growing pause; cancel after MAX_FAILED_STARTS in a row."""
        self._n_failed_starts += 1
        if self._n_failed_starts < MAX_FAILED_STARTS:
            await self._start_worker(after_s=0.1 * 2**self._n_failed_starts)
            return
        reason = f"{MAX_FAILED_STARTS} workers in a row died before they began: {reason}"
        await self._ask(lambda store: store.cancel(self._run, reason))
        self._heartbeat_now.set()

    async def _enforce_limits(self) -> None:
        """Look at the status and the output of every worker, twenty times a second."""
        while True:
            # A copy: workers come and go while a signal is being sent.
            for worker in tuple(self._workers.values()):
                worker.capture.trim()
                self._note_imports(worker)
                while (number := worker.overtime_signal()) is not None:
                    await self._fork_server.signal(worker.instance, number)
                if slow := worker.task_to_relieve():
                    self._start_task(self._give_back(worker.instance, *slow))
                if self._linger_s is not None and worker.has_lingered(self._linger_s):
                    worker.is_leaving = True  # before the signal, or its exit would be a crash
                    await self._fork_server.signal(worker.instance, signal.SIGKILL)
            await asyncio.sleep(LOOK_S)

    async def _give_back(self, instance: str, task: int, attempt: int) -> None:
        """Give back to the store the tasks that wait behind one that takes long."""
        await self._ask(lambda store: store.give_back(self._run, instance, task, attempt))

    def _note_imports(self, worker: WorkerProcess) -> None:
        if imports := worker.new_imports():
            self._on_imports(imports)

    def _end_when_idle(self) -> None:
        self._linger_s = 0.0

    async def _report_orphans(self) -> None:
        """Report the instances of an earlier supervisor, so that no task waits for their leases.

        They are certainly dead, because the lock of the run was free.
        """
        for instance in self._orphans:
            await self._report(crash.loss(instance))

    async def _report(self, death: Death) -> bool | None:
        """Returns whether the store knew the instance; None when the run is over."""
        return await self._ask(lambda store: store.dead(self._run, death))

    # ---- the end ---------------------------------------------------------------------------------

    async def _end_workers(self) -> None:
        """Let workers leave, interrupt those that still work, kill those that do not end."""
        # Workers get time to leave only after a success: otherwise their tasks are of no use.
        if not self._is_given_up and not self._all_left:
            if await self._has_succeeded():
                await self._await_exits(LEAVE_S)
            await self._interrupt()
            await self._await_exits(INTERRUPTED_S)

        await self._fork_server.leave()  # which kills what is left
        await self._await_exits(GIVE_UP_S, and_fork_server=True)
        for worker in self._workers.values():
            worker.close()

    async def _has_succeeded(self) -> bool:
        assert self._store is not None
        try:
            return (await self._store.observe(self._run)).state is RunState.OK
        except StorageError:
            return False

    async def _interrupt(self) -> None:
        for worker in self._workers.values():
            if worker.status.read() is not None:
                await self._fork_server.signal(worker.instance, signal.SIGINT)

    async def _await_exits(self, limit_s: float, *, and_fork_server: bool = False) -> None:
        """Wait until no worker is left; with `and_fork_server`, until it has ended too."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while self._workers or and_fork_server:
                    ended = await self._fork_server.exits.get()
                    if ended is None:
                        return
                    if (worker := self._workers.pop(ended.name, None)) is not None:
                        self._note_imports(worker)
                        worker.close()
