"""One worker process: joins a run, works until the run is over, leaves."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from dagnb.errors import RunMissingError, StorageUnavailableError
from dagnb.graph.context import TaskContext
from dagnb.protocol.invocation import Invocation
from dagnb.protocol.worker import Worker
from dagnb.storage.open import open_store_of
from dagnb_workers.surroundings import left_behind
from dagnb_workers.surroundings.aspects import of_process
from dagnb_workers.surroundings.isolation import Isolation
from dagnb_workers.surroundings.output import opened, take_printed
from dagnb_workers.surroundings.surroundings import Surroundings
from dagnb_workers.worker import user_main
from dagnb_workers.worker.executor import call_here, ignore
from dagnb_workers.worker.loaded import Loaded
from dagnb_workers.worker.retry import STORE_GONE
from dagnb_workers.worker.runtime import Runtime
from dagnb_workers.worker.shared_status import SharedStatus
from dagnb_workers.worker.turns import Turns
from dagnb_workers.worker.watch import Call, Caller


class SharedStatusWatch:
    """Tells the supervisor, through the shared page, what runs; asks it whether the time was up."""

    def __init__(self, page: SharedStatus) -> None:
        self._page = page

    def call(self, worker: str) -> None:
        """See Watch.call."""
        self._page.call(worker)

    def begin(self, task: int, attempt: int, limit_s: float) -> None:
        """See Watch.begin."""
        self._page.begin(task, attempt, limit_s)

    def end(self) -> None:
        """See Watch.end."""
        self._page.end()

    def timed_out(self, task: int, attempt: int) -> bool:
        """See Watch.timed_out."""
        return self._page.timed_out(task, attempt)

    def take_output(self) -> tuple[str, str]:
        """See Watch.take_output."""
        return take_printed()


def work(invocation: Invocation, instance: str, page: SharedStatus) -> int:
    """Everything one worker process does. Returns its exit code: 0, or STORE_GONE."""
    signal.signal(signal.SIGINT, ignore)
    Surroundings.of(invocation.surroundings).enter()
    invocation.check_versions()
    turns = Turns()
    return turns.run(_work(invocation, instance, page, Alone(turns)))


class Alone:
    """Calls functions in a process that runs one task at a time: in its main thread, and nothing is left of a call."""

    def __init__(self, turns: Turns) -> None:
        self._turns, self._isolation, self._main = (
            turns,
            Isolation(of_process(opened)),
            user_main.install(),
        )

    async def __call__(self, function: Callable[..., Any], call: Call, here: TaskContext) -> Any:
        """See Caller."""
        return await self._turns.call(lambda: self._called(function, call, here))

    def _called(self, function: Callable[..., Any], call: Call, here: TaskContext) -> Any:
        self._main.show(function, call)
        return left_behind.around(
            lambda: self._isolation.around(lambda: call_here(function, call, here)), here.task
        )


async def _work(invocation: Invocation, instance: str, page: SharedStatus, call: Caller) -> int:
    store = await open_store_of(invocation)
    world = Runtime(store, invocation, instance, call, SharedStatusWatch(page))
    worker: Worker[Loaded, object] = Worker(world)
    try:
        await worker.work()
        await world.leave()
    except RunMissingError:
        return 0  # forgotten while it ran: nobody waits for anything any more
    except StorageUnavailableError:
        return STORE_GONE
    finally:
        await store.close()
    return 0
