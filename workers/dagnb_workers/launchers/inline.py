"""Workers in this process: coroutines on the client's loop, functions in threads, the memory store.

They are for small graphs, tests and debugging. Tasks share the client's interpreter, so nothing is
isolated: time limits cannot be enforced, output is not captured, and a crash ends this process.
"""

from __future__ import annotations

import asyncio
import functools
import os
import secrets
from collections.abc import Callable, Collection
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import ClassVar

from dagnb.errors import ConfigError, DagnbError, RunMissingError
from dagnb.graph.resources import Resources
from dagnb.planning.planner import Pool
from dagnb.protocol.invocation import Invocation
from dagnb.protocol.launcher import WorkerSlot
from dagnb.protocol.worker import Worker
from dagnb.storage.open import MEMORY_URL, open_store
from dagnb_workers.launchers.installed import absent
from dagnb_workers.worker.executor import call_in_thread
from dagnb_workers.worker.kept import Result
from dagnb_workers.worker.runtime import CallInputs, Runtime


class _NoWatch:
    """A Watch that does nothing, because a thread cannot be interrupted."""

    def staff(self, worker: str) -> None:
        """Do nothing."""

    def begin(self, task: int, attempt: int, limit_s: float, n_behind: int) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Do nothing."""

    def timed_out(self, task: int, attempt: int) -> bool:
        """Returns False: no attempt is interrupted."""
        return False


_running: dict[str, asyncio.Task[None]] = {}
_of_parents: list[object] = []
"""in a forked process: runs that go on in its parent"""


def _part_from_parent() -> None:
    # The tasks are kept, never freed: ending them in the child would disturb the parent's files.
    _of_parents.append(dict(_running))
    _running.clear()


os.register_at_fork(after_in_child=_part_from_parent)


@dataclass(frozen=True, kw_only=True)
class Inline:
    """Up to `n` functions at a time in this process."""

    name: ClassVar[str] = "inline"
    by_kind: ClassVar[bool] = False
    shares_files: ClassVar[bool] = True
    n: int = field(default_factory=lambda: os.cpu_count() or 1)

    def __post_init__(self) -> None:
        """Raises ConfigError for settings with which nothing could run."""
        if self.n < 1:
            raise ConfigError(f"Inline(n={self.n}): at least one worker is needed.")

    @property
    def cap(self) -> int:
        """Functions that run at a time."""
        return self.n

    async def default_store(self) -> str:
        """Returns the URL of the store of this process."""
        return MEMORY_URL

    async def pool(self, needs: Collection[Resources] = ()) -> Pool:
        """Returns the threads, as a pool of workers."""
        return Pool(cap=self.n, batches=False)

    async def prepare(self, needs: Collection[Resources], tell: Callable[[str], None]) -> None:
        """Check the packages of this process. Raises ConfigError naming those that are missing."""
        missing = absent(
            requirement for resources in needs for requirement in resources.requirements
        )
        if missing:
            raise ConfigError(
                f"{', '.join(missing)} is not installed here. Install it, or take workers='docker'."
            )

    async def prewarm(self, resources: Resources, n: int) -> int:
        """Start nothing: threads start with the run. Returns the number of functions at a time."""
        return min(n, self.n)

    async def seats(self) -> tuple[WorkerSlot, ...]:
        """Returns one slot for each run that goes on in this process."""
        slot = functools.partial(
            WorkerSlot,
            name=f"pid {os.getpid()}",
            platform=self.name,
            state="lent",
            made_of="this process",
        )
        return tuple(slot(run=run) for run in _running)

    async def launch(self, invocation: Invocation, needs: Collection[Resources] = ()) -> None:
        """Start the workers on the running loop."""
        if invocation.run not in _running:
            task = asyncio.create_task(_work(invocation), name=f"dagnb-{invocation.run}")
            _running[invocation.run] = task
            task.add_done_callback(lambda done: _running.pop(invocation.run, None))

    async def stop(self, run: str) -> None:
        """Stop the run's workers; functions that are running now go on to their end."""
        task = _running.get(run)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])


async def _work(invocation: Invocation) -> None:
    instances = [secrets.token_hex(8) for _ in range(invocation.n_workers)]
    pool = ThreadPoolExecutor(invocation.n_workers, thread_name_prefix=f"dagnb-{invocation.run}")
    try:
        async with asyncio.TaskGroup() as group:
            heartbeats = group.create_task(_beat(invocation, instances))
            workers = [
                group.create_task(_instance(invocation, instance, pool)) for instance in instances
            ]
            await asyncio.wait(workers)
            heartbeats.cancel()
    except* RunMissingError:
        pass  # the run was forgotten meanwhile: nothing is left to do
    finally:
        # A function that still runs must not block the client's loop.
        pool.shutdown(wait=False)


async def _instance(invocation: Invocation, instance: str, pool: Executor) -> None:
    store = await open_store(invocation.store)
    world = Runtime(
        store,
        invocation,
        instance,
        functools.partial(call_in_thread, pool),
        _NoWatch(),
        at_home=True,
    )
    # One task at a time: no supervisor is here to give back tasks behind one that takes long.
    worker: Worker[CallInputs, Result] = Worker(world, most_tasks=1)
    try:
        await worker.work()
        await world.leave()
    except RunMissingError:
        raise
    except Exception as error:
        # Without workers the run would wait for ever.
        await store.cancel(invocation.run, f"a worker could not go on: {error}")
        if not isinstance(error, DagnbError):  # a defect of dagnb, which must be seen
            raise


async def _beat(invocation: Invocation, instances: list[str]) -> None:
    store = await open_store(invocation.store)
    while True:
        await store.heartbeat(invocation.run, instances, lease_s=invocation.lease_s)
        await asyncio.sleep(invocation.heartbeat_s)
