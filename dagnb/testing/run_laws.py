"""Laws of every store: time and waiting, kinds of instances, lists of runs, forgetting, width."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from dagnb.errors import RunMissingError
from dagnb.protocol.messages import Charge, Death, Demand, Failure, Queue, RunState, Status
from dagnb.testing.step_laws import (
    LEASE_S,
    Subject,
    apart,
    chain,
    finish,
    run_of,
    small,
    tasks_of,
    woken,
)


class TimeLaws:
    """Laws about leases, delays, deadlines and waiting."""

    async def test_a_retry_waits_for_its_delay(self, subject: Subject) -> None:
        store = subject.store
        await store.submit(chain(1, retries=1))
        await store.register("run", "i1", lease_s=LEASE_S)

        reply = await store.fail(
            "run", "i1", Failure(task=0, attempt=1, error="{}", delay_s=2.0, log="printed")
        )
        assert (reply.status, (await store.observe("run")).states) == (Status.IDLE, "B")
        subject.advance(2.5)
        reply = await woken(store)

        assert (tasks_of(reply), reply.offers[0].attempt) == ([0], 2)
        assert await store.logs("run", [1, 0]) == ["", "printed"]
        assert await store.logs("run", []) == []
        await store.fail("run", "i1", Failure(task=0, attempt=2, error="{}", delay_s=0.0))
        assert (await store.observe("run")).state is RunState.FAILED

    async def test_work_of_a_silent_instance_goes_to_another(self, subject: Subject) -> None:
        store = subject.store
        await store.submit(chain(1))
        await store.register("run", "i1", lease_s=LEASE_S)
        assert await store.heartbeat("run", ["i1", "nobody"], lease_s=LEASE_S) == {
            "i1": Status.TASKS,
            "nobody": Status.FENCED,
        }
        subject.advance(LEASE_S + 1)

        assert await store.reap("run") == 1
        reply = await store.register("run", "i2", lease_s=LEASE_S)
        assert tasks_of(reply) == [0]

        assert (await store.complete("run", "i1", [])).status is Status.FENCED
        assert json.loads((await store.observe("run")).errors[0, 1])["type"] == "LeaseLost"
        await finish(store, reply, "i2")

    async def test_only_the_task_that_died_is_charged(self, subject: Subject) -> None:
        store = subject.store
        await store.submit(run_of([(), ()], queue=Queue("w0", 1), crash_budget=0))
        assert tasks_of(await store.register("run", "i1", lease_s=LEASE_S, want=2)) == [0, 1]

        # Task 0 was held, but had not begun: it is ready again, until the run fails.
        death = Death(
            instance="i1", task=1, charge=Charge.CRASH, error='{"type": "WorkerDied"}', delay_s=0.0
        )
        assert await store.dead("run", death)

        seen = await store.observe("run")
        assert (seen.state, seen.states, sorted(seen.errors)) == (RunState.FAILED, "CF", [(1, 1)])

    async def test_a_run_ends_at_its_deadline(self, subject: Subject) -> None:
        store = subject.store
        await store.submit(chain(1, deadline_s=5.0))
        await store.register("run", "i1", lease_s=LEASE_S)
        subject.advance(5.0)

        assert await store.heartbeat("run", ["i1"], lease_s=LEASE_S) == {"i1": Status.STOP}
        assert (await store.observe("run")).state is RunState.DEADLINE

    async def test_a_failure_skips_what_is_below_and_the_rest_goes_on(
        self, subject: Subject
    ) -> None:
        """0 -> 1, 2"""
        store = subject.store
        await store.submit(run_of([(), (0,), ()], on_error="continue"))
        await store.register("run", "i1", lease_s=LEASE_S)

        reply = await store.fail("run", "i1", Failure(task=0, attempt=1, error="{}"))
        assert tasks_of(reply) == [2]
        await finish(store, reply)

        seen = await store.observe("run")
        assert (seen.state, seen.states) == (RunState.FAILED, "FSD")

    async def test_tasks_whose_only_reader_is_skipped_are_run_all_the_same(
        self, subject: Subject
    ) -> None:
        """0 -> 3, 1 -> 2 -> 3: when 0 fails, 3 is skipped, and 1 and 2 have no reader left."""
        store = subject.store
        await store.submit(run_of([(), (), (1,), (0, 2)], on_error="continue"))
        await store.register("run", "i1", lease_s=LEASE_S)

        reply = await store.fail("run", "i1", Failure(task=0, attempt=1, error="{}"))
        # Only tasks that need a failed task are skipped.
        assert tasks_of(reply) == [1]
        await finish(store, reply)

        seen = await store.observe("run")
        assert (seen.state, seen.states) == (RunState.FAILED, "FDDS")

    async def test_a_worker_started_for_one_name_needs_its_nonce(self, subject: Subject) -> None:
        store = subject.store
        await store.submit(chain(1))

        reply = await store.register("run", "i1", lease_s=LEASE_S, worker=("~/1", "guess"))

        assert reply.status is Status.REFUSED
        assert (await store.observe("run")).workers == {"~/1": ("invoked", "")}

    async def test_waiting_ends_when_work_or_the_end_comes(self, subject: Subject) -> None:
        """0 -> 1, 0 -> 2"""
        store = subject.store
        await store.submit(run_of([(), (0,), (0,)]))
        reply = await store.register("run", "i1", lease_s=LEASE_S)
        assert (await store.register("run", "i2", lease_s=LEASE_S)).status is Status.IDLE

        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            group.create_task(store.wait_work("run", 60))
            end = group.create_task(store.wait_end("run", 60))
            reply = await store.complete("run", "i1", [small(reply.offers[0])])
            assert not end.done()
            await finish(store, reply)

        async with asyncio.timeout(20):
            await store.wait_end("run", 60)
            await store.wait_work("run", 60)

    async def test_waiting_ends_when_the_time_is_up(self, subject: Subject) -> None:
        await subject.store.submit(run_of([(), ()], queue=Queue("w0", 1)))
        await subject.store.register("run", "i1", lease_s=LEASE_S)

        async with asyncio.timeout(20):
            # Short waits, some of which end while a connection is being made.
            for wait_ms in range(20):
                await subject.store.wait_end("run", wait_ms / 1000)
            # Hints of the submission may be left: they end a wait at once.
            for _ in range(3):
                await subject.store.wait_work("run", 0.01)


class KindLaws:
    """Laws about instances of several kinds, and about the demand for them."""

    async def test_an_instance_never_gets_a_task_of_another_kind(self, subject: Subject) -> None:
        store = subject.store
        await store.submit(apart("a", "b", ""))

        replies = {
            kind: await store.register("run", f"of {kind}", lease_s=LEASE_S, want=3, kind=kind)
            for kind in ("c", "b", "", "a")
        }
        assert {kind: tasks_of(reply) for kind, reply in replies.items()} == {
            "c": [],
            "b": [1],
            "": [2],
            "a": [0],
        }

        ended = await store.complete("run", "of b", [small(replies["b"].offers[0])])
        assert ended.status is Status.IDLE

    async def test_an_instance_keeps_its_kind_as_long_as_its_lease(self, subject: Subject) -> None:
        store = subject.store
        await store.submit(apart("a", "b"))
        reply = await store.register("run", "i1", lease_s=LEASE_S, kind="b")
        assert (await store.complete("run", "i1", [small(reply.offers[0])])).status is Status.IDLE

        assert (await store.register("run", "i1", lease_s=LEASE_S, kind="a")).status is Status.IDLE
        await store.dead("run", Death(instance="i1", task=None, charge=Charge.LOSS, error="{}"))
        assert tasks_of(await store.register("run", "i1", lease_s=LEASE_S, kind="a")) == [0]

    async def test_a_hint_wakes_only_its_kind(self, subject: Subject) -> None:
        store = subject.store
        await store.submit(apart("a", "b"))
        for kind in ("a", "b", ""):
            await store.register("run", f"of {kind}", lease_s=LEASE_S, kind=kind)
            await store.wait_work("run", 0.01, kind)  # takes hints of the submission

        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            others = [group.create_task(store.wait_work("run", 60, kind)) for kind in ("a", "")]
            await store.dead(
                "run", Death(instance="of b", task=None, charge=Charge.LOSS, error="{}")
            )
            await store.wait_work("run", 60, "b")
            assert not any(other.done() for other in others)
            await store.cancel("run", "enough")

    async def test_demand_counts_members_without_an_instance_and_lists_the_instances(
        self, subject: Subject
    ) -> None:
        store = subject.store
        await store.submit(apart("a", "", "a", "b"))
        first = await store.demand("run")
        assert (first.state, first.wanted, first.instances) == (
            RunState.RUNNING,
            {"a": 2, "b": 1, "": 1},
            {},
        )

        for instance, kind in (("i1", "a"), ("i2", "c"), ("i3", "")):
            await store.register("run", instance, lease_s=LEASE_S, kind=kind)
        second = await store.demand("run")
        await store.cancel("run", "enough")
        third = await store.demand("run")

        assert second.wanted == {"a": 1, "b": 1}
        assert second.instances == {"i1": ("a", "w0"), "i2": ("c", ""), "i3": ("", "w1")}
        assert third == Demand(state=RunState.CANCELLED, wanted={}, instances={}, now=third.now)

    async def test_demand_ends_back_offs_and_takes_back_what_silent_instances_held(
        self, subject: Subject
    ) -> None:
        store = subject.store
        await store.submit(chain(1, queue=Queue("~", 1, "a"), retries=1))
        await store.register("run", "i1", lease_s=LEASE_S, kind="a")
        await store.wait_demand("run", 0.01)  # the submission may have set it
        await store.fail("run", "i1", Failure(task=0, attempt=1, error="{}", delay_s=0.25))
        assert (await store.demand("run")).wanted == {}

        async with asyncio.timeout(20):
            await store.wait_demand("run", 60)
        subject.advance(0.5)
        assert (await store.demand("run")).wanted == {"a": 1}

        assert tasks_of(await store.register("run", "i1", lease_s=LEASE_S, kind="a")) == [0]
        subject.advance(LEASE_S + 1)
        late = await store.demand("run")
        assert (late.wanted, late.instances) == ({"a": 1}, {})

    async def test_waiting_for_demand_ends_when_a_kind_is_wanted_or_the_run_ends(
        self, subject: Subject
    ) -> None:
        store = subject.store
        await store.submit(apart("a", ""))
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            await store.wait_demand("run", 60)
            waiting = group.create_task(store.wait_demand("run", 60))
            await store.register("run", "i1", lease_s=LEASE_S)
            await store.dead("run", Death(instance="i1", task=None, charge=Charge.LOSS, error="{}"))
            assert (await store.demand("run")).wanted == {"a": 1, "": 1}
            assert not waiting.done()
            await store.register("run", "i2", lease_s=LEASE_S, kind="a")
            await store.dead("run", Death(instance="i2", task=None, charge=Charge.LOSS, error="{}"))
            await waiting
            waiting = group.create_task(store.wait_demand("run", 60))
            await store.wait_work(
                "run", 0.1, "other"
            )  # time for `waiting` to end, if it were wrong
            assert not waiting.done()
            await store.cancel("run", "enough")


class RoomLaws:
    """Laws about observing, listing and forgetting runs, and about a wide run."""

    async def test_a_cursor_brings_only_newer_events(self, subject: Subject) -> None:
        store = subject.store
        await store.submit(chain(2))
        reply = await store.register("run", "i1", lease_s=LEASE_S)
        first = await store.observe("run")
        assert (await store.observe("run", first.cursor)).events == ()

        await store.complete("run", "i1", [small(reply.offers[0])])
        second = await store.observe("run", first.cursor)

        assert [(e.kind, e.task, e.worker) for e in first.events] == [
            ("worker", -1, "~/1"),
            ("start", 0, "~/1"),
        ]
        assert [(e.kind, e.task) for e in second.events] == [("done", 0), ("start", 1)]
        assert (second.workers, second.n_instances) == ({"~/1": ("active", "i1")}, 1)

    async def test_a_cursor_brings_only_newer_errors_and_no_description(
        self, subject: Subject
    ) -> None:
        store = subject.store
        await store.submit(replace(run_of([(), ()], retries=1), meta='{"name": "two"}'))
        await store.register("run", "i1", lease_s=LEASE_S, want=2)
        await store.fail("run", "i1", Failure(task=0, attempt=1, error="{}", delay_s=9.0))
        first = await store.observe("run")
        assert (first.meta, first.errors) == ('{"name": "two"}', {(0, 1): "{}"})
        assert (await store.observe("run", first.cursor)).errors == {}

        await store.fail("run", "i1", Failure(task=1, attempt=1, error="[]", delay_s=9.0))
        second = await store.observe("run", first.cursor)

        assert (second.meta, second.errors) == ("", {(1, 1): "[]"})
        whole = second.after(first)
        assert (whole.meta, whole.errors) == ('{"name": "two"}', {(0, 1): "{}", (1, 1): "[]"})
        assert whole.errors == (await store.observe("run")).errors

    async def test_spans_keep_their_order(self, subject: Subject) -> None:
        store = subject.store
        await store.submit(chain(1))
        reply = await store.register("run", "i1", lease_s=LEASE_S)

        await store.record("run", b"a")
        await store.complete("run", "i1", [small(reply.offers[0])], spans=b"b")
        await store.record("run", b"c")

        assert await store.spans("run") == [b"a", b"b", b"c"]
        assert await store.spans("run", 2) == [b"c"]

    async def test_runs_are_listed_and_forgotten(self, subject: Subject) -> None:
        store = subject.store
        await store.submit(chain(2))
        subject.advance(1)
        await store.submit(replace(chain(1), run="later"))
        assert [(r.run, r.name, r.n_tasks, r.state) for r in await store.runs()] == [
            ("later", "laws", 1, RunState.RUNNING),
            ("run", "laws", 2, RunState.RUNNING),
        ]

        assert await store.forget("run") > 0

        assert [r.run for r in await store.runs()] == ["later"]
        assert await store.forget("run") == 0
        with pytest.raises(RunMissingError):
            await store.observe("run")
        with pytest.raises(RunMissingError):
            await store.register("run", "i1", lease_s=LEASE_S)

    async def test_a_fan_of_ten_thousand_runs(self, subject: Subject) -> None:
        """0 -> 1 ... 10,000 -> 10,001"""
        n, store = 10_000, subject.store
        await store.submit(run_of([(), *[(0,)] * n, tuple(range(1, n + 1))]))

        reply = await store.register("run", "i1", lease_s=3600)
        await finish(store, reply, want=500)

        seen = await store.observe("run")
        assert (seen.state, seen.states) == (RunState.OK, "D" * (n + 2))
