"""`Run`: what the user holds of a run. Everything it says is read from the store; nothing exists only in it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Generator
from functools import cached_property
from typing import Any, Generic, TypeVar, cast

from dagnb import session
from dagnb.errors import (
    ConfigError,
    DagnbError,
    HistoryError,
    RunError,
    RunTimeoutError,
    StorageError,
    TaskError,
)
from dagnb.forecast.makespans import Makespans, makespans
from dagnb.planning.plan import Plan
from dagnb.protocol.launcher import Hosting, Launcher
from dagnb.protocol.messages import Observation, RunState
from dagnb.protocol.naming import find_task
from dagnb.protocol.run_description import RunDescription, check_python, counts, errors_of
from dagnb.results import no_value, outcome, values
from dagnb.run_history.history import History
from dagnb.storage.interface import Store
from dagnb.storage.open import MEMORY_URL
from dagnb.trace.span import Phase, Span, is_last, packed, unpacked
from dagnb.trace.trace import Trace
from dagnb.views import snapshot, view
from dagnb.views.report import report_html
from dagnb.views.snapshot import Snapshot
from dagnb.views.why import why
from dagnb.views.wording import moment_text

R = TypeVar("R")

viewers: list[Callable[[Run[Any]], None]] = []
"""told of every run this process starts, in the thread that starts it; the notebook arm puts its live view here"""

_REAP_S = 1.0
_FAREWELL_S = 5.0
_WAKE_S = 0.1
_LOGS_AT_ONCE = 200
_LOOK_S = 0.01
_RECORD_S = 1.0
_KEEPING_S = 5.0


class Run(Generic[R]):
    """A run: watch it, wait for it, end it. Made by dagnb.run and dagnb.attach."""

    def __init__(
        self,
        run: str,
        store: Store,
        *,
        plan: Plan | None = None,
        launcher: Launcher | None = None,
        name: str = "",
    ) -> None:
        """A handle on a run of this store.

        launcher: ends its instances at once, and starts lost hosts again. name: of the run, as far as known here.
        """
        self.id = run
        self._name = name
        self.plan = plan
        self._store = store
        self._launcher = launcher
        self._final: Observation | None = None
        self._is_remembered = False
        self._has_returned = False
        self._next_check = 0.0

    # ---- looking ----

    def look(self, before: Observation | None = None) -> Observation:
        """One look at the run's state; after another look only the events since then, and only what is new travels."""
        if self._final is not None and before is None:
            return self._final
        return session.wait(self._look(before))

    async def _look(
        self, before: Observation | None = None, *, is_waiting: bool = False
    ) -> Observation:
        """As look; it also sees, about once a second, that a run is worked for. is_waiting: its caller does that."""
        seen = await self._store.observe(self.id, before.cursor if before is not None else "")
        if before is not None and before.cursor:
            seen = seen.after(before)
        elif seen.state is not RunState.RUNNING:
            self._final = seen
        if (
            seen.state is RunState.RUNNING
            and not is_waiting
            and time.monotonic() >= self._next_check
        ):
            self._next_check = time.monotonic() + _REAP_S
            try:
                await self._ensure_hosted()
                if (
                    not seen.n_instances
                ):  # nobody else may be there to end a run that is overdue, or never started
                    await self._store.reap(self.id)
                    return await self._look(before, is_waiting=True)
            except (
                DagnbError
            ) as error:  # the state is shown all the same; _result raises it for who waits
                session.warn_once(error)  # looks come every second
        return seen

    async def _ensure_hosted(self, limit: float | None = None) -> None:
        """See Hosting.ensure_hosted; limit: the moment until which it may take."""
        if isinstance(self._launcher, Hosting):
            with contextlib.suppress(TimeoutError):  # who set the limit tells that the time is up
                async with asyncio.timeout(None if limit is None else limit - time.monotonic()):
                    await self._launcher.ensure_hosted(self.id)

    @cached_property
    def description(self) -> RunDescription:
        """Names, functions and edges of the run's steps."""
        return RunDescription.read(self.look().meta)

    @property
    def name(self) -> str:
        """What the run is called: of `%%dag NAME` or dagnb.run(name=...), else its last function's name."""
        return self._name or self.description.name

    @property
    def state(self) -> RunState:
        """running, ok, failed, cancelled or deadline."""
        return self.look().state

    @property
    def done(self) -> bool:
        """Whether the run is over, one way or another."""
        return self.state is not RunState.RUNNING

    @property
    def status(self) -> dict[str, int]:
        """How many tasks are in each state; states without tasks are left out."""
        return counts(self.look())

    @property
    def errors(self) -> list[TaskError]:
        """Every failed attempt so far, in order of time."""
        return errors_of(self.look(), self.description)

    @property
    def trace(self) -> Trace:
        """The spans so far, all of them when the run is over; `.makespan_s` is final then. Waits as snapshot does."""
        return session.wait(self._settled(None, with_logs=False)).trace

    def snapshot(self, before: Snapshot | None = None) -> Snapshot:
        """All that is known of the run at this moment; before: an earlier one, of which only what is new is read.

        Just after the end it waits for what workers upload when they leave; 2 s after the end it waits for nobody.
        """
        return session.wait(self._settled(before))

    async def _settled(self, before: Snapshot | None, *, with_logs: bool = True) -> Snapshot:
        now = await self._snapshot(before, with_logs=with_logs)
        pause_s = _LOOK_S
        while now.is_over and not now.is_settled:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _WAKE_S)
            now = await self._snapshot(now, with_logs=with_logs)
        return now

    async def _snapshot(self, before: Snapshot | None, *, with_logs: bool = True) -> Snapshot:
        seen = await self._look(before.seen if before is not None else None)
        chunks = await self._store.spans(self.id, before.n_chunks if before is not None else 0)
        spans = [span for chunk in chunks for span in unpacked(chunk)]
        ended = snapshot.ended(seen, before) if with_logs else []
        logs: dict[int, str] = {}
        for part in (ended[i : i + _LOGS_AT_ONCE] for i in range(0, len(ended), _LOGS_AT_ONCE)):
            logs |= zip(part, await self._store.logs(self.id, part), strict=True)
        n_left = sum(map(is_last, chunks))
        return snapshot.joined(before, seen, spans, logs, n_chunks=len(chunks), n_left=n_left)

    def why(self, task: str) -> str:
        """What this task (merge-0, or merge where that is called once) is waiting for, in words, from the state alone.

        Raises UnknownTaskError, which is a KeyError, or AmbiguousNameError.
        """
        return why(self.look(), self.description.names, self.description.upstream, task)

    def log(self, task: str) -> str:
        """What the task, called as for `why`, printed in its last attempt, the tail of it; there when that ended."""
        task = find_task(task, self.description.names)
        (text,) = session.wait(self._store.logs(self.id, [self.description.names.index(task)]))
        died = [error for error in self.errors if error.task == task]
        return text or (died[-1].stdout_tail + died[-1].stderr_tail if died else "")

    def to_html(self) -> str:
        """The report: the view, where the time went, the plan if this process made it. It needs nothing else."""
        now = self.snapshot()
        return report_html(now, plan=self.plan, created=moment_text(now.seen.submitted_at))

    # ---- waiting ----

    def result(self, timeout_s: float | None = None) -> R:
        """The value; for several nodes a tuple of values, for a structure of nodes the same structure of values.

        Raises TaskFailedError, RunCancelledError, or RunTimeoutError when the time is up: then the run goes on.
        Interrupting cancels the run and says so. Restarting or shutting down a kernel does not cancel it.
        """
        try:
            return session.wait(self._result(timeout_s))
        except KeyboardInterrupt:
            if session.shutdown_follows():
                raise KeyboardInterrupt(self._interrupted(is_cancelled=False)) from None
            self.cancel("interrupted")
            raise KeyboardInterrupt(self._interrupted(is_cancelled=True)) from None

    @property
    def outlives_process(self) -> bool:
        """Whether the run goes on when this process ends. Runs in this process's own memory do not."""
        return self._store.url != MEMORY_URL

    def _interrupted(self, *, is_cancelled: bool) -> str:
        if is_cancelled:
            return f"run {self.id} was cancelled, because waiting for it was interrupted."
        return f"the kernel ends, and with it the wait for run {self.id}, which was not cancelled."

    def __await__(self) -> Generator[Any, None, R]:
        """As result(), in a running loop; cancelling the wait cancels the run."""
        return self._awaited().__await__()

    async def _awaited(self) -> R:
        waiting = asyncio.wrap_future(session.start(self._result(None)))
        try:
            # ipykernel hears of an interrupt when its loop next wakes (#881 there), so it is woken.
            while not (await asyncio.wait((waiting,), timeout=_WAKE_S))[0]:
                pass
            return waiting.result()
        except asyncio.CancelledError:
            waiting.cancel()
            if await session.shutdown_follows_soon():
                raise asyncio.CancelledError(self._interrupted(is_cancelled=False)) from None
            ended = asyncio.wrap_future(session.start(self._cancel("interrupted")))
            with contextlib.suppress(TimeoutError, DagnbError):
                await asyncio.wait_for(asyncio.shield(ended), _FAREWELL_S)
            raise asyncio.CancelledError(self._interrupted(is_cancelled=True)) from None

    async def _result(self, timeout_s: float | None) -> R:
        asked_at = time.monotonic()
        limit = None if timeout_s is None else asked_at + timeout_s
        while True:
            left = _REAP_S if limit is None else min(_REAP_S, limit - time.monotonic())
            await self._store.wait_end(self.id, max(0.0, left))
            seen = await self._look(is_waiting=True)
            if seen.state is not RunState.RUNNING:
                seen_at = time.monotonic()
                try:
                    value = cast("R", await outcome(self._store, seen))
                    held_s = seen.now + time.monotonic() - seen_at
                    await self._note_return(seen, seen.now - (seen_at - asked_at), held_s)
                finally:
                    self._remember_later()
                return value
            if self.plan is None:  # attached: rather refused now than when the run is over
                check_python(seen.meta)
            if limit is not None and time.monotonic() >= limit:
                raise RunTimeoutError(self.id, timeout_s or 0.0)
            await self._store.reap(self.id)
            await self._ensure_hosted(limit)

    async def _note_return(self, seen: Observation, asked_s: float, held_s: float) -> None:
        """Once a handle: from the end, or from when the value was asked for, until it is held."""
        if not self._has_returned:
            self._has_returned = True
            await self.record(Span(-1, "", Phase.RETURN, max(seen.finished_at, asked_s), held_s))

    async def record(self, span: Span) -> None:
        """Add an act of the client's to the trace; a store that does not take it is no reason to fail."""
        with contextlib.suppress(StorageError, TimeoutError):
            async with asyncio.timeout(_RECORD_S):
                await self._store.record(self.id, packed([span]))

    @property
    def makespans(self) -> Makespans:
        """Plan, replay and real makespan, and where they differ. Raises RunError unless the run ended well."""
        now = self.snapshot()
        if now.seen.state is not RunState.OK:
            raise RunError(
                f"run {self.id} is {now.seen.state.value}: makespans are compared when a run ended well."
            )
        return makespans(now.description, now.trace, self.plan)

    def _remember_later(self) -> None:
        if not self._is_remembered:
            self._is_remembered = True
            session.later(self._remember())

    async def _remember(self) -> None:
        """Keep a run that is over in the history; without it dagnb only predicts worse."""
        try:
            with contextlib.suppress(
                StorageError
            ):  # forgotten, or out of reach: there is nothing to learn from
                now = await self._settled(None, with_logs=False)
                await asyncio.to_thread(
                    History().record, self.id, now.description, now.seen.state, now.trace
                )
        except (HistoryError, ConfigError) as error:
            session.warn_once(error)

    def value(self, task: str) -> Any:
        """The value of one of the nodes asked for, as soon as it is done, whatever became of the others.

        task: called as for `why`. Raises KeyError for a task that is none of them or is not done.
        """
        seen, names = self.look(), self.description.names
        task = find_task(task, names)
        ready = [sink for sink in seen.results if names[sink] == task]
        if not ready:
            raise no_value(seen, self.description, task)
        return session.wait(values(self._store, seen, ready))[0]

    # ---- ending ----

    def cancel(self, reason: str = "cancelled") -> bool:
        """End the run and its workers. False when it was over."""
        return session.wait(self._cancel(reason))

    async def _cancel(self, reason: str) -> bool:
        return await self._store.cancel(self.id, reason)

    def kill(self) -> None:
        """Cancel, and end its workers without waiting for them."""
        self.cancel("killed")
        if self._launcher is not None:
            session.wait(self._launcher.stop(self.id))

    def forget(self) -> int:
        """Delete everything the store holds of the run. Returns how many keys went."""
        session.wait_for_pending(
            _KEEPING_S
        )  # what the history is just taking in comes from the store
        return session.wait(self._store.forget(self.id))

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """The run as it stands, where pictures can be shown; its text elsewhere."""
        return view.bundle(self.snapshot())

    def __repr__(self) -> str:
        """State without asking the store again once the run is over."""
        state = self._final.state if self._final is not None else "started"
        cure = {"ok": ".result() gives its value", "started": ".result() waits for it"}.get(
            state, ".errors tells why"
        )
        return f"<run {self.id} {state}; {cure}>"
