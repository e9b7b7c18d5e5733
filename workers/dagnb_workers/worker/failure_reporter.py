"""What went wrong in an attempt, as the failure that is reported: whose fault it was, and whether it is tried again."""

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
from dagnb_workers.worker.library import Library
from dagnb_workers.worker.retry import until_available
from dagnb_workers.worker.watch import Watch

_LONGEST_BACKOFF_S = 60.0


class FailureReporter:
    """Of one instance. worker: whom it staffs."""

    def __init__(
        self,
        store: Store,
        run: str,
        signer: Signer,
        library: Library,
        watch: Watch,
        now: Callable[[], float],
        *,
        container: str = "",
    ) -> None:
        """now: the store's clock. container: in which this instance is, '' for none."""
        self.worker = ""
        self._store, self._run, self._signer = store, run, signer
        self._library, self._watch, self._now = library, watch, now
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
        """The failure, with what the attempt printed. delay_s: try again after so long. kind, message: in other words.

        What was printed is taken along: it can be asked for once.
        """
        if self._container and exception.is_of(error, ModuleNotFoundError):
            error.add_note(_not_in_container(error.name or "?"))
        stdout, stderr = self._watch.take_output()
        tails = {
            "stdout_tail": self._library.labelled(stdout),
            "stderr_tail": self._library.labelled(stderr),
        }
        facts = {"worker": self.worker, "at": self._now(), **tails}
        return Failure(
            task=offer.task,
            attempt=offer.attempt,
            error=exception.task_error(
                error, self._library.label, kind=kind, message=message, **facts
            ).to_json(),
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
        """The function raised this, perhaps because it was interrupted when its time was up."""
        if exception.is_of(error, KeyboardInterrupt) and self._watch.timed_out(
            offer.task, offer.attempt
        ):
            message = (
                f"the task ran longer than its limit of {line.timeout_s:g} s and was interrupted"
            )
            delay_s = _delay_s(offer, line) if issubclass(TimeoutError, retry_on) else None
            return self.failure(offer, error, delay_s=delay_s, kind=TIME_LIMIT, message=message)
        return self.failure(
            offer,
            error,
            delay_s=_delay_s(offer, line) if issubclass(type(error), retry_on) else None,
        )

    async def unread(
        self, offer: Offer, record: Record, error: BaseException, n_read: int
    ) -> Failure:
        """What could not be unpickled: the function (n_read -1), the value after so many, or an argument."""
        task, upstream = self.task_name(offer, record), record.upstream
        what = f"{'the function' if n_read < 0 else 'an argument'} of task '{task}'"
        if 0 <= n_read < len(upstream):
            names = RunDescription.read(
                (await until_available(lambda: self._store.observe(self._run))).meta
            ).names
            what = f"the value of task '{names[upstream[n_read]]}', which task '{task}' takes,"
        return self.failure(offer, error, message=exception.unread_text(what, error))

    def task_name(self, offer: Offer, record: Record) -> str:
        """What people call the task."""
        body = Body.open(record.body, self._signer, self._run, offer.task, record.upstream)
        return f"{self._library.lines[body.function].name}-{body.ordinal}"


def _not_in_container(module: str) -> str:
    return (
        f"The container of this worker has no module '{module}'. If a package brings it, name that in "
        "@task(requirements=[...]) or Docker(requirements=[...]). Your own modules travel when tasks, or modules that "
        "they need, import them by name; else mount their folder with Docker(mounts=[...]), or take workers='process'."
    )


def _delay_s(offer: Offer, line: FunctionLine) -> float:
    """Full jitter: anything up to a bound that doubles with each attempt."""
    bound = min(_LONGEST_BACKOFF_S, line.backoff_s * 2.0 ** (offer.attempt - 1))
    return random.uniform(0.0, bound)
