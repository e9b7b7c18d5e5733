"""Every store keeps the laws; a server's keys keep some more."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis import exceptions

from dagnb import session
from dagnb.errors import ConfigError, StorageFullError, StorageUnavailableError
from dagnb.protocol.messages import Address, Commit, Failure, Queue, RunState, Status
from dagnb.storage.interface import SMALL_BYTES
from dagnb.storage.keys import chunk_key, run_prefix, small_field
from dagnb.storage.memory import MemoryStore
from dagnb.storage.redis import RedisStore
from dagnb.storage.redis_link import refuse_exposed
from dagnb.testing import StoreLaws
from dagnb.testing.step_laws import LEASE_S, apart, chain, finish, small, tasks_of
from tests.services.mirror import SteeredLink, remove_small


class MemorySubject:
    """A memory store and its clock."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.store = MemoryStore(lambda: self.now)

    def advance(self, seconds: float) -> None:
        self.now += seconds

    async def evict(self, run: str, task: int, address: Address) -> None:
        del self.store._stored(run).blobs[task, address.token]


@pytest.mark.timeout(300)
class TestMemoryStore(StoreLaws):
    @pytest.fixture
    def subject(self) -> MemorySubject:
        return MemorySubject()


class LossyLink(SteeredLink):
    """Loses the reply of the next call when told to: the server has done the step, the caller does
    not know.
    """

    loses = False
    n_lost = 0

    async def _execute(self, command: Any, limit_s: float) -> Any:
        answer = await super()._execute(command, limit_s)
        if self.loses and command[0] == "FCALL":
            self.loses = False
            self.n_lost += 1
            raise exceptions.ConnectionError("the reply was lost")
        return answer


class RedisSubject:
    """A store on a server, in a namespace of its own, with a clock that can be put forward."""

    def __init__(self, url: str, *, blocks: bool = False) -> None:
        self.namespace = f"laws{secrets.token_hex(4)}"
        self.link = LossyLink(url, patience_s=5.0, blocks=blocks)
        self.link.now = time.time()
        self.store = RedisStore(self.link, self.namespace)

    @property
    def prefix(self) -> str:
        return run_prefix(self.namespace, "run")

    def advance(self, seconds: float) -> None:
        self.link.now += seconds

    async def evict(self, run: str, task: int, address: Address) -> None:
        prefix = run_prefix(self.namespace, run)
        assert await remove_small(self.link, prefix, task, address) == 1

    async def keys(self) -> list[bytes]:
        return await self.link.scan(self.namespace)


