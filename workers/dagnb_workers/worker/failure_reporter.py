"""Makes the reports of failed attempts: the cause in the user's terms, and whether to retry."""

from __future__ import annotations

import random
from collections.abc import Callable

from dagnb.failure import TIME_LIMIT
from dagnb.graph.payload import Signer
from dagnb.protocol.messages import Failure, Offer, Record
from dagnb.protocol.program import Body, FunctionLine
from dagnb.protocol.run_description import RunDescription
from dagnb.storage.interface import Store
from dagnb_workers.worker import exception
from dagnb_workers.worker.executor import TakeOutput, Watch
from dagnb_workers.worker.library import Library
from dagnb_workers.worker.retry import until_available

_LONGEST_BACKOFF_S = 60.0


class FailureReporter:
    """Makes the failures of one instance. worker: the worker that it staffs."""

    def __init__(
        self,
        store: Store,
        run: str,
        signer: Signer,
        library: Library,
        watch: Watch,
        take_output: TakeOutput,
        now: Callable[[], float],
        *,
        container: str = "",
    ) -> None:
        """Begin without a worker.

        now: the store's clock, epoch seconds. container: name of this instance's container, or ''.
        """
        self.worker = ""
        self._store, self._run, self._signer = store, run, signer
        self._library, self._watch = library, watch
        self._take_output, self._now = take_output, now
        self._container = container

    def failure(
        self,
        offer: Offer,
        error: BaseException,
        *,
        delay_s: float | None = None,
        kind: str = "",
        message: str = "",
    ) -> Failure:
        """Returns the failure of the attempt, with its output.

        delay_s: wait before the retry, None for no retry.
        kind, message: used instead of the error's own.
        """
        if self._container and exception.is_of(error, ModuleNotFoundError):
            error.add_note(_not_in_container(error.name or "?"))

        # This empties the capture, so that the next attempt does not report this output again.
        stdout, stderr = self._take_output()
        record = exception.task_error(
            error,
            self._library.label,
            kind=kind,
            message=message,
            worker=self.worker,
            at=self._now(),
            stdout_tail=self._library.labelled(stdout),
            stderr_tail=self._library.labelled(stderr),
        )

        return Failure(
            task=offer.task,
            attempt=offer.attempt,
            error=record.to_json(),
            delay_s=delay_s,
            log=stdout + stderr,
        )

    def raised(
        self,
        offer: Offer,
        error: BaseException,
        line: FunctionLine,
        retry_on: tuple[type[BaseException], ...],
    ) -> Failure:
        """Returns the failure of a call that raised, or was interrupted at its time limit."""
        is_late = exception.is_of(error, KeyboardInterrupt) and self._watch.timed_out(
            offer.task, offer.attempt
        )
        # The interrupt of a time limit counts as TimeoutError for `retry_on` as for `except`.
        kind = TimeoutError if is_late else type(error)

        delay_s = _delay_s(offer, line) if issubclass(kind, retry_on) else None
        if not is_late:
            return self.failure(offer, error, delay_s=delay_s)

        message = f"the task ran longer than its limit of {line.timeout_s:g} s and was interrupted"
        return self.failure(offer, error, delay_s=delay_s, kind=TIME_LIMIT, message=message)

    async def unread(
        self, offer: Offer, record: Record, error: BaseException, n_read: int
    ) -> Failure:
        """Returns the failure of a call that could not be unpickled, naming the culprit.

        n_read: values that were unpickled before the error; -1 when the function was not.
        """
        task, upstream = self.task_name(offer, record), record.upstream
        if n_read < 0:
            culprit = f"the function of task '{task}'"
        elif n_read < len(upstream):
            # Names of other tasks are needed only for this message, so they are read only now.
            run = await until_available(lambda: self._store.observe(self._run))
            names = RunDescription.read(run.meta).names
            culprit = f"the value of task '{names[upstream[n_read]]}', which task '{task}' takes,"
        else:
            culprit = f"an argument of task '{task}'"
        return self.failure(offer, error, message=exception.unread_text(culprit, error))

    def task_name(self, offer: Offer, record: Record) -> str:
        """Returns the name of the task for people: its function and a number."""
        body = Body.open(record.body, self._signer, self._run, offer.task, record.upstream)
        return f"{self._library.lines[body.function].name}-{body.ordinal}"


def _not_in_container(module: str) -> str:
    return (
        f"The container of this worker has no module '{module}'. If a package brings it, name that "
        "package in @task(requirements=[...]) or Docker(requirements=[...]). Your own modules "
        "travel when tasks, or modules that they need, import them by name; else mount their "
        "folder with Docker(mounts=[...]), or take workers='process'."
    )


def _delay_s(offer: Offer, line: FunctionLine) -> float:
    """Returns a random wait below a bound that doubles with each attempt ("full jitter").

    So tasks that failed together, for example at an overloaded service, do not retry together.
    Source: Brooker 2015, "Exponential Backoff And Jitter".
    """
    bound = min(_LONGEST_BACKOFF_S, line.backoff_s * 2.0 ** (offer.attempt - 1))
    return random.uniform(0.0, bound)
