"""The real world of a worker: asyncio and a store, each act recorded as spans by the store's clock.

`dagnb.protocol.worker` decides what comes next and calls the acts of its world. This file holds the
acts that are not simulated. An instance performs them like this:

    act         does                                             round trips  spans
    register    reads the program's header once, asks for work   1, first 3   INVOKE to REGISTER
    wait_work   waits for a hint while its queue is empty        1            none
    fetch       collects upstream values, function, arguments    0 to 2       FETCH, PROGRAM
    run         verifies and unpickles them, calls the function  0            LOAD, IMPORT, RUN
    store       pickles and signs the result, stores a large one,
                in shared memory or in the store; or keeps it    0 or 1       DUMP, STORE
    complete    commits results, gets the next tasks             1            COMMIT
    fail, lost  reports an attempt without a result, gets tasks  1            COMMIT, none
    leave       uploads the spans that are left                  0 or 1       none

So a task with small inputs and a small result costs one round trip, its commit. A QUEUE span is
noted when an offer arrives; it lasts from the moment at which the task became ready.

Rules:
1. No exception of the user's code leaves `run` or `store`: it becomes a `Failure`.
2. When the store is out of reach, steps are repeated for a minute at most.
3. Bytes are verified before they are unpickled.
4. An attempt is announced to the watch from `fetch` until its reply, so that a death of the process
   at any moment in between, pickling included, is charged to the task.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dagnb.errors import (
    BlobMissingError,
    DagnbError,
    SharedMemoryError,
    SignatureError,
    StorageFullError,
    UnserialisableError,
)
from dagnb.graph.context import TaskContext
from dagnb.graph.payload import Signer, encode_value
from dagnb.protocol.invocation import Invocation
from dagnb.protocol.messages import Address, Commit, Failure, Offer, Record, Reply, Status
from dagnb.protocol.program import Body, FunctionLine
from dagnb.protocol.worker import Missing
from dagnb.storage.broker import files_of
from dagnb.storage.interface import SMALL_BYTES, Store
from dagnb.storage.segments import MappedValue, Segments
from dagnb.trace.trace import Phase
from dagnb.trace.upload import DEFAULT, strategy
from dagnb_workers.surroundings.isolation import ImportTime
from dagnb_workers.worker import exception
from dagnb_workers.worker.exception import FailureReporter
from dagnb_workers.worker.executor import Caller, Raised, TakeOutput, Watch, no_output
from dagnb_workers.worker.kept import KeptValue, KeptValues, Result
from dagnb_workers.worker.library import Library
from dagnb_workers.worker.recorder import HeaderRead, Recorder
from dagnb_workers.worker.retry import until_available
from dagnb_workers.worker.values import Values

_IDLE_S = 1.0


@dataclass(slots=True)
class CallInputs:
    """Everything that one call needs, as bytes that are not verified yet.

    problem: why the call is impossible, if it is. begin_s: when the last bytes arrived, by the
    store's clock: the begin of the LOAD span.
    """

    line: FunctionLine | None = None
    body: Body | None = None
    values: list[bytes | MappedValue | KeptValue] = field(default_factory=list)
    contents: dict[str, bytes | memoryview] = field(default_factory=dict)
    problem: DagnbError | None = None
    begin_s: float = 0.0

    @property
    def n_bytes(self) -> int:
        """Bytes to unpickle: upstream values, contents, arguments."""
        call = self.body.call if self.body is not None else b""
        return len(call) + sum(map(len, self.values)) + sum(map(len, self.contents.values()))

    def clear(self) -> None:
        """Release the bytes, which live longer than the arrays of the task that use them."""
        self.values.clear()
        self.contents.clear()


class Runtime:
    """One instance of one run. See dagnb.protocol.worker.World for the acts."""

    def __init__(
        self,
        store: Store,
        invocation: Invocation,
        instance: str,
        call: Caller,
        watch: Watch,
        *,
        take_output: TakeOutput = no_output,
        import_time: ImportTime | None = None,
        at_home: bool = False,
    ) -> None:
        """Begin before `register`.

        call: calls functions. watch: supervises the calls. import_time: spent on imports of tasks.
        at_home: whether this is the client's own process, where the user's modules can be imported
        already.
        """
        self._store = store
        self._invocation = invocation
        self._run = invocation.run
        self._instance = instance
        self._call, self._watch, self._take_output = call, watch, take_output

        self._signer = Signer(invocation.key)
        self._kept = KeptValues()
        self._segments = Segments(
            files_of(invocation), invocation.large_bytes, invocation.arrays_fd
        )
        self._values = Values(store, invocation.run, self._signer, self._segments)
        self._library = Library(
            store,
            self._signer,
            invocation.header,
            unpacks=not at_home,
            map_buffer=self._map_buffer,
        )

        self._recorder = Recorder(strategy(invocation.metrics or DEFAULT), import_time)
        self._failure_reporter = FailureReporter(
            store,
            invocation.run,
            self._signer,
            self._library,
            watch,
            take_output,
            self.now,
            container=invocation.place,
        )
        # The reading becomes a span with the first tasks: before that, the worker is unknown.
        self._header_read: HeaderRead | None = None

        self._worker = ""
        self._is_member = False
        # The last batch, by task; the task at work, its call, and the number of tasks behind it.
        self._offers: dict[int, Offer] = {}
        self._body: Body | None = None
        self._last_record: tuple[int, Record | None] = (-1, None)
        self._n_behind = 0
        self._start = invocation
        # The records of all tasks are in the invocation, so offers need not hold them.
        self._slim = bool(invocation.records)

    def clock(self) -> float:
        """Returns seconds by the clock of the shared status, which the supervisor reads."""
        return time.monotonic()

    def ends_batch(self, offer: Offer) -> bool:
        """Returns whether the task has effects, which a later crash must not have repeated."""
        body = self._body
        return body is not None and not self._library.lines[body.function].pure

    def now(self) -> float:
        """Returns epoch seconds by the store's clock, as well as this instance knows it."""
        return self._recorder.now()

    # ---- the acts of the World ----

    async def register(self, want: int) -> Reply:
        """See World.register; the answer also sets the clock."""
        await self._open_library()
        invocation = self._invocation

        worker = (invocation.worker, invocation.nonce) if invocation.worker else None
        sent_s = time.time()
        begin_s = self._start.asked_at or self.now()
        reply = await until_available(
            lambda: self._store.register(
                self._run,
                self._instance,
                lease_s=invocation.lease_s,
                want=want,
                worker=worker,
                slim=self._slim,
                kind=invocation.kind,
            )
        )

        self._recorder.set_clock(reply.now, sent_s, time.time())

        if reply.status is Status.TASKS:
            header_read, self._header_read = self._header_read, None
            if header_read is not None:
                self._recorder.note_header_read(reply.worker, header_read)
            # After an idle wait, reading the header was not a part of this start.
            on_the_way = header_read if self._start.asked_at else None
            begin_s = min(begin_s, self.now())
            self._recorder.note_start(reply.worker, begin_s, self._start, on_the_way)
        if self._start.asked_at:
            # A later start is another one: the phases of this start must not count twice.
            self._start = self._start.again()
        return await self._accept(reply)

    async def wait_work(self) -> None:
        """Wait until there may be work, at most one second.

        Returns earlier when held spans must be uploaded earlier. A hint may be lost or wrong: the
        worker registers again in any case, because only the store's state counts.
        """
        self._recorder.close(until_now=False)
        if self._recorder.wait_s() <= 0.0:
            await self._upload()

        limit_s = min(_IDLE_S, self._recorder.wait_s())
        await until_available(
            lambda: self._store.wait_work(self._run, limit_s, self._invocation.kind)
        )

    async def fetch(self, offer: Offer, n_behind: int) -> CallInputs | Missing:
        """Collect all that the call needs. Returns Missing if the store has lost values of it."""
        self._recorder.close()
        inputs = CallInputs(begin_s=self.now())
        self._n_behind, self._body = n_behind, None
        self._watch.begin(offer.task, offer.attempt, 0.0, n_behind)

        record = self._record(offer)
        kept = self._kept.take_all(record.upstream)
        try:
            with self._recorder.span(self._worker, offer, Phase.FETCH) as span:
                collected, span.n_bytes = await self._values.collect(offer, kept)
        except SharedMemoryError as problem:
            inputs.problem = problem  # `run` reports it: a fetch cannot fail
            return inputs
        if span.n_bytes:
            inputs.begin_s = self.now()
        values = {**collected, **kept}
        if any(task not in values for task in record.upstream):
            # The task will wait, and may be run elsewhere: what was kept for it is lost, too.
            lost = [task for task in record.upstream if task in kept or task not in values]
            return Missing(offer.task, tuple(lost))
        inputs.values = [values[task] for task in record.upstream]

        try:
            inputs.body = Body.open(
                record.body,
                self._signer,
                self._run,
                offer.task,
                record.upstream,
                self._library.calls,
            )
            inputs.line, self._body = self._library.lines[inputs.body.function], inputs.body
            with self._recorder.span(self._worker, offer, Phase.PROGRAM) as span:
                before = self._library.n_read
                inputs.contents = await self._library.need(inputs.line, inputs.body.contents)
                span.n_bytes = self._library.n_read - before
            if span.n_bytes:
                inputs.begin_s = self.now()
        except (SignatureError, BlobMissingError, SharedMemoryError) as problem:
            inputs.problem = problem  # as above
        return inputs

    async def run(self, offer: Offer, inputs: CallInputs) -> Result | Failure:
        """Verify, unpickle and call. Returns the function's value, or the Failure of a step."""
        if inputs.problem is not None:
            return self._failure_reporter.failure(offer, inputs.problem)
        line, body, record = inputs.line, inputs.body, self._record(offer)
        assert line is not None
        assert body is not None

        function, values = None, list[Any]()
        try:
            with self._recorder.span(self._worker, offer, Phase.LOAD, inputs.begin_s) as span:
                span.n_bytes = inputs.n_bytes
                function, retry_on = self._library.function(line)
                self._values.load(offer, record.upstream, inputs.values, values)
                call = body.arguments(values, inputs.contents, self._library.flat)
                inputs.clear()
                context = self._context(offer, f"{line.name}-{body.ordinal}")
        except SignatureError as error:
            return self._failure_reporter.failure(offer, error)
        except BaseException as error:  # noqa: BLE001  # SystemExit would end the worker
            # Unpickling runs the user's code, which may raise anything.
            n_read = -1 if function is None else len(values)
            return await self._failure_reporter.unread(offer, record, error, n_read)

        with self._recorder.span(self._worker, offer, Phase.RUN):
            if line.timeout_s:
                self._watch.begin(offer.task, offer.attempt, line.timeout_s, self._n_behind)
            value = await self._call(function, call, context)
            del call, values  # here, so that this span includes the time to free large arguments
            self._segments.tidy()
            if line.timeout_s:
                self._watch.begin(offer.task, offer.attempt, 0.0, self._n_behind)
        if isinstance(value, Raised):
            return self._failure_reporter.raised(offer, value.error, line, retry_on)
        return Result(value)

    def reader(self, offer: Offer) -> tuple[int, int]:
        """See World.reader."""
        return self._record(offer).reader

    async def store(self, offer: Offer, value: Result, *, keeps: bool) -> Commit | Failure:
        """Pickle and sign the value. Returns its commit, which holds a small value itself.

        A large value is stored. Returns a Failure if the value cannot be pickled or the store is
        full.
        """
        record, token, kept = self._record(offer), secrets.token_hex(6), None
        with self._recorder.span(self._worker, offer, Phase.DUMP) as span:
            try:
                if keeps:
                    kept = self._kept.keep(offer.task, self.reader(offer)[0], value)
                parts = encode_value(value.value, "?") if kept is None else []
            except UnserialisableError as error:
                name = self._failure_reporter.task_name(offer, record)
                return self._failure_reporter.failure(offer, exception.of_result(error, name))
            log = "".join(self._take_output())
            if kept is not None:
                span.n_bytes = kept.n_bytes
                address = Address(token, kept.n_bytes)
                return Commit(task=offer.task, address=address, is_kept=True, log=log)
            sealed = self._sealed_or_segment(offer, token, parts)
            span.n_bytes = len(sealed) or sum(map(len, parts))
        return await self._store_sealed(offer, token, parts, sealed, log)

    async def store_kept(self, offer: Offer) -> Commit | Failure | None:
        """See World.store_kept."""
        kept, token = self._kept.take(offer.task), secrets.token_hex(6)
        if kept is None:
            return None
        parts = kept.parts()
        sealed = self._sealed_or_segment(offer, token, parts)
        return await self._store_sealed(offer, token, parts, sealed, "")

    def _sealed_or_segment(
        self, offer: Offer, token: str, parts: Sequence[bytes | memoryview]
    ) -> bytes:
        """Returns the signed result, b'' for one that belongs into a segment.

        A sink is read after the run, too, when its segments are gone.
        """
        if not self._record(offer).is_sink and self._segments.takes(parts):
            return b""
        return self._values.sealed(offer.task, token, parts)

    async def _store_sealed(
        self,
        offer: Offer,
        token: str,
        parts: Sequence[bytes | memoryview],
        sealed: bytes,
        log: str,
    ) -> Commit | Failure:
        """Store a pickled result, or make it part of its commit. sealed: b'' for a segment."""
        is_sink = self._record(offer).is_sink
        if not sealed:
            with self._recorder.span(self._worker, offer, Phase.STORE) as span:
                span.n_bytes = sum(map(len, parts))
                pointer = self._segments.write(offer.task, token, parts)
                sealed = self._values.sealed(offer.task, token, [pointer] if pointer else parts)
        if len(sealed) <= SMALL_BYTES:
            address = Address(token, len(sealed))
            self._values.keep(offer.task, token, sealed)
            return Commit(task=offer.task, address=address, blob=sealed, log=log)

        with self._recorder.span(self._worker, offer, Phase.STORE) as span:
            span.n_bytes = len(sealed)
            if is_sink and self._segments.takes(parts):
                # For the client, if it is here.
                self._segments.write(offer.task, token, parts, is_copy=True)
            try:
                address = await until_available(
                    lambda: self._store.store(
                        self._run,
                        offer.task,
                        token,
                        sealed,
                        is_sink=is_sink,
                    )
                )
            except StorageFullError as error:
                return self._failure_reporter.failure(offer, error)
        self._values.keep(offer.task, token, sealed)
        return Commit(task=offer.task, address=address, log=log)

    async def complete(self, commits: Sequence[Commit], want: int) -> Reply:
        """See World.complete; the request also uploads spans that are due."""
        begin_s = self.now()
        try:
            with self._recorder.sending() as spans:
                reply = await until_available(
                    lambda: self._store.complete(
                        self._run,
                        self._instance,
                        commits,
                        want=want,
                        spans=spans,
                        slim=self._slim,
                    )
                )
        except StorageFullError as error:
            # The commit holds small values, so a full store fails the task that made them. Those of
            # a batch are committed one by one, to find it.
            if len(commits) > 1:
                return await self._complete_singly(commits, want)
            offer = self._offers[commits[0].task]
            return await self.fail(self._failure_reporter.failure(offer, error), want)
        for commit in commits:
            n_bytes = len(commit.blob) if commit.blob is not None else 0
            self._note_commit(commit.task, begin_s, n_bytes)
        return await self._accept(reply)

    async def fail(self, failure: Failure, want: int) -> Reply:
        """See World.fail; the request also uploads spans that are due."""
        begin_s = self.now()
        with self._recorder.sending() as spans:
            reply = await until_available(
                lambda: self._store.fail(
                    self._run,
                    self._instance,
                    failure,
                    want=want,
                    spans=spans,
                    slim=self._slim,
                )
            )
        self._note_commit(failure.task, begin_s, 0, "failed")
        return await self._accept(reply)

    async def lost(self, missing: Missing, want: int) -> Reply:
        """See World.lost."""
        reply = await until_available(
            lambda: self._store.lost(
                self._run,
                self._instance,
                missing.task,
                missing.inputs,
                want=want,
                slim=self._slim,
            )
        )
        return await self._accept(reply)

    async def leave(self) -> None:
        """Upload the spans that are left. A member of the run marks their chunk as its last one.

        A trace is complete when it has a last chunk of every instance that took part in the run.
        """
        await self._upload(is_last=self._is_member)

    # ---- parts of acts ----

    async def _complete_singly(self, commits: Sequence[Commit], want: int) -> Reply:
        """Commit one by one. Returns the last reply, the only one that may bring new tasks."""
        offers = dict(self._offers)
        for commit in commits:
            self._offers = offers  # a reply offers again what is still to be committed
            reply = await self.complete([commit], want)
            if reply.status is not Status.TASKS:
                break
        return reply

    async def _open_library(self) -> None:
        """Read the program's header, once."""
        begin_at = time.time()
        n_bytes = await self._library.open()
        if n_bytes:
            self._header_read = HeaderRead(begin_at, time.time(), n_bytes)

    def _map_buffer(self, content: str) -> memoryview | None:
        place = self._invocation.arrays.get(content)
        return None if place is None else self._segments.map_array(place)

    async def _accept(self, reply: Reply) -> Reply:
        """Apply a reply: end the attempt, update membership and worker, note queueing of offers."""
        if reply.status is Status.IDLE and self._invocation.linger_s is not None:
            # An idle container may be ended at any moment, and its spans would be lost.
            await self._upload()

        if reply.status is not Status.NO_BLOB:
            self._watch.end()
            self._kept.drop_but_for(offer.task for offer in reply.offers)
        if reply.status is not Status.STOP:
            # STOP does not tell membership: a run that is over answers it to every instance.
            self._is_member = reply.status not in {Status.FENCED, Status.REFUSED}

        if reply.worker and reply.worker != self._worker:
            self._worker = self._failure_reporter.worker = reply.worker
            self._watch.staff(reply.worker)

        if reply.offers:
            self._offers = {offer.task: offer for offer in reply.offers}
        for offer in reply.offers:
            # ready_at may be unknown (0), or ahead of the store's clock: then nothing is noted.
            if 0.0 < offer.ready_at < reply.now:
                self._recorder.note(
                    offer.task,
                    self._worker,
                    Phase.QUEUE,
                    offer.ready_at,
                    reply.now,
                    0,
                    offer.attempt,
                )
        return reply

    async def _upload(self, *, is_last: bool = False) -> None:
        """Upload all spans, whether they are due or not."""
        self._recorder.close(until_now=False)
        with self._recorder.sending(everything=True, is_last=is_last) as spans:
            if spans:
                await until_available(lambda: self._store.record(self._run, spans))

    def _note_commit(self, task: int, begin_s: float, n_bytes: int, detail: str = "") -> None:
        attempt = self._offers[task].attempt
        self._recorder.hold_open(
            task, self._worker, Phase.COMMIT, begin_s, n_bytes, attempt, detail
        )

    def _context(self, offer: Offer, name: str) -> TaskContext:
        # The seed depends on run and task only, so that a retry elsewhere draws the same numbers.
        digest = hashlib.blake2b(f"{self._run}/{offer.task}".encode(), digest_size=8).digest()
        seed = int.from_bytes(digest) >> 1  # 63 bits: positive as a signed number of 64
        return TaskContext(
            run=self._run,
            task=name,
            attempt=offer.attempt,
            seed=seed,
            worker=self._worker,
        )

    def _record(self, offer: Offer) -> Record:
        # Three acts of one task ask for it, one after the other.
        task, record = self._last_record
        if record is None or task != offer.task:
            packed = offer.record
            if packed is None:
                packed = self._invocation.records[offer.task]
            record = Record.unpack(packed)
            self._last_record = (offer.task, record)
        return record
