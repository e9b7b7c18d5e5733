"""One worker process: joins a run, works until the run is over, leaves.

There is no event loop. The coroutines of the worker and its store never suspend here: each request
blocks the process, which has nothing else to do meanwhile. Its supervisor sends the heartbeats.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Any

from dagnb.errors import RunMissingError, StorageUnavailableError
from dagnb.graph.context import TaskContext
from dagnb.protocol.invocation import Invocation
from dagnb.protocol.worker import MOST_TASKS, Worker
from dagnb.storage.open import open_store_of
from dagnb.storage.redis_transport import run_at_once
from dagnb_workers.surroundings import left_behind, user_main
from dagnb_workers.surroundings.aspects import of_process
from dagnb_workers.surroundings.early_import import EARLY
from dagnb_workers.surroundings.findable import is_installed
from dagnb_workers.surroundings.isolation import ImportTime, Isolation
from dagnb_workers.surroundings.output import opened, take_printed
from dagnb_workers.surroundings.surroundings import Surroundings
from dagnb_workers.surroundings.user_main import Call
from dagnb_workers.worker.executor import call_here, ignore
from dagnb_workers.worker.kept import Result
from dagnb_workers.worker.retry import STORE_GONE
from dagnb_workers.worker.runtime import CallInputs, Runtime
from dagnb_workers.worker.shared_status import SharedStatus


def work(invocation: Invocation, instance: str, status: SharedStatus) -> int:
    """Run one worker process to its end. Returns its exit code: 0, or STORE_GONE."""
    # First, so that an interrupt meant for a task never ends the worker while it starts.
    signal.signal(signal.SIGINT, ignore)
    # Before the program is read: unpickling a function imports the user's modules.
    Surroundings.of(invocation.surroundings).enter()
    EARLY.show_on_import()
    invocation.check_versions()
    return run_at_once(_work(invocation, instance, status, IsolatedCalls(status)))


async def _work(
    invocation: Invocation, instance: str, status: SharedStatus, call: IsolatedCalls
) -> int:
    store = await open_store_of(invocation, blocks=True)
    world = Runtime(
        store,
        invocation,
        instance,
        call,
        status,
        take_output=take_printed,
        import_time=call.import_time,
    )
    worker: Worker[CallInputs, Result] = Worker(world, MOST_TASKS if invocation.batches else 1)
    try:
        await worker.work()
        await world.leave()
    except RunMissingError:
        return 0  # the run was forgotten meanwhile: no client waits for it any more
    except StorageUnavailableError:
        return STORE_GONE
    finally:
        await store.close()
    return 0


class IsolatedCalls:
    """Calls functions in a process that runs one task at a time, and restores what they changed.

    It must be created after Surroundings.enter: every call finds the process as the first one did.
    """

    def __init__(self, status: SharedStatus) -> None:
        self._status = status
        self._own = frozenset(name.partition(".")[0] for name in sys.modules)
        self.import_time = ImportTime()
        self._isolation = Isolation(
            of_process(opened), note=self._note_import, import_time=self.import_time
        )
        self._main = user_main.install()

    async def __call__(self, function: Callable[..., Any], call: Call, context: TaskContext) -> Any:
        """See Caller."""
        self._main.show(function, call)
        # `left_behind` is outermost, because it writes to the stderr that the isolation restored.
        return left_behind.around(
            lambda: self._isolation.around(lambda: call_here(function, call, context)), context.task
        )

    def _note_import(self, name: str, file: str, seconds: float) -> None:
        """Report an installed package to the supervisor: the next run may have it imported early.

        Packages that dagnb itself has imported are in every worker.
        """
        top = name.partition(".")[0]
        if is_installed(file) and top not in sys.stdlib_module_names and top not in self._own:
            self._status.note_import(name, seconds)
