"""`Run`, the user's handle on a run. All that it says is read from the store, and kept only there.

Therefore a handle can be dropped, and another kernel can attach. It has three duties besides
reading:

    while the run goes on   about once a second it reaps: it takes back the tasks of silent workers,
                            and has lost hosts started again. There is no scheduler to do it.
    on an interrupt         it cancels the run, unless the kernel is being shut down or restarted.
    at the end              it records the span RETURN, and the run in the history.

The outcome of a run that is over is its values, or the error that says why there are none.
Unpickling a value runs the user's code, on the loop of this process. Any error of it becomes a
ValueUnreadableError that holds the pickle: a result that took hours must not be lost because of an
import error.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import cached_property
from typing import Any, Generic, TypeVar, cast

from dagnb import session
from dagnb.errors import (
    BlobMissingError,
    ConfigError,
    DagnbError,
    HistoryError,
    RunCancelledError,
    RunError,
    RunTimeoutError,
    StorageError,
    TaskError,
    ValueUnreadableError,
    task_failed,
)
from dagnb.failure import raised_text, read_errors
from dagnb.forecast.background import BackgroundForecast, predicted
from dagnb.forecast.makespans import Makespans, makespans
from dagnb.graph.dag import shaped
from dagnb.graph.payload import Signer, decode_value, value_parts
from dagnb.planning.plan import Forecast, Plan
from dagnb.protocol.launcher import Hosting, Launcher
from dagnb.protocol.messages import Observation, RunState
from dagnb.protocol.naming import find_task
from dagnb.protocol.run_description import RunDescription, check_python, counts, verify
from dagnb.run_history.history import History, record_finished
from dagnb.storage import segments
from dagnb.storage.interface import Store
from dagnb.storage.open import MEMORY_URL
from dagnb.trace.chunk import is_last, packed, unpacked
from dagnb.trace.trace import Phase, Span, Trace
from dagnb.views import snapshot, view
from dagnb.views.report import report_html
from dagnb.views.snapshot import Snapshot
from dagnb.views.time_use import TimeUse, time_use_text
from dagnb.views.why import why
from dagnb.views.wording import moment_text

R = TypeVar("R")

viewers: list[Callable[[Run[Any]], None]] = []
"""functions called with every run that this process starts, such as the notebook's live view"""

# Seconds between looks for silent workers; leases last several times as long.
_REAP_S = 1.0

# Seconds that an interrupted wait allows for the cancellation to reach the store.
_CANCEL_S = 5.0
_WAKE_S = 0.1

# Logs in one request: 200 of 2,000 characters are 400 KB.
_LOGS_AT_ONCE = 200
_LOOK_S = 0.01
_RECORD_S = 1.0

# Seconds for which the plan is waited for that is completed beside the run.
_FORECAST_S = 10.0

# Seconds for which the record of a run waits for its forecast. The hosts of its workers record a
# run that its client has not recorded within a second.
_FORECAST_KEPT_S = 0.8

