"""One worker process: joins a run, works until the run is over, leaves."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from dagnb.errors import RunMissingError, StorageUnavailableError
from dagnb.graph.context import TaskContext
from dagnb.protocol.invocation import Invocation
from dagnb.protocol.worker import Worker
from dagnb.storage.open import open_store
from dagnb_workers import left_behind, user_main
from dagnb_workers.aspects import of_process
from dagnb_workers.executor import call_here, ignore
from dagnb_workers.isolation import Isolation
from dagnb_workers.loaded import Loaded
from dagnb_workers.output import opened, take_printed
from dagnb_workers.page import Page
from dagnb_workers.patience import STORE_GONE
from dagnb_workers.runtime import Runtime
from dagnb_workers.surroundings import Surroundings
from dagnb_workers.turns import Turns
from dagnb_workers.watch import Call, Caller


class PageWatch:
    """Tells the supervisor, through the shared page, what runs; asks it whether the time was up."""

    def __init__(self, page: Page) -> None:
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


def work(invocation: Invocation, instance: str, page: Page) -> int:
    """Everything one worker process does. Returns its exit code: 0, or STORE_GONE."""
    signal.signal(signal.SIGINT, ignore)
    Surroundings.of(invocation.surroundings).enter()
    invocation.check_versions()
    turns = Turns()
    return turns.run(_work(invocation, instance, page, Alone(turns)))


class Alone:
    """Calls functions in a process that runs one task at a time: in its main thread, and nothing is left of a call."""

    def __init__(self, turns: Turns) -> None:
        self._turns, self._isolation, self._main = turns, Isolation(of_process(opened)), user_main.install()

    async def __call__(self, function: Callable[..., Any], call: Call, here: TaskContext) -> Any:
        """See Caller."""
        return await self._turns.call(lambda: self._called(function, call, here))

    def _called(self, function: Callable[..., Any], call: Call, here: TaskContext) -> Any:
        self._main.show(function, call)
        return left_behind.around(lambda: self._isolation.around(lambda: call_here(function, call, here)), here.task)


async def _work(invocation: Invocation, instance: str, page: Page, call: Caller) -> int:
    store = await open_store(invocation.store, namespace=invocation.namespace, allow_insecure=True, allow_eviction=True)
    world = Runtime(store, invocation, instance, call, PageWatch(page))
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
