"""The real world of a worker: asyncio and a store, each act wrapped in a span by the store's clock."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dagnb.errors import BlobMissingError, DagnbError, SignatureError, StorageFullError, UnserialisableError
from dagnb.graph.context import TaskContext
from dagnb.graph.payload import Signer, decode_call, decode_value, encode_value
from dagnb.protocol.invocation import Invocation
from dagnb.protocol.messages import Address, Commit, Failure, Offer, Record, Reply, Status
from dagnb.protocol.program import Body, FunctionLine
from dagnb.protocol.story import Story
from dagnb.protocol.world import Missing
from dagnb.storage.interface import SMALL_BYTES, Store
from dagnb.trace.span import Phase, Span
from dagnb_workers import exception
from dagnb_workers.executor import Raised
from dagnb_workers.library import Library
from dagnb_workers.patience import persist
from dagnb_workers.recorder import Recorder
from dagnb_workers.values import Values
from dagnb_workers.watch import Caller, Watch

_PATIENCE_S = 60.0
_IDLE_S = 1.0
_LONGEST_BACKOFF_S = 60.0


@dataclass(slots=True)
class Loaded:
    """Everything one call needs, as bytes; problem: why it cannot be called."""

    line: FunctionLine | None = None
    body: Body | None = None
    inputs: list[bytes] = field(default_factory=list)
    constants: dict[str, bytes] = field(default_factory=dict)
    problem: DagnbError | None = None


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
        self._recorder = Recorder()
        self._worker = ""
        self._offer: Offer | None = None
        self._start = invocation
        self._slim = bool(invocation.records)

    def now(self) -> float:
        """The store's clock, as well as it is known here."""
        return self._recorder.now()

    # ---- the World ----

    async def register(self) -> Reply:
        """See World.register; the answer also sets the clock."""
        await self._library.open()
        here = self._invocation
        wanted = (here.worker, here.nonce) if here.worker else None
        sent, begin = time.time(), self._start.asked_at or self.now()
        reply = await persist(
            lambda: self._store.register(
                self._run, self._instance, lease_s=here.lease_s, worker=wanted, slim=self._slim, kind=here.kind
            )
        )
        self._recorder.set_clock(reply.now, sent, time.time())
        if reply.status is Status.TASKS:
            self._recorder.note_start(reply.worker, min(begin, self.now()), self._start)
        if self._start.asked_at:
            self._start = self._start.again()  # what follows an idle wait is no part of the start
        return self._took(reply)

    async def wait_work(self) -> None:
        """Wait for a hint, a second at most; spans do not wait with us."""
        await self.flush()
        await persist(lambda: self._store.wait_work(self._run, _IDLE_S, self._invocation.kind))

    async def fetch(self, offer: Offer) -> Loaded | Missing:
        """Everything the call needs: values at hand, those that came with the offer, the rest in one request."""
        loaded, self._offer = Loaded(), offer
        self._watch.begin(offer.task, offer.attempt, 0.0)  # who dies while pickling is to blame as well
        with self._recorder.span(self._worker, offer, Phase.FETCH) as span:
            found: dict[int, bytes] = {}
            for item in offer.inputs:
                sealed = self._values.find((item.task, item.address.token)) or item.blob
                if sealed is not None:
                    found[item.task] = sealed
            far = [item for item in offer.inputs if item.task not in found]
            if far:
                wanted = [(item.task, item.address) for item in far]
                got = await persist(lambda: self._store.fetch(self._run, wanted))
                found.update({item.task: data for item, data in zip(far, got, strict=True) if data is not None})
                span.n_bytes = sum(len(data) for data in got if data is not None)
            record = self._record(offer)
            gone = tuple(u for u in record.upstream if u not in found)
            if gone:
                return Missing(offer.task, gone)
            addresses = {item.task: item.address for item in offer.inputs}
            for task, sealed in found.items():
                self._values.keep((task, addresses[task].token), sealed)
            try:
                loaded.body = Body.open(record.body, self._signer, self._run, offer.task, record.upstream)
                loaded.line = self._library.lines[loaded.body.function]
                loaded.constants = await self._library.need(loaded.line, loaded.body.contents)
                loaded.inputs = [found[u] for u in record.upstream]
                for u, sealed in zip(record.upstream, loaded.inputs, strict=True):
                    self._signer.open(self._value_name(u, addresses[u].token), sealed)
            except (SignatureError, BlobMissingError) as problem:
                loaded.problem = problem
        return loaded

    async def run(self, offer: Offer, inputs: Loaded) -> Any:
        """Unpickle, then call. Whatever goes wrong is a Failure."""
        begin = self.now()
        if inputs.problem is not None:
            return self._failure(offer, inputs.problem, delay_s=None)
        line, body = inputs.line, inputs.body
        assert line is not None
        assert body is not None
        function, values = None, []
        try:
            function, retry_on = self._library.function(line)
            for sealed in inputs.inputs:
                values.append(decode_value(memoryview(sealed)[16:]))  # noqa: PERF401  # told how far it came
            call = decode_call(body.call, values, inputs.constants)
        except Exception as error:  # noqa: BLE001  # unpickling runs the user's code: it may raise anything
            return await self._unread(offer, error, -1 if function is None else len(values))
        self._recorder.note(
            Span(offer.task, self._worker, Phase.LOAD, begin, self.now(), sum(map(len, inputs.inputs)), offer.attempt)
        )
        here = TaskContext(
            run=self._run,
            task=f"{line.name}-{body.ordinal}",
            attempt=offer.attempt,
            seed=random.Random(f"{self._run}/{offer.task}").getrandbits(63),
            worker=self._worker,
        )
        begin = self.now()
        self._watch.begin(offer.task, offer.attempt, line.timeout_s or 0.0)
        value = await self._call(function, call, here)
        self._watch.begin(offer.task, offer.attempt, 0.0)
        self._recorder.note(Span(offer.task, self._worker, Phase.RUN, begin, self.now(), 0, offer.attempt))
        if isinstance(value, Raised):
            return self._raised(offer, value.error, line, retry_on)
        return value

    async def store(self, offer: Offer, value: Any) -> Commit | Failure:
        """Pickle and sign; store a large result, let a small one ride along with the commit."""
        token = secrets.token_hex(6)
        with self._recorder.span(self._worker, offer, Phase.DUMP) as span:
            try:
                parts = encode_value(value, "?")
            except UnserialisableError as error:
                return self._failure(offer, exception.of_result(error, self._task_name(offer)), delay_s=None)
            sealed = self._signer.seal(self._value_name(offer.task, token), *parts)
            span.n_bytes = len(sealed)
        stdout, stderr = self._watch.take_output()
        log = stdout + stderr
        if len(sealed) <= SMALL_BYTES:
            address = Address(token, len(sealed))
            self._values.keep((offer.task, token), sealed)
            return Commit(task=offer.task, address=address, blob=sealed, log=log)
        record = self._record(offer)
        with self._recorder.span(self._worker, offer, Phase.STORE) as span:
            span.n_bytes = len(sealed)
            try:
                address = await persist(
                    lambda: self._store.store(self._run, offer.task, token, sealed, is_sink=record.is_sink)
                )
            except StorageFullError as error:
                return self._failure(offer, error, delay_s=None)
        self._values.keep((offer.task, token), sealed)
        return Commit(task=offer.task, address=address, log=log)

    async def complete(self, commits: Sequence[Commit]) -> Reply:
        """See World.complete; the spans so far ride along."""
        begin = self.now()
        spans = self._recorder.take()
        try:
            reply = await persist(
                lambda: self._store.complete(self._run, self._instance, commits, spans=spans, slim=self._slim)
            )
        except StorageFullError as error:
            assert self._offer is not None
            return await self.fail(self._failure(self._offer, error, delay_s=None))
        for commit in commits:
            n_bytes = len(commit.blob) if commit.blob is not None else 0
            self._recorder.note(Span(commit.task, self._worker, Phase.COMMIT, begin, self.now(), n_bytes))
        return self._took(reply)

    async def fail(self, failure: Failure) -> Reply:
        """See World.fail."""
        spans = self._recorder.take()
        return self._took(
            await persist(lambda: self._store.fail(self._run, self._instance, failure, spans=spans, slim=self._slim))
        )

    async def lost(self, missing: Missing) -> Reply:
        """See World.lost."""
        return self._took(
            await persist(
                lambda: self._store.lost(self._run, self._instance, missing.task, missing.inputs, slim=self._slim)
            )
        )

    async def flush(self) -> None:
        """Write the spans that no commit took along."""
        spans = self._recorder.take()
        if spans:
            await persist(lambda: self._store.record(self._run, spans))

    # ---- parts ----

    def _raised(
        self, offer: Offer, error: BaseException, line: FunctionLine, retry_on: tuple[type[BaseException], ...]
    ) -> Failure:
        if isinstance(error, KeyboardInterrupt) and self._watch.timed_out(offer.task, offer.attempt):
            message = f"the task ran longer than its limit of {line.timeout_s:g} s and was interrupted"
            delay_s = self._delay_s(offer, line) if issubclass(TimeoutError, retry_on) else None
            return self._failure(offer, error, delay_s=delay_s, kind="TimeLimit", message=message)
        return self._failure(offer, error, delay_s=self._delay_s(offer, line) if isinstance(error, retry_on) else None)

    async def _unread(self, offer: Offer, error: Exception, n_read: int) -> Failure:
        """What could not be unpickled: the function (n_read -1), the value after so many, or an argument."""
        task, upstream = self._task_name(offer), self._record(offer).upstream
        what = f"{'the function' if n_read < 0 else 'an argument'} of task '{task}'"
        if 0 <= n_read < len(upstream):
            names = Story.read((await persist(lambda: self._store.observe(self._run))).meta).names
            what = f"the value of task '{names[upstream[n_read]]}', which task '{task}' takes,"
        return self._failure(offer, error, delay_s=None, message=exception.unread_text(what, error))

    def _delay_s(self, offer: Offer, line: FunctionLine) -> float:
        """Full jitter: anything up to a bound that doubles with each attempt."""
        bound = min(_LONGEST_BACKOFF_S, line.backoff_s * 2.0 ** (offer.attempt - 1))
        return random.uniform(0.0, bound)

    def _failure(
        self, offer: Offer, error: BaseException, *, delay_s: float | None, kind: str = "", message: str = ""
    ) -> Failure:
        stdout, stderr = self._watch.take_output()
        tails = {"stdout_tail": self._library.labelled(stdout), "stderr_tail": self._library.labelled(stderr)}
        facts = {"worker": self._worker, "at": self.now(), **tails}
        return Failure(
            task=offer.task,
            attempt=offer.attempt,
            error=exception.error_json(error, self._library.label, kind=kind, message=message, **facts),
            delay_s=delay_s,
            log=stdout + stderr,
        )

    def _record(self, offer: Offer) -> Record:
        return Record.unpack(offer.record if offer.record is not None else self._invocation.records[offer.task])

    def _task_name(self, offer: Offer) -> str:
        record = self._record(offer)
        body = Body.open(record.body, self._signer, self._run, offer.task, record.upstream)
        return f"{self._library.lines[body.function].name}-{body.ordinal}"

    def _value_name(self, task: int, token: str) -> str:
        return f"value:{self._run}:{task}:{token}"

    def _took(self, reply: Reply) -> Reply:
        self._watch.end()
        if reply.worker and reply.worker != self._worker:
            self._worker = reply.worker
            self._watch.call(reply.worker)
        for offer in reply.offers:
            if 0.0 < offer.ready_at < reply.now:
                self._recorder.note(
                    Span(offer.task, self._worker, Phase.QUEUE, offer.ready_at, reply.now, 0, offer.attempt)
                )
        return reply