# Seconds for which forget() waits for the history, which still reads the run.
_HISTORY_S = 5.0


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
        """Make a handle on a run of this store.

        launcher: ends its instances at once, and starts lost hosts again. name: of the run, if
        known.
        """
        self.id = run
        self._background: BackgroundForecast | None = None
        self._name = name
        self._plan = plan
        self._store = store
        self._launcher = launcher
        self._final: Observation | None = None
        self._is_remembered = False
        self._has_returned = False
        self._next_check = 0.0

    # ---- looking ----

    def look(self, before: Observation | None = None) -> Observation:
        """Returns the state of the run now.

        before: an earlier look; then only events since that one, and only what is new is
        transferred.
        """
        if self._final is not None and before is None:
            return self._final
        return session.wait(self._look(before))

    async def _look(
        self, before: Observation | None = None, *, is_waiting: bool = False
    ) -> Observation:
        """Look at the state; about once a second also make sure that processes work for the run.

        is_waiting: the caller makes sure of that itself.
        """
        seen = await self._store.observe(self.id, before.cursor if before is not None else "")
        if before is not None and before.cursor:
            seen = seen.after(before)
        elif seen.state is not RunState.RUNNING:
            self._final = seen

        is_due = not is_waiting and time.monotonic() >= self._next_check
        if seen.state is RunState.RUNNING and is_due:
            self._next_check = time.monotonic() + _REAP_S
            try:
                await self._ensure_hosted()
                # Without instances nothing else may end a run that is overdue, or never started.
                if not seen.n_instances:
                    await self._store.reap(self.id)
                    return await self._look(before, is_waiting=True)
            except DagnbError as error:
                # The state is shown all the same; _result raises the error where it is waited for.
                session.warn_once(error)
        return seen

    async def _ensure_hosted(self, limit: float | None = None) -> None:
        """Have lost hosts started again, until `limit` of the monotonic clock at most."""
        if isinstance(self._launcher, Hosting):
            left_s = None if limit is None else limit - time.monotonic()
            # The caller, which set the limit, raises when the time is up.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._launcher.ensure_hosted(self.id)

    @cached_property
    def description(self) -> RunDescription:
        """Names, functions and edges of the run's steps."""
        return RunDescription.read(self.look().meta)

    @property
    def plan(self) -> Plan | None:
        """The plan; None for a run that another process started.

        Its costs and forecast are made beside the run: they are waited for, _FORECAST_S at most.
        """
        return self._background.waited(_FORECAST_S) if self._background else self._plan

    @property
    def plan_now(self) -> Plan | None:
        """The plan as far as it is known at this moment: perhaps without a problem yet."""
        return self._background.plan if self._background else self._plan

    def complete(self, background: BackgroundForecast) -> None:
        """Take the plan from the forecast that is made beside the run."""
        self._background = background

    @property
    def name(self) -> str:
        """The name of the run: of `%%dag NAME`, of dagnb.run(name=...), or of its last function."""
        return self._name or self.description.name

    @property
    def state(self) -> RunState:
        """The state: running, ok, failed, cancelled or deadline."""
        return self.look().state

    @property
    def done(self) -> bool:
        """True if the run is over, one way or another."""
        return self.state is not RunState.RUNNING

    @property
    def status(self) -> dict[str, int]:
        """The number of tasks in each state; states without tasks are left out."""
        return counts(self.look())

    @property
    def errors(self) -> list[TaskError]:
        """Every failed attempt so far, in order of time."""
        seen = self.look()
        return read_errors(seen.errors, self.description.names, seen.failed)

    @property
    def trace(self) -> Trace:
        """The spans so far; all of them, with the final `.makespan_s`, when the run is over.

        Waits as snapshot does.
        """
        return session.wait(self._settled(None, with_logs=False)).trace

    def snapshot(self, before: Snapshot | None = None) -> Snapshot:
        """Returns all that is known of the run at this moment.

        before: an earlier snapshot; then only what is new is read. Just after the end it waits for
        spans that workers upload when they leave, until 2 s after the end.
        """
        return session.wait(self._settled(before))

    async def _settled(self, before: Snapshot | None, *, with_logs: bool = True) -> Snapshot:
        current = await self._snapshot(before, with_logs=with_logs)
        pause_s = _LOOK_S
        while current.is_over and not current.is_settled:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _WAKE_S)
            current = await self._snapshot(current, with_logs=with_logs)
        return current

    async def _snapshot(self, before: Snapshot | None, *, with_logs: bool = True) -> Snapshot:
        # The state first: spans read before it would lack those that came with the last commit.
        seen_before, n_chunks = None, 0
        if before is not None:
            seen_before, n_chunks = before.seen, before.n_chunks
        seen = await self._look(seen_before)
        chunks = await self._store.spans(self.id, n_chunks)
        spans: list[Span] = []
        for chunk in chunks:
            spans += unpacked(chunk)

        ended = snapshot.ended(seen, before) if with_logs else []
        logs: dict[int, str] = {}
        for begin in range(0, len(ended), _LOGS_AT_ONCE):
            part = ended[begin : begin + _LOGS_AT_ONCE]
            logs |= zip(part, await self._store.logs(self.id, part), strict=True)
        n_left = sum(map(is_last, chunks))
        return snapshot.joined(before, seen, spans, logs, n_chunks=len(chunks), n_left=n_left)

    def why(self, task: str | None = None) -> str:
        """Returns what a task is waiting for, in words, from the state alone.

        task: its name, such as merge-0; merge if that function is called once. None asks where the
        time of the run went: by use of its workers, and by the chain of tasks that took it.
        Raises UnknownTaskError, which is a KeyError, or AmbiguousNameError.
        """
        if task is None:
            now = session.wait(self._settled(None, with_logs=False))
            upstream, sinks = now.description.upstream, now.description.sinks
            time_use = TimeUse.of(upstream, sinks, now.trace_so_far, is_over=now.is_over)
            return time_use_text(time_use)
        return why(self.look(), self.description.names, self.description.upstream, task)

    def log(self, task: str) -> str:
        """Returns the end of what a task printed in its last attempt, once that has ended.

        task: its name, as for `why`. Raises UnknownTaskError, AmbiguousNameError.
        """
        task = find_task(task, self.description.names)
        (text,) = session.wait(self._store.logs(self.id, [self.description.names.index(task)]))
        if text:
            return text
        # A worker that died has stored no log; the report of its death has the end of its output.
        errors = [error for error in self.errors if error.task == task]
        if not errors:
            return ""
        return errors[-1].stdout_tail + errors[-1].stderr_tail

    def to_html(self) -> str:
        """Returns the report: the view, where the time went, and the plan if this process made it.

        It is one file that needs nothing else.
        """
        current = self.snapshot()
        return report_html(current, plan=self.plan, created=moment_text(current.seen.submitted_at))

    # ---- waiting ----

    def result(self, timeout_s: float | None = None) -> R:
        """Returns the value; of several nodes a tuple, of a structure of nodes the same structure.

        Raises TaskFailedError; RunCancelledError; RunTimeoutError when the time is up, and the run
        goes on. An interrupt cancels the run and says so. Restarting or shutting down a kernel does
        not cancel it.
        """
        try:
            return session.wait(self._result(timeout_s))
        except KeyboardInterrupt:
            # Jupyter interrupts a kernel before it shuts it down; that is no wish to cancel.
            if session.shutdown_follows():
                raise KeyboardInterrupt(self._interrupted(is_cancelled=False)) from None
            self.cancel("interrupted")
            raise KeyboardInterrupt(self._interrupted(is_cancelled=True)) from None

    @property
    def outlives_process(self) -> bool:
        """True if the run goes on when this process ends; False if it lives in its memory."""
        return self._store.url != MEMORY_URL

    def _interrupted(self, *, is_cancelled: bool) -> str:
        if is_cancelled:
            return f"run {self.id} was cancelled, because waiting for it was interrupted."
        return f"the kernel ends, and with it the wait for run {self.id}, which was not cancelled."

    def __await__(self) -> Generator[Any, None, R]:
        """Await the result in a running loop; cancelling the wait cancels the run."""
        return self._awaited().__await__()

    async def _awaited(self) -> R:
        waiting = asyncio.wrap_future(session.start(self._result(None)))
        try:
            # ipykernel notices an interrupt when its loop wakes (#881 there), so it is woken.
            while not (await asyncio.wait((waiting,), timeout=_WAKE_S))[0]:
                pass
            return waiting.result()
        except asyncio.CancelledError:
            waiting.cancel()
            if await session.shutdown_follows_soon():
                raise asyncio.CancelledError(self._interrupted(is_cancelled=False)) from None
            ended = asyncio.wrap_future(session.start(self._cancel("interrupted")))
            # Shielded: a second interrupt ends the wait, not the cancellation.
            with contextlib.suppress(TimeoutError, DagnbError):
                await asyncio.wait_for(asyncio.shield(ended), _CANCEL_S)
            raise asyncio.CancelledError(self._interrupted(is_cancelled=True)) from None

    async def _result(self, timeout_s: float | None) -> R:
        asked_at = time.monotonic()
        limit = None if timeout_s is None else asked_at + timeout_s
        before: Observation | None = None
        while True:
            pause_s = _REAP_S
            if limit is not None:
                pause_s = max(0.0, min(_REAP_S, limit - time.monotonic()))
            await self._store.wait_end(self.id, pause_s)
            # After the first look only what is new: the whole of a large run takes long to read.
            seen = await self._look(before, is_waiting=True)
            if seen.state is not RunState.RUNNING:
                whole = seen if before is None else await self._look(is_waiting=True)
                return await self._final_value(whole, asked_at)
            if before is None and self._plan is None:
                check_python(seen.meta)  # attached: rather refused now than when the run is over
            before = seen
            if limit is not None and time.monotonic() >= limit:
                raise RunTimeoutError(self.id, timeout_s or 0.0)
            await self._store.reap(self.id)
            await self._ensure_hosted(limit)

    async def _final_value(self, seen: Observation, asked_at: float) -> R:
        """Fetch the result of a run that is over, and record that. Raises as `outcome`."""
        seen_at = time.monotonic()
        try:
            value = cast("R", await outcome(self._store, seen))
            # Spans are times of the store's clock; this process only measures how much passed
            # since.
            held_s = seen.now + time.monotonic() - seen_at
            await self._note_return(seen, seen.now - (seen_at - asked_at), held_s)
        finally:
            self._remember_later()  # a failed run teaches, too
        return value

    async def _note_return(self, seen: Observation, asked_s: float, held_s: float) -> None:
        """Record the span RETURN, once a handle.

        It lasts from the end of the run, or from the call of result() if that is later, until this
        process has the value.
        """
        if not self._has_returned:
            self._has_returned = True
            begin_s = max(seen.finished_at, asked_s)
            await self.record(Span(-1, "", Phase.RETURN, begin_s, held_s))

    async def record(self, span: Span) -> None:
        """Add a span of the client to the trace.

        A store that does not take it is no reason to fail.
        """
        with contextlib.suppress(StorageError, TimeoutError):
            async with asyncio.timeout(_RECORD_S):
                await self._store.record(self.id, packed([span]))

    @property
    def makespans(self) -> Makespans:
        """Planned, replayed and real makespan, and the causes of their differences.

        Raises RunError unless the run ended well.
        """
        current = self.snapshot()
        if current.seen.state is not RunState.OK:
            raise RunError(
                f"run {self.id} is {current.seen.state.value}: "
                "makespans are compared when a run ended well."
            )
        return makespans(current.description, current.trace, self.plan)

    def _remember_later(self) -> None:
        if not self._is_remembered:
            self._is_remembered = True
            if self._background is not None:
                self._background.end()
            session.later(self._remember())

    async def _remember(self) -> None:
        """Record the run in the history. Without it dagnb only predicts worse."""
        try:
            forecast = await self._known_forecast()
            # A run that was forgotten, or a store out of reach: there is nothing to learn from.
            with contextlib.suppress(StorageError):
                await record_finished(self._store, self.id, History(), forecast)
        except (HistoryError, ConfigError) as error:
            session.warn_once(error)

    async def _known_forecast(self) -> Forecast | None:
        """Returns the forecast that was made beside the run, if it is made soon.

        The costs behind it were learnt from earlier runs: so this run is recorded after it.
        """
        if self._background is None:
            return None
        with contextlib.suppress(TimeoutError):
            completed = asyncio.wrap_future(self._background.completed)
            # Shielded: the end of this wait must not cancel what others wait for, too.
            plan = await asyncio.wait_for(asyncio.shield(completed), _FORECAST_KEPT_S)
            return predicted(plan)
        return None

    def value(self, task: str) -> Any:
        """Returns the value of one of the nodes asked for, as soon as it is done.

        task: its name, as for `why`. Other tasks may have failed.
        Raises KeyError for a task that was not asked for, or is not done.
        """
        seen, names = self.look(), self.description.names
        task = find_task(task, names)
        ready = [sink for sink in seen.results if names[sink] == task]
        if not ready:
            raise no_value(seen, self.description, task)
        return session.wait(values(self._store, seen, ready))[0]

    # ---- ending ----

    def cancel(self, reason: str = "cancelled") -> bool:
        """End the run and its workers. Returns False if it was over."""
        return session.wait(self._cancel(reason))

    async def _cancel(self, reason: str) -> bool:
        return await self._store.cancel(self.id, reason)

    def kill(self) -> None:
        """Cancel the run, and end its workers without waiting for them."""
        self.cancel("killed")
        if self._launcher is not None:
            session.wait(self._launcher.stop(self.id))

    def forget(self) -> int:
        """Delete everything the store holds of the run. Returns the number of keys deleted."""
        session.wait_for_pending(_HISTORY_S)  # it reads the run from the store
        return session.wait(self._store.forget(self.id))

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """Returns the view of the run as it is now; its text where there is no HTML."""
        return view.bundle(self.snapshot())

    def __repr__(self) -> str:
        """Never asks the store: shows the end of the run only if this handle has seen it."""
        if self._final is None:
            return f"<run {self.id} started; .result() waits for it>"
        if self._final.state is RunState.OK:
            return f"<run {self.id} ok; .result() gives its value>"
        return f"<run {self.id} {self._final.state}; .errors tells why>"


