"""The real world of a worker: asyncio and a store, each act wrapped in a span by the store's clock."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Sequence
from typing import Any

from dagnb.errors import BlobMissingError, SignatureError, StorageFullError, UnserialisableError
from dagnb.graph.context import TaskContext
from dagnb.graph.payload import Signer, decode_value, encode_value
from dagnb.protocol.invocation import Invocation
from dagnb.protocol.messages import Address, Commit, Failure, Offer, Record, Reply, Status
from dagnb.protocol.program import Body
from dagnb.protocol.world import Missing
from dagnb.storage.interface import SMALL_BYTES, Store
from dagnb.trace.span import Phase, Span
from dagnb.trace.upload import DEFAULT, strategy
from dagnb_workers.worker import exception
from dagnb_workers.worker.executor import Raised
from dagnb_workers.worker.failure_reporter import FailureReporter
from dagnb_workers.worker.library import Library
from dagnb_workers.worker.loaded import Loaded
from dagnb_workers.worker.recorder import Opened, Recorder
from dagnb_workers.worker.retry import until_available
from dagnb_workers.worker.values import Values
from dagnb_workers.worker.watch import Caller, Watch

_IDLE_S = 1.0


class Runtime:
    """One instance of one run. See dagnb.protocol.world.World for what each method is."""

    def __init__(
        self,
        store: Store,
        invocation: Invocation,
        instance: str,
        call: Caller,
        watch: Watch,
        *,
        at_home: bool = False,
    ) -> None:
        """call: how functions are called here. watch: who supervises and captures.

        at_home: this is the client's own process, where the user's modules are importable without unpacking them.
        """
        self._store = store
        self._invocation = invocation
        self._run = invocation.run
        self._instance = instance
        self._call, self._watch = call, watch
        self._signer = Signer(invocation.key)
        self._values: Values[tuple[int, str]] = Values()
        self._library = Library(store, self._signer, invocation.header, unpacks=not at_home)
        self._recorder = Recorder(strategy(invocation.metrics or DEFAULT))
        self._failure_reporter = FailureReporter(
            store,
            invocation.run,
            self._signer,
            self._library,
            watch,
            self.now,
            container=invocation.place,
        )
        self._opened: Opened | None = None
        self._worker = ""
        self._is_member = False
        self._offer: Offer | None = None
        self._start = invocation
        self._slim = bool(invocation.records)

    def now(self) -> float:
        """The store's clock, as well as it is known here."""
        return self._recorder.now()

    # ---- the World ----

    async def register(self) -> Reply:
        """See World.register; the answer also sets the clock."""
        await self._open()
        here = self._invocation
        wanted = (here.worker, here.nonce) if here.worker else None
        sent, begin = time.time(), self._start.asked_at or self.now()
        reply = await until_available(
            lambda: self._store.register(
                self._run,
                self._instance,
                lease_s=here.lease_s,
                worker=wanted,
                slim=self._slim,
                kind=here.kind,
            )
        )
        self._recorder.set_clock(reply.now, sent, time.time())
        if reply.status is Status.TASKS:
            opened, self._opened = self._opened, None
            if opened is not None:
                self._recorder.note_opened(reply.worker, opened)
            on_the_way = opened if self._start.asked_at else None
            self._recorder.note_start(reply.worker, min(begin, self.now()), self._start, on_the_way)
        if self._start.asked_at:
            self._start = self._start.again()  # what follows an idle wait is no part of the start
        return await self._took(reply)

    async def wait_work(self) -> None:
        """Wait for a hint, a second at most, and no longer than spans may be held."""
        self._recorder.close(until_now=False)
        if self._recorder.wait_s() <= 0.0:
            await self._upload()
        limit_s = min(_IDLE_S, self._recorder.wait_s())
        await until_available(
            lambda: self._store.wait_work(self._run, limit_s, self._invocation.kind)
        )

    async def fetch(self, offer: Offer) -> Loaded | Missing:
        """Everything the call needs: values at hand, those that came with the offer, the rest in one request."""
        self._recorder.close()
        loaded, self._offer = Loaded(begin_s=self.now()), offer
        self._watch.begin(
            offer.task, offer.attempt, 0.0
        )  # who dies while pickling is to blame as well
        found, n_bytes = await self._inputs(offer)
        if n_bytes:
            loaded.begin_s = self.now()
        record = self._record(offer)
        gone = tuple(u for u in record.upstream if u not in found)
        if gone:
            return Missing(offer.task, gone)
        loaded.inputs = [found[u] for u in record.upstream]
        try:
            loaded.body = Body.open(
                record.body, self._signer, self._run, offer.task, record.upstream
            )
            loaded.line = self._library.lines[loaded.body.function]
            with self._recorder.span(self._worker, offer, Phase.PROGRAM) as span:
                before = self._library.n_read
                loaded.contents = await self._library.need(loaded.line, loaded.body.contents)
                span.n_bytes = self._library.n_read - before
            if span.n_bytes:
                loaded.begin_s = self.now()
        except (SignatureError, BlobMissingError) as problem:
            loaded.problem = problem
        return loaded

    async def run(self, offer: Offer, inputs: Loaded) -> Any:
        """Verify and unpickle, then call. Whatever goes wrong is a Failure."""
        if inputs.problem is not None:
            return self._failure_reporter.failure(offer, inputs.problem)
        line, body = inputs.line, inputs.body
        assert line is not None
        assert body is not None
        function, values = None, []
        tokens = {item.task: item.address.token for item in offer.inputs}
        try:
            with self._recorder.span(self._worker, offer, Phase.LOAD, inputs.begin_s) as span:
                span.n_bytes = inputs.n_bytes
                function, retry_on = self._library.function(line)
                for u, sealed in zip(self._record(offer).upstream, inputs.inputs, strict=True):
                    verified = self._signer.open(self._value_name(u, tokens[u]), sealed)
                    values.append(decode_value(verified))  # one by one: told how far it came
                call = body.arguments(values, inputs.contents)
                here = self._context(offer, f"{line.name}-{body.ordinal}")
        except SignatureError as error:
            return self._failure_reporter.failure(offer, error)
        except BaseException as error:  # noqa: BLE001  # unpickling runs the user's code: SystemExit would end the worker
            return await self._failure_reporter.unread(
                offer, self._record(offer), error, -1 if function is None else len(values)
            )
        with self._recorder.span(self._worker, offer, Phase.RUN):
            self._watch.begin(offer.task, offer.attempt, line.timeout_s or 0.0)
            value = await self._call(function, call, here)
            del call, values  # frees what it was given, which may take long, within the span
            self._watch.begin(offer.task, offer.attempt, 0.0)
        return (
            self._failure_reporter.raised(offer, value.error, line, retry_on)
            if isinstance(value, Raised)
            else value
        )

    async def store(self, offer: Offer, value: Any) -> Commit | Failure:
        """Pickle and sign; store a large result, let a small one ride along with the commit."""
        with self._recorder.span(self._worker, offer, Phase.DUMP) as span:
            token, record = secrets.token_hex(6), self._record(offer)
            try:
                parts = encode_value(value, "?")
            except UnserialisableError as error:
                name = self._failure_reporter.task_name(offer, record)
                return self._failure_reporter.failure(offer, exception.of_result(error, name))
            sealed = self._signer.seal(self._value_name(offer.task, token), *parts)
            span.n_bytes = len(sealed)
            log = "".join(self._watch.take_output())
        if len(sealed) <= SMALL_BYTES:
            address = Address(token, len(sealed))
            self._values.keep((offer.task, token), sealed)
            return Commit(task=offer.task, address=address, blob=sealed, log=log)
        with self._recorder.span(self._worker, offer, Phase.STORE) as span:
            span.n_bytes = len(sealed)
            try:
                address = await until_available(
                    lambda: self._store.store(
                        self._run, offer.task, token, sealed, is_sink=record.is_sink
                    )
                )
            except StorageFullError as error:
                return self._failure_reporter.failure(offer, error)
        self._values.keep((offer.task, token), sealed)
        return Commit(task=offer.task, address=address, log=log)

    async def complete(self, commits: Sequence[Commit]) -> Reply:
        """See World.complete; the spans that are due ride along."""
        begin = self.now()
        try:
            with self._recorder.sending() as spans:
                reply = await until_available(
                    lambda: self._store.complete(
                        self._run, self._instance, commits, spans=spans, slim=self._slim
                    )
                )
        except StorageFullError as error:
            assert self._offer is not None
            return await self.fail(self._failure_reporter.failure(self._offer, error))
        for commit in commits:
            n_bytes = len(commit.blob) if commit.blob is not None else 0
            self._note_commit(commit.task, begin, n_bytes)
        return await self._took(reply)

    async def fail(self, failure: Failure) -> Reply:
        """See World.fail."""
        begin = self.now()
        with self._recorder.sending() as spans:
            reply = await until_available(
                lambda: self._store.fail(
                    self._run, self._instance, failure, spans=spans, slim=self._slim
                )
            )
        self._note_commit(failure.task, begin, 0, "failed")
        return await self._took(reply)

    async def lost(self, missing: Missing) -> Reply:
        """See World.lost."""
        return await self._took(
            await until_available(
                lambda: self._store.lost(
                    self._run, self._instance, missing.task, missing.inputs, slim=self._slim
                )
            )
        )

    async def leave(self) -> None:
        """Upload what is left, and tell those who wait for complete spans that no more will come."""
        await self._upload(is_last=self._is_member)

    # ---- parts ----

    async def _upload(self, *, is_last: bool = False) -> None:
        """Upload all spans, whether they are due or not."""
        self._recorder.close(until_now=False)
        with self._recorder.sending(everything=True, is_last=is_last) as spans:
            if spans:
                await until_available(lambda: self._store.record(self._run, spans))

    async def _open(self) -> None:
        """Read the program's header, once."""
        begin_at = time.time()
        if n_bytes := await self._library.open():
            self._opened = Opened(begin_at, time.time(), n_bytes)

    async def _inputs(self, offer: Offer) -> tuple[dict[int, bytes], int]:
        """The sealed values of the upstream tasks, as far as the store still has them, and how many bytes travelled."""
        found: dict[int, bytes] = {}
        with self._recorder.span(self._worker, offer, Phase.FETCH) as span:
            for item in offer.inputs:
                sealed = self._values.find((item.task, item.address.token)) or item.blob
                if sealed is not None:
                    found[item.task] = sealed
            far = [item for item in offer.inputs if item.task not in found]
            if far:
                wanted = [(item.task, item.address) for item in far]
                got = await until_available(lambda: self._store.fetch(self._run, wanted))
                found.update(
                    {
                        item.task: data
                        for item, data in zip(far, got, strict=True)
                        if data is not None
                    }
                )
                span.n_bytes = sum(len(data) for data in got if data is not None)
        for item in offer.inputs:
            if item.task in found:
                self._values.keep((item.task, item.address.token), found[item.task])
        return found, span.n_bytes

    def _context(self, offer: Offer, name: str) -> TaskContext:
        seed = random.Random(f"{self._run}/{offer.task}").getrandbits(63)
        return TaskContext(
            run=self._run, task=name, attempt=offer.attempt, seed=seed, worker=self._worker
        )

    def _note_commit(self, task: int, begin_s: float, n_bytes: int, detail: str = "") -> None:
        attempt = self._offer.attempt if self._offer is not None and self._offer.task == task else 1
        self._recorder.hold_open(
            Span(task, self._worker, Phase.COMMIT, begin_s, self.now(), n_bytes, attempt, detail)
        )

    def _record(self, offer: Offer) -> Record:
        return Record.unpack(
            offer.record if offer.record is not None else self._invocation.records[offer.task]
        )

    def _value_name(self, task: int, token: str) -> str:
        return f"value:{self._run}:{task}:{token}"

    async def _took(self, reply: Reply) -> Reply:
        if reply.status is Status.IDLE and self._invocation.linger_s is not None:
            await self._upload()  # whoever rests there is ended without a word
        self._watch.end()
        if (
            reply.status is not Status.STOP
        ):  # then it is in the store as one of the run's instances, or it is not
            self._is_member = reply.status not in {Status.FENCED, Status.REFUSED}
        if reply.worker and reply.worker != self._worker:
            self._worker = self._failure_reporter.worker = reply.worker
            self._watch.call(reply.worker)
        for offer in reply.offers:
            if 0.0 < offer.ready_at < reply.now:
                self._recorder.note(
                    Span(
                        offer.task,
                        self._worker,
                        Phase.QUEUE,
                        offer.ready_at,
                        reply.now,
                        0,
                        offer.attempt,
                    )
                )
        return reply