@pytest.fixture(params=[False, True], ids=["on a loop", "blocking"])
def blocks(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.mark.redis
@pytest.mark.timeout(300)
class TestRedisStore(StoreLaws):
    @pytest.fixture
    async def subject(self, redis_url: str, blocks: bool) -> AsyncIterator[RedisSubject]:
        subject = RedisSubject(redis_url, blocks=blocks)
        yield subject
        keys = await subject.keys()
        lives = await subject.link.ask([("PTTL", key) for key in keys]) if keys else []
        assert [key for key, ttl_ms in zip(keys, lives, strict=True) if ttl_ms < 0] == []
        if keys:
            await subject.link.ask([("UNLINK", *keys)])
        await subject.store.close()

    async def test_forgetting_leaves_no_key_but_the_list_of_other_runs(
        self, subject: RedisSubject
    ) -> None:
        store = subject.store
        await store.submit(chain(2, retries=1))
        await store.register("run", "i1", lease_s=LEASE_S)
        await store.fail("run", "i1", Failure(task=0, attempt=1, error="{}", delay_s=1.0, log="x"))
        await store.store("run", 0, "never-committed", b"x" * (SMALL_BYTES + 1), is_sink=False)

        await store.forget("run")

        assert await subject.keys() == []

    async def test_inputs_that_are_evicted_with_their_addresses_are_computed_again(
        self, subject: RedisSubject
    ) -> None:
        """0 -> 1: the server drops the key that holds the value of 0, and its address."""
        store = subject.store
        await store.submit(chain(2))
        reply = await store.register("run", "i1", lease_s=LEASE_S)
        await store.complete("run", "i1", [small(reply.offers[0])])

        await subject.link.ask([("DEL", subject.prefix + "v")])

        reply = await store.register("run", "i1", lease_s=LEASE_S)
        assert [(offer.task, offer.inputs) for offer in reply.offers] == [(1, ())]
        reply = await store.lost("run", "i1", 1, [0])
        assert tasks_of(reply) == [0]

    async def test_results_of_a_run_of_a_version_before_are_offered_and_found_lost(
        self, subject: RedisSubject
    ) -> None:
        """0 -> 1, with all addresses in `r`, as versions before wrote them."""
        store, link, prefix = subject.store, subject.link, subject.prefix
        await store.submit(chain(2))
        reply = await store.register("run", "i1", lease_s=LEASE_S)
        first = small(reply.offers[0])
        await store.complete("run", "i1", [first])
        field = small_field(0, first.address.token)
        await link.ask(
            [
                ("HDEL", prefix + "v", 0),
                ("HSET", prefix + "r", 0, f"v{first.address.encode()}"),
                ("HSET", prefix + "v", field, first.blob),
            ]
        )

        reply = await store.register("run", "i1", lease_s=LEASE_S)
        (read,) = reply.offers[0].inputs
        assert (read.task, read.address, read.blob) == (0, first.address, first.blob)
        await link.ask([("HDEL", prefix + "v", field)])
        assert tasks_of(await store.lost("run", "i1", 1, [0])) == [0]

    async def test_kinds_are_forgotten_with_the_other_keys_of_their_run(
        self, subject: RedisSubject
    ) -> None:
        store = subject.store
        await store.submit(apart("a", "b"))
        await store.register("run", "i1", lease_s=LEASE_S, kind="a")
        there = {key.decode().removeprefix(subject.prefix) for key in await subject.keys()}
        assert there > {"k", "need", "inv:b", "spawn:b"}

        await subject.link.call("forget", subject.prefix)

        assert [
            key for key in await subject.keys() if key.startswith(subject.prefix.encode())
        ] == []

    async def test_a_run_without_kinds_has_no_key_for_them(self, subject: RedisSubject) -> None:
        store = subject.store
        await store.submit(chain(2))
        await store.register("run", "i1", lease_s=LEASE_S)
        await store.register("run", "i2", lease_s=LEASE_S)

        (kinds,) = await subject.link.ask([("HGET", subject.prefix + "m", "kinds")])
        names = {key.decode().removeprefix(subject.prefix) for key in await subject.keys()}
        assert (kinds, names & {"k", "need", "inv:", "spawn:"}) == (None, set())

    async def test_a_lost_reply_of_any_step_changes_nothing(self, subject: RedisSubject) -> None:
        """Every call is made, its reply lost, and repeated by the store itself."""
        store, link = subject.store, subject.link

        async def losing(call: Any) -> Any:
            link.loses = True
            return await call

        await losing(store.submit(chain(2, retries=1)))
        reply = await losing(store.register("run", "i1", lease_s=LEASE_S))
        failure = Failure(task=0, attempt=1, error="{}", delay_s=0.0)
        reply = await losing(store.fail("run", "i1", failure, spans=b"s1"))
        assert reply.offers[0].attempt == 2
        assert await losing(store.heartbeat("run", ["i1"], lease_s=LEASE_S)) == {"i1": Status.TASKS}
        reply = await losing(store.complete("run", "i1", [small(reply.offers[0])], spans=b"s2"))
        assert tasks_of(reply) == [1]
        await losing(store.record("run", b"s3"))
        await losing(store.complete("run", "i1", [small(reply.offers[0])], spans=b"s4"))

        seen = await store.observe("run")
        assert (link.n_lost, seen.state, seen.states) == (7, RunState.OK, "DD")
        assert await store.spans("run") == [b"s1", b"s2", b"s3", b"s4"]
        assert [e.kind for e in seen.events] == [
            "worker",
            "start",
            "retry",
            "start",
            "done",
            "start",
            "done",
            "end",
        ]

    async def test_a_torn_value_is_a_missing_value(self, subject: RedisSubject) -> None:
        store = subject.store
        await store.submit(chain(2))
        await store.register("run", "i1", lease_s=LEASE_S)
        address = await store.store("run", 0, "t", b"x" * 3_000_000, is_sink=False)
        assert address.n_chunks == 3
        await subject.link.ask([("DEL", chunk_key(subject.prefix, 0, "t", 1))])

        assert await store.fetch("run", [(0, address)]) == [None]
        assert (
            await store.complete("run", "i1", [Commit(task=0, address=address)])
        ).status is Status.NO_BLOB

    @pytest.mark.parametrize("kind", ["", "a"])
    async def test_the_list_of_runs_and_times_to_live_are_renewed(
        self, subject: RedisSubject, kind: str
    ) -> None:
        store = subject.store
        await store.submit(chain(1, ttl_s=1000.0, queue=Queue("~", 1, kind)))
        await store.register("run", "i1", lease_s=2000.0, kind=kind)
        big = await store.store("run", 0, "t", b"x" * (SMALL_BYTES + 1), is_sink=True)
        await store.submit(chain(1))
        await subject.link.ask([("PEXPIRE", key, 500_000) for key in await subject.keys()])
        subject.advance(300.0)

        await store.heartbeat("run", ["i1"], lease_s=2000.0)
        known = [key for key in await subject.keys() if b"b:0:t:" not in key]
        assert min(await subject.link.ask([("PTTL", key) for key in known])) > 900_000
        await store.complete("run", "i1", [Commit(task=0, address=big)])

        lives = await subject.link.ask([("PTTL", key) for key in await subject.keys()])
        assert min(lives) > 900_000
        assert [line.run for line in await store.runs()] == ["run"]

    async def test_content_lives_no_longer_than_the_run_that_lives_longest_and_no_shorter(
        self, subject: RedisSubject
    ) -> None:
        store = subject.store

        async def lives() -> set[int]:
            """Times to live, in hundreds of seconds."""
            keys = [key for key in await subject.keys() if b":p:" in key or b":u:" in key]
            return {
                round(ttl_ms / 100_000)
                for ttl_ms in await subject.link.ask([("PTTL", key) for key in keys])
            }

        await store.share({"h": b"x" * 3_000_000}, run="run", ttl_s=1000)
        await store.submit(chain(1, ttl_s=1000.0))
        assert await lives() == {10}
        await store.share({"h": b""}, run="other", ttl_s=500)
        await store.submit(chain(1, run="other", ttl_s=500.0))
        assert await lives() == {10}
        await store.share({"h": b""}, run="long", ttl_s=2000)
        assert await lives() == {20}

    async def test_hints_are_no_more_than_members_asked_for(self, subject: RedisSubject) -> None:
        """A worker that goes on by itself leaves no hint behind that would wake a sleeper for
        nothing.
        """
        store = subject.store
        await store.submit(chain(20))
        await finish(store, await store.register("run", "i1", lease_s=LEASE_S))

        (hints,) = await subject.link.ask([("LRANGE", subject.prefix + "spawn", 0, -1)])
        assert hints == [b"stop"]


@pytest.mark.redis
class TestServerOfItsOwn:
    @pytest.fixture
    async def store(self, redis_url: str) -> AsyncIterator[RedisStore]:
        store = await RedisStore.open(redis_url, namespace=f"own{secrets.token_hex(4)}")
        yield store
        await store.link.ask(
            [
                ("CONFIG", "SET", "maxmemory", "0"),
                ("CONFIG", "SET", "maxmemory-policy", "noeviction"),
            ]
        )
        for line in await store.runs():
            await store.forget(line.run)
        await store.close()

    async def test_a_full_server_refuses_values_and_goes_on_with_control(
        self, store: RedisStore
    ) -> None:
        await store.submit(chain(2))
        reply = await store.register("run", "i1", lease_s=LEASE_S)
        await store.link.ask([("CONFIG", "SET", "maxmemory", "1")])

        with pytest.raises(StorageFullError, match="5 bytes were refused"):
            await store.complete("run", "i1", [small(reply.offers[0])])
        with pytest.raises(StorageFullError):
            await store.store("run", 0, "t", b"x" * (SMALL_BYTES + 1), is_sink=False)
        with pytest.raises(StorageFullError):
            await store.submit(chain(3, run="other"))

        assert (await store.observe("run")).states == "XW"
        await store.fail(
            "run", "i1", Failure(task=0, attempt=1, error='{"type": "StorageFullError"}')
        )
        assert (await store.observe("run")).state is RunState.FAILED

    async def test_a_server_that_may_evict_is_refused(
        self, store: RedisStore, redis_url: str
    ) -> None:
        await store.link.ask([("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")])

        with pytest.raises(ConfigError, match=r"allkeys-lru.*noeviction"):
            await RedisStore.open(redis_url)

        await (await RedisStore.open(redis_url, allow_eviction=True)).close()

    async def test_the_cures_it_names_for_such_a_server_work(
        self, store: RedisStore, redis_url: str
    ) -> None:
        await store.link.ask([("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")])
        with pytest.raises(ConfigError) as refused:
            await session.reopened(session.terms_of(redis_url, {}))

        assert "DAGNB_ALLOW_EVICTION=1" in str(refused.value)
        assert "dagnb.Redis(url=..., allow_eviction=True)" in str(refused.value)
        for terms in (
            session.terms_of(
                redis_url, {"DAGNB_ALLOW_EVICTION": "1", "DAGNB_NAMESPACE": "by-variable"}
            ),
            session.Redis(url=redis_url, allow_eviction=True, namespace="by-argument"),
        ):
            await (await session.reopened(terms)).close()

    async def test_workers_need_no_more_than_calls_of_functions(
        self, store: RedisStore, redis_url: str
    ) -> None:
        await store.submit(chain(2))
        namespace, password = store.namespace, secrets.token_hex(8)
        rules = (
            f"~{namespace}:*",
            f"&{namespace}:*",
            "+@read",
            "+@write",
            "+@connection",
            "+@pubsub",
            "+@blocking",
        )
        more = ("+fcall", "+time", "-@dangerous", "-@scripting", "+fcall")
        await store.link.ask(
            [("ACL", "SETUSER", "worker", "reset", "on", f">{password}", *rules, *more)]
        )
        place = redis_url.rsplit("@", 1)[1]

        await store.share({"h": bytes(3_000_000)}, run="run", ttl_s=60)
        worker = await RedisStore.open(f"unix://worker:{password}@{place}", namespace=namespace)
        assert await worker.content(["h"]) == [bytes(3_000_000)]
        await finish(worker, await worker.register("run", "i1", lease_s=LEASE_S))
        await worker.wait_end("run", 5)
        await worker.wait_work("run", 5)
        await worker.close()

        assert (await store.observe("run")).state is RunState.OK
        await store.link.ask([("ACL", "DELUSER", "worker")])

    async def test_a_step_costs_one_round_trip(self, store: RedisStore) -> None:
        await store.submit(chain(10))
        reply = await store.register("run", "i1", lease_s=LEASE_S)
        before = store.round_trips

        await finish(store, reply)

        assert store.round_trips - before == 10

    async def test_a_server_that_forgot_its_functions_is_taught_again(
        self, store: RedisStore
    ) -> None:
        await store.submit(chain(1))
        await store.link.ask([("FUNCTION", "FLUSH")])

        assert tasks_of(await store.register("run", "i1", lease_s=LEASE_S)) == [0]


async def test_a_server_out_of_reach_is_named_without_its_password() -> None:
    with pytest.raises(StorageUnavailableError, match=r"unix:/nowhere/x\.sock") as caught:
        await RedisStore.open("unix://:secret@/nowhere/x.sock", patience_s=0.0)

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["redis://:pw@example.org:6379", "rediss://example.org", "redis://10.0.0.1/0"]
)
def test_a_server_off_this_host_needs_tls_and_a_password(url: str) -> None:
    with pytest.raises(ConfigError, match="allow_insecure"):
        refuse_exposed(url)


@pytest.mark.parametrize(
    "url", ["redis://localhost", "redis://127.0.0.1:1/0", "redis://[::1]", "rediss://u:p@x.org"]
)
def test_a_server_on_this_host_or_with_both_is_accepted(url: str) -> None:
    refuse_exposed(url)