async def outcome(store: Store, seen: Observation) -> Any:
    """Returns the result: a value, a tuple of values, or the structure that was asked for.

    Raises RunCancelledError; RunTimeoutError; TaskFailedError; BlobMissingError when the store has
    lost a value; VersionMismatchError when another Python made the values; ValueUnreadableError
    when one cannot be unpickled here.
    """
    if seen.state is RunState.CANCELLED:
        raise RunCancelledError(seen.run, seen.reason)
    if seen.state is RunState.DEADLINE:
        limit_s = RunDescription.read(seen.meta).deadline_s or seen.finished_at - seen.submitted_at
        raise RunTimeoutError(seen.run, limit_s, "it passed its deadline and was ended")
    description = RunDescription.read(seen.meta)
    if seen.state is RunState.FAILED:
        errors = read_errors(seen.errors, description.names, seen.failed)
        final = [error for error in errors if error.final]
        raise task_failed(seen.run, final or errors[-1:])

    results = await values(store, seen, description.sinks)
    if description.structure:
        return _shaped(seen, description, results)
    return results[0] if description.is_single else results


def _shaped(seen: Observation, description: RunDescription, results: tuple[Any, ...]) -> Any:
    """Returns the values in the structure that was asked for, whose signature is verified.

    Raises ValueUnreadableError.
    """
    try:
        return shaped(description.structure, results)
    except BaseException as error:  # unpickling runs the user's code; SystemExit would end our loop
        names = [description.names[sink] for sink in description.sinks]
        others = dict(zip(names, results, strict=True))
        pickles = {"the structure of the results": (description.structure, ())}
        raise ValueUnreadableError(seen.run, raised_text(error), pickles, others) from error


