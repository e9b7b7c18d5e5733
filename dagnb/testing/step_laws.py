"""Laws of every store about steps and values, and the runs on which all laws are tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import pytest

from dagnb.protocol.messages import (
    HELD,
    Address,
    Charge,
    Commit,
    Death,
    Failure,
    Offer,
    Queue,
    Record,
    Reply,
    RunState,
    Status,
    Submission,
    bits_of,
)
from dagnb.storage.interface import SMALL_BYTES, Store

LEASE_S = 8.0
POOL = Queue("~", 4)
SIZES_ALONG = (0, 1, 128, 129, SMALL_BYTES)
SIZES = (0, 1, SMALL_BYTES, SMALL_BYTES + 1, 1024 * 1024, 3_670_016)


class Subject(Protocol):
    """A store under test, with control over its clock and its values.

    advance: moves the clock. evict: deletes the bytes of a value, as a full server may do.
    """

    store: Store

    def advance(self, seconds: float) -> None: ...

    async def evict(self, run: str, task: int, address: Address) -> None: ...


def run_of(
    upstreams: Sequence[tuple[int, ...]], *, queue: Queue = POOL, retries: int = 0, **more: Any
) -> Submission:
    """Returns a run on one queue. upstreams: of each task. Tasks without downstream are its sinks.

    more: further fields of the submission.
    """
    starts, n_bits = bits_of(upstreams)
    edges: list[list[tuple[int, int, int, int, int, int]]] = [[] for _ in upstreams]
    for child, upstream in enumerate(upstreams):
        for i, up in enumerate(upstream):
            # Child, its bit for this edge, its first bit, their number, its queue and its priority.
            edges[up].append((child, starts[child] + i, starts[child], len(upstream), 0, child))

    records: list[bytes] = []
    sinks: list[int] = []
    sources: list[int] = []
    for task, upstream in enumerate(upstreams):
        record = Record(
            queue=0,
            priority=task,
            is_sink=not edges[task],
            retries=retries,
            upstream=upstream,
            edges=tuple(edges[task]),
            body=b"f",
        )
        records.append(record.pack())
        if not edges[task]:
            sinks.append(task)
        if not upstream:
            sources.append(task)
    submission = Submission(
        run="run",
        records=tuple(records),
        queues=(queue,),
        sinks=tuple(sinks),
        sources=tuple(sources),
        n_bits=n_bits,
        meta='{"name": "laws"}',
    )
    return replace(submission, **more)


def apart(*kinds: str, **more: Any) -> Submission:
    """Returns a run of tasks without edges: task i is pinned to worker wi of the i-th kind."""
    plain = run_of([()] * len(kinds), **more)
    records, queues = [], []
    for i, kind in enumerate(kinds):
        records.append(replace(Record.unpack(plain.records[i]), queue=i).pack())
        queues.append(Queue(f"w{i}", 1, kind))
    return replace(plain, records=tuple(records), queues=tuple(queues))


def chain(n: int, **more: Any) -> Submission:
    """Returns the run 0 -> 1 -> ... -> n-1."""
    return run_of([(t - 1,) if t else () for t in range(n)], **more)


def small(offer: Offer, value: bytes = b"value") -> Commit:
    """Returns a commit that carries the bytes of its value."""
    return Commit(task=offer.task, address=Address(f"token{offer.task}", len(value)), blob=value)


def tasks_of(reply: Reply) -> list[int]:
    """Returns the tasks that a reply offers."""
    return [offer.task for offer in reply.offers]


async def woken(store: Store, instance: str = "i1") -> Reply:
    """Returns the reply to an idle instance, which waits for a hint and registers again."""
    reply = await store.register("run", instance, lease_s=LEASE_S)
    # This step may have asked for a worker itself; the hint that follows brings its tasks.
    if reply.status is Status.IDLE:
        await store.wait_work("run", 5)
        reply = await store.register("run", instance, lease_s=LEASE_S)
    return reply


async def finish(store: Store, reply: Reply, instance: str = "i1", want: int = 1) -> Reply:
    """Completes all tasks that are offered, and returns the last reply, which offers none."""
    while reply.status is Status.TASKS:
        commits = list(map(small, reply.offers))
        reply = await store.complete("run", instance, commits, want=want, slim=True)
    return reply


class StepLaws:
    """Laws about the steps of the protocol, and about values."""

    async def test_a_run_is_put_once(self, subject: Subject) -> None:
        store, submission = subject.store, chain(2)
        first = await store.submit(submission)
        await store.register("run", "i1", lease_s=LEASE_S)
        subject.advance(1)

        assert await store.submit(submission) == first

        seen = await store.observe("run")
        assert (seen.state, seen.states, seen.submitted_at) == (RunState.RUNNING, "XW", first)

    async def test_a_chain_runs_in_order_and_small_inputs_ride_along(
        self, subject: Subject
    ) -> None:
        store, submission = subject.store, chain(3)
        await store.submit(submission)

        reply = await store.register("run", "i1", lease_s=LEASE_S)
        assert (reply.worker, tasks_of(reply), reply.offers[0].record) == (
            "~/1",
            [0],
            submission.records[0],
        )
        reply = await store.complete("run", "i1", [small(reply.offers[0], b"zero")])
        assert [(i.task, i.blob) for i in reply.offers[0].inputs] == [(0, b"zero")]
        reply = await store.complete("run", "i1", [small(reply.offers[0])], slim=True)
        assert (tasks_of(reply), reply.offers[0].record) == ([2], None)
        reply = await store.complete("run", "i1", [small(reply.offers[0], b"end")])

        assert reply.status is Status.STOP
        seen = await store.observe("run")
        assert (seen.state, seen.states) == (RunState.OK, "DDD")
        assert await store.fetch("run", list(seen.results.items()), is_sink=True) == [b"end"]

    async def test_a_repeated_step_changes_nothing(self, subject: Subject) -> None:
        store = subject.store
        await store.submit(chain(3, retries=1))

        for _ in range(2):
            reply = await store.register("run", "i1", lease_s=LEASE_S)
            assert tasks_of(reply) == [0]
        # A connection may break after a step and before its reply: clients repeat every step.
        commit = small(reply.offers[0])
        for _ in range(2):
            assert tasks_of(await store.complete("run", "i1", [commit], spans=b"")) == [1]
        failure = Failure(task=1, attempt=1, error="{}", delay_s=0.0)
        for _ in range(2):
            assert (await store.fail("run", "i1", failure)).offers[0].attempt == 2
        death = Death(instance="i1", task=1, charge=Charge.CRASH, error="{}", delay_s=0.0)
        assert [await store.dead("run", death) for _ in range(2)] == [True, False]
        assert [await store.cancel("run", "enough") for _ in range(2)] == [True, False]

        seen = await store.observe("run")
        assert (seen.states, seen.state, seen.reason) == ("DCC", RunState.CANCELLED, "enough")
        assert sorted(seen.errors) == [(1, 1), (1, 2)]
        assert [e.kind for e in seen.events].count("done") == 1

    async def test_an_instance_that_dies_with_its_supervisor_is_charged_for_all_its_tasks(
        self, subject: Subject
    ) -> None:
        store = subject.store
        await store.submit(run_of([(), (), ()], queue=Queue("w0", 1), crash_budget=1))
        assert tasks_of(await store.register("run", "i1", lease_s=LEASE_S, want=2)) == [0, 1]

        assert await store.dead(
            "run", Death(instance="i1", task=HELD, charge=Charge.CRASH, error="[]", delay_s=0.0)
        )

        seen = await store.observe("run")
        assert (seen.states, seen.errors) == ("RRR", {(0, 1): "[]", (1, 1): "[]"})

    async def test_an_instance_gets_a_fair_share_of_what_is_ready(self, subject: Subject) -> None:
        store = subject.store
        await store.submit(run_of([() for _ in range(8)], queue=Queue("~", 2)))

        # Two members are asked for, so each may take half of the eight, then half of the rest.
        assert len(tasks_of(await store.register("run", "i1", lease_s=LEASE_S, want=9))) == 4
        assert len(tasks_of(await store.register("run", "i2", lease_s=LEASE_S, want=9))) == 2
        assert (await store.observe("run")).states.count("R") == 2

    async def test_a_task_that_was_charged_before_is_taken_alone(self, subject: Subject) -> None:
        store = subject.store
        await store.submit(run_of([(), (), (), ()], queue=Queue("w0", 1), retries=1))
        reply = await store.register("run", "i1", lease_s=LEASE_S, want=9)
        assert tasks_of(reply) == [0, 1, 2, 3]
        await store.give_back("run", "i1", 0, 1)
        failed = Failure(task=0, attempt=1, error="{}", delay_s=0.0)

        reply = await store.fail("run", "i1", failed, want=9)

        assert [(offer.task, offer.attempt) for offer in reply.offers] == [(0, 2)]
        reply = await store.complete("run", "i1", [small(reply.offers[0])], want=9)
        assert tasks_of(reply) == [1, 2, 3]

    async def test_tasks_behind_a_slow_one_are_given_back_uncharged(self, subject: Subject) -> None:
        store = subject.store
        await store.submit(run_of([(), (), ()], queue=Queue("w0", 1)))
        reply = await store.register("run", "i1", lease_s=LEASE_S, want=9)
        assert tasks_of(reply) == [0, 1, 2]

        assert await store.give_back("run", "i1", 1, 2) == 0  # it runs another attempt
        assert await store.give_back("run", "i2", 1, 1) == 0  # nothing runs there
        assert (await store.observe("run")).states == "XXX"
        assert await store.give_back("run", "i1", 0, 1) == 2
        assert await store.give_back("run", "i1", 0, 1) == 0

        seen = await store.observe("run")
        assert (seen.states, seen.errors) == ("XRR", {})
        reply = await store.complete("run", "i1", [small(reply.offers[0])])
        assert [(offer.task, offer.attempt) for offer in reply.offers] == [(1, 1)]

    async def test_none_a_missing_value_and_a_failed_task_differ(self, subject: Subject) -> None:
        store = subject.store
        await store.submit(run_of([(), ()], on_error="continue"))
        reply = await store.register("run", "i1", lease_s=LEASE_S)
        none = small(reply.offers[0], b"N.")

        reply = await store.complete("run", "i1", [none])
        await store.fail("run", "i1", Failure(task=1, attempt=1, error='{"type": "E"}'))

        seen = await store.observe("run")
        assert (seen.states, seen.state) == ("DF", RunState.FAILED)
        assert seen.errors == {(1, 1): '{"type": "E"}'}
        assert seen.results == {0: none.address}
        missing = Address("other token", 2)
        assert await store.fetch("run", [(0, none.address), (0, missing)], is_sink=True) == [
            b"N.",
            None,
        ]

    async def test_a_commit_without_its_bytes_is_asked_for_them(self, subject: Subject) -> None:
        store = subject.store
        await store.submit(chain(1))
        await store.register("run", "i1", lease_s=LEASE_S)
        commit = Commit(task=0, address=Address("t", 3))

        reply = await store.complete("run", "i1", [commit])
        assert (reply.status, reply.missing, reply.worker) == (Status.NO_BLOB, (0,), "~/1")
        assert await store.store("run", 0, "t", b"abc", is_sink=True) == commit.address
        assert (await store.complete("run", "i1", [commit])).status is Status.STOP

        assert (await store.observe("run")).state is RunState.OK

    @pytest.mark.parametrize("size", SIZES)
    async def test_values_of_every_size_come_back(self, subject: Subject, size: int) -> None:
        store, data = subject.store, bytes(range(256)) * (size // 256 + 1)
        data = data[:size]
        await store.submit(chain(2))
        await store.register("run", "i1", lease_s=LEASE_S)

        address = await store.store("run", 0, "t", memoryview(data), is_sink=False)
        reply = await store.complete("run", "i1", [Commit(task=0, address=address)])

        assert (address.n_bytes, address.n_chunks == 0) == (size, size <= SMALL_BYTES)
        (value,) = reply.offers[0].inputs
        assert (value.task, value.address) == (0, address)
        assert value.blob == (data if size <= SMALL_BYTES else None)
        assert await store.fetch("run", [(0, address)]) == [data]

    @pytest.mark.parametrize("size", SIZES_ALONG)
    async def test_values_that_come_with_their_commit_are_offered_fetched_and_discarded(
        self, subject: Subject, size: int
    ) -> None:
        store, data = subject.store, (bytes(range(256)) * (size // 256 + 1))[:size]
        await store.submit(chain(2))
        await store.register("run", "i1", lease_s=LEASE_S)
        address = Address("t", size)

        commit = Commit(task=0, address=address, blob=data)
        reply = await store.complete("run", "i1", [commit])

        (value,) = reply.offers[0].inputs
        assert (value.task, value.address, value.blob) == (0, address, data)
        assert await store.fetch("run", [(0, address), (0, Address("u", size))]) == [data, None]
        await store.discard("run", 0, "u")
        assert await store.fetch("run", [(0, address)]) == [data]
        await store.discard("run", 0, "t")
        assert await store.fetch("run", [(0, address)]) == [None]

    async def test_values_of_very_many_inputs_are_fetched_by_their_addresses(
        self, subject: Subject
    ) -> None:
        """0, 1, ... 99 -> 100: values of 0 to 198 bytes"""
        store, wanted = subject.store, []
        await store.submit(run_of([*[()] * 100, tuple(range(100))]))
        reply = await store.register("run", "i1", lease_s=LEASE_S)
        while (task := reply.offers[0].task) < 100:
            commit = Commit(task=task, address=Address(f"t{task}", 2 * task), blob=b"\n:" * task)
            wanted.append((task, commit.address))
            reply = await store.complete("run", "i1", [commit])

        inputs = reply.offers[0].inputs
        assert sorted((i.task, i.address) for i in inputs) == sorted(wanted)
        values = await store.fetch("run", sorted(wanted))
        assert values == [b"\n:" * task for task in range(100)]

    async def test_intermediate_values_go_at_the_end_and_sinks_stay(self, subject: Subject) -> None:
        store, big = subject.store, b"x" * (SMALL_BYTES + 1)
        await store.submit(chain(3))
        await store.register("run", "i1", lease_s=LEASE_S)
        places = []
        for task in range(3):
            places.append(await store.store("run", task, "t", big, is_sink=task == 2))
            await store.complete("run", "i1", [Commit(task=task, address=places[task])])

        assert await store.fetch("run", list(enumerate(places))) == [None, None, big]

    async def test_a_sink_may_be_an_input_too(self, subject: Subject) -> None:
        """0 -> 1, both wanted."""
        store, both = subject.store, chain(2)
        first = Record.unpack(both.records[0])
        records = (replace(first, is_sink=True).pack(), both.records[1])
        await store.submit(replace(both, records=records, sinks=(0, 1)))
        reply = await store.register("run", "i1", lease_s=LEASE_S)

        reply = await store.complete("run", "i1", [small(reply.offers[0], b"zero")])
        (value,) = reply.offers[0].inputs

        assert value.blob == b"zero"
        assert await store.fetch("run", [(0, value.address)]) == [b"zero"]
        await finish(store, reply)
        assert sorted((await store.observe("run")).results) == [0, 1]

    async def test_the_first_commit_wins_and_the_other_attempt_is_deleted(
        self, subject: Subject
    ) -> None:
        store = subject.store
        await store.submit(run_of([(), ()]))
        await store.register("run", "i1", lease_s=LEASE_S)
        await store.complete("run", "i1", [Commit(task=0, address=Address("mine", 1), blob=b"1")])
        late = await store.store("run", 0, "late", b"2", is_sink=True)

        await store.complete("run", "i1", [Commit(task=0, address=late)])

        assert (await store.observe("run")).results == {0: Address("mine", 1)}
        assert await store.fetch("run", [(0, late), (0, Address("mine", 1))], is_sink=True) == [
            None,
            b"1",
        ]

    async def test_a_lost_input_is_computed_again(self, subject: Subject) -> None:
        """0 -> 1 -> 2: the bytes of 0 and of 1 vanish before 2 reads them."""
        store = subject.store
        await store.submit(chain(3))
        reply = await store.register("run", "i1", lease_s=LEASE_S)
        for _ in range(2):
            commit = small(reply.offers[0])
            reply = await store.complete("run", "i1", [commit])
            await subject.evict("run", commit.task, commit.address)

        reply = await store.lost("run", "i1", 2, [1])
        assert tasks_of(reply) == [0]
        await finish(store, reply)

        seen = await store.observe("run")
        assert (seen.state, [e.task for e in seen.events if e.kind == "lost"]) == (
            RunState.OK,
            [2, 1, 0],
        )

    async def test_an_input_that_was_discarded_is_computed_again(self, subject: Subject) -> None:
        """0 -> 1: the reader of 0 finds that its bytes only point to others, which are gone."""
        store = subject.store
        await store.submit(chain(2))
        reply = await store.register("run", "i1", lease_s=LEASE_S)
        first = small(reply.offers[0])
        reply = await store.complete("run", "i1", [first])

        await store.discard("run", 0, first.address.token)
        await store.discard("run", 0, first.address.token)  # as a second reader does

        assert await store.fetch("run", [(0, first.address)]) == [None]
        assert tasks_of(await store.lost("run", "i1", 1, [0])) == [0]

    async def test_a_sink_that_vanished_is_computed_again_at_the_end(
        self, subject: Subject
    ) -> None:
        store = subject.store
        await store.submit(run_of([(), ()]))
        reply = await store.register("run", "i1", lease_s=LEASE_S)
        first = small(reply.offers[0])
        reply = await store.complete("run", "i1", [first])
        await subject.evict("run", 0, first.address)

        reply = await store.complete("run", "i1", [small(reply.offers[0])])
        assert tasks_of(reply) == [0]
        await finish(store, reply)

        assert (await store.observe("run")).state is RunState.OK
        assert await store.fetch("run", [(0, first.address)], is_sink=True) == [b"value"]
