"""One worker process: joins a run, works until the run is over, leaves."""

from __future__ import annotations

import asyncio
import signal

from dagnb.errors import RunMissingError, StorageUnavailableError
from dagnb.protocol.invocation import Invocation
from dagnb.protocol.worker import Worker
from dagnb.storage.open import open_store
from dagnb_workers.executor import call_here, ignore
from dagnb_workers.loaded import Loaded
from dagnb_workers.output import take_printed
from dagnb_workers.page import Page
from dagnb_workers.patience import STORE_GONE
from dagnb_workers.runtime import Runtime
from dagnb_workers.surroundings import Surroundings


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
    return asyncio.run(_work(invocation, instance, page))


async def _work(invocation: Invocation, instance: str, page: Page) -> int:
    store = await open_store(invocation.store, namespace=invocation.namespace, allow_insecure=True, allow_eviction=True)
    world = Runtime(store, invocation, instance, call_here, PageWatch(page))
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