def no_value(seen: Observation, description: RunDescription, task: str) -> KeyError:
    """Returns the error for a task without a value that can be read, with the cure."""
    done = ", ".join(description.names[sink] for sink in seen.results) or "none"
    text = f"run {seen.run} has no value of {task!r}; done of what was asked for: {done}"
    if description.names.index(task) not in description.sinks:
        text += "; only values of what was asked for are kept, so give its node to dagnb.run too"
    return KeyError(text)


async def values(store: Store, seen: Observation, sinks: Sequence[int]) -> tuple[Any, ...]:
    """Returns the values of these sinks, which are done.

    Raises BlobMissingError, SignatureError, VersionMismatchError, ValueUnreadableError.
    """
    wanted = [(sink, seen.results[sink]) for sink in sinks]
    opened: dict[int, tuple[memoryview, int]] = {}
    for sink, memory in segments.results(seen.run, wanted).items():
        opened[sink] = memory, segments.ALIGNMENT
    remote = [(sink, address) for sink, address in wanted if sink not in opened]
    blobs = await store.fetch(seen.run, remote, is_sink=True)
    lost = [sink for (sink, _), blob in zip(remote, blobs, strict=True) if blob is None]
    if lost:
        names = RunDescription.read(seen.meta).names
        raise BlobMissingError([names[sink] for sink in lost])

    signer = Signer(session.key_for(store))
    # The description says which task is which: a forged one could swap two verified values.
    verify(seen.meta, signer, seen.run)
    for (sink, address), blob in zip(remote, blobs, strict=True):
        assert blob is not None
        opened[sink] = signer.open(f"value:{seen.run}:{sink}:{address.token}", blob), 0
    return _unpickled(seen, sinks, opened)


def _unpickled(
    seen: Observation, sinks: Sequence[int], opened: Mapping[int, tuple[memoryview, int]]
) -> tuple[Any, ...]:
    """Returns the values in these bytes, which are verified; `align` of decode_value with each.

    Raises ValueUnreadableError with the values that could be read.
    """
    read: dict[int, Any] = {}
    failed: dict[int, BaseException] = {}
    for sink in sinks:
        try:
            read[sink] = decode_value(opened[sink][0], align=opened[sink][1])
        # Unpickling runs the user's code; SystemExit would end our loop.
        except BaseException as error:  # noqa: BLE001  # as above
            failed[sink] = error
    if not failed:
        return tuple(read[sink] for sink in sinks)

    names = RunDescription.read(seen.meta).names
    pickles = {}
    for sink in failed:
        data, align = opened[sink]
        pickled, *buffers = value_parts(data, align or 1)
        pickles[names[sink]] = (bytes(pickled), tuple(map(bytes, buffers)))
    first = next(iter(failed.values()))
    others = {names[sink]: value for sink, value in read.items()}
    raise ValueUnreadableError(seen.run, raised_text(first), pickles, others) from first
