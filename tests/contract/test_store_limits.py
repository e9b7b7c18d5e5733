"""Servers with little room or small limits: large data travels in pieces, and what is forgotten
gives its room back.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import redis

from dagnb.errors import (
    RunMissingError,
    StorageFullError,
    StorageLimitError,
    StorageUnavailableError,
)
from dagnb.protocol.messages import Address, Commit, Record, RunState
from dagnb.storage.interface import CHUNK_BYTES
from dagnb.storage.keys import content_key, run_prefix
from dagnb.storage.redis import RedisStore, pack_submission
from dagnb.storage.redis_blobs import WINDOW_BYTES
from dagnb.storage.redis_link import RedisConnection
from dagnb.storage.redis_room import make_room
from dagnb.testing.content_laws import patterned
from dagnb.testing.step_laws import LEASE_S, chain, run_of, small
from dagnb.units import MIB
from tests.conftest import own_server
from tests.services.mirror import SteeredLink

pytestmark = pytest.mark.redis

NAMESPACE = "limits"
MB = 1_000_000


@pytest.fixture(scope="module")
def small_pieces() -> Iterator[str]:
    """URL of a server that takes no more than 1 MiB in one piece."""
    with own_server("--proto-max-bulk-len", "1mb") as url:
        yield url


@pytest.fixture(scope="module")
def little_room() -> Iterator[str]:
    """URL of a server with 50 MB of memory."""
    with own_server("--maxmemory", "50mb") as url:
        yield url


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[RedisStore]:
    store = await RedisStore.open(url, namespace=NAMESPACE, patience_s=5.0)
    try:
        yield store
        for line in await store.runs():
            await store.forget(line.run)
    finally:
        await store.close()


class InterruptedLink(RedisConnection):
    """Does something once, before the first commands for which `at` is true are sent."""

    def __init__(self, url: str) -> None:
        super().__init__(url, patience_s=5.0)
        self.at: Callable[[Any], bool] = lambda command: False
        self.act: Callable[[], Any] | None = None

    async def ask(self, commands: Any, **options: Any) -> Any:
        if self.act is not None and any(self.at(command) for command in commands):
            act, self.act = self.act, None
            await act()
        return await super().ask(commands, **options)


def is_second_window(command: Sequence[Any]) -> bool:
    """Returns whether it brings the first piece that did not fit in the round trip before."""
    return is_piece(command) and command[9] == WINDOW_BYTES // CHUNK_BYTES


def is_piece(command: Sequence[Any]) -> bool:
    """Returns whether it brings a piece of content."""
    return command[0] == "FCALL" and command[1].endswith("_bring")


# ---- in pieces ----


async def test_content_and_results_of_any_size_fit_a_server_that_takes_1_mib_in_one_piece(
    small_pieces: str,
) -> None:
    large = patterned(33 * CHUNK_BYTES + 1)
    async with opened(small_pieces) as store:
        await store.share({"h": large, "g": b"small"}, run="run", ttl_s=60)
        await store.submit(chain(1))
        reply = await store.register("run", "i1", lease_s=LEASE_S)
        address = await store.store("run", 0, "t", large, is_sink=True)
        await store.complete("run", "i1", [Commit(task=reply.offers[0].task, address=address)])

        assert (await store.observe("run")).state is RunState.OK
        assert await store.content(["h", "g"]) == [large, b"small"]
        assert await store.fetch("run", [(0, address)], is_sink=True) == [large]


async def test_records_travel_in_portions_of_16_mb(small_pieces: str) -> None:
    """Sixty of 700 kB are three portions; the run itself and the list of runs are two more round
    trips.
    """
    async with opened(small_pieces) as store:
        plain = run_of([()] * 60)
        records = tuple(
            replace(Record.unpack(packed), body=bytes(700_000)).pack() for packed in plain.records
        )
        before = store.round_trips

        await store.submit(replace(plain, records=records))

        assert store.round_trips - before == 3 + 2
        reply = await store.register("run", "i1", lease_s=LEASE_S)
        assert reply.offers[0].record == records[0]


async def test_records_of_all_sizes_come_back_and_are_counted(small_pieces: str) -> None:
    """Blocks of records are cut by round trips, hold gaps where a record is large, and end early."""
    sizes = [(3, 900, 1_100, 500_000, 40)[i % 5] for i in range(171)]
    plain = run_of([()] * len(sizes))
    records = []
    for i, (packed, size) in enumerate(zip(plain.records, sizes, strict=True)):
        body = bytes([i]) * size
        records.append(replace(Record.unpack(packed), body=body).pack())
    assert sum(map(len, records)) > WINDOW_BYTES
    async with opened(small_pieces) as store:
        await store.submit(replace(plain, records=tuple(records)))

        reply, offered = await store.register("run", "i1", lease_s=LEASE_S, want=len(sizes)), {}
        while reply.offers:
            offered |= {offer.task: offer.record for offer in reply.offers}
            commits = [small(offer) for offer in reply.offers]
            reply = await store.complete("run", "i1", commits, want=len(sizes))

        assert offered == dict(enumerate(records))


async def test_a_run_without_all_its_records_is_refused(small_pieces: str) -> None:
    async with opened(small_pieces) as store:
        submission = run_of([()] * 40)
        prefix = run_prefix(NAMESPACE, "run")
        for first, end in ((0, 16), (17, 40)):  # that of task 16 is missing
            records = submission.records[first:end]
            await store.link.call("records", prefix, 60_000, first, *records)

        with pytest.raises(StorageUnavailableError, match="NORECORDS"):
            await store.link.call("submit", prefix, pack_submission(submission))

        await store.submit(submission)
        assert (await store.observe("run")).state is RunState.RUNNING


async def test_what_cannot_be_cut_is_refused_with_its_size_and_the_limit_of_the_server(
    small_pieces: str,
) -> None:
    async with opened(small_pieces) as store:
        # Hexadecimal digits, because a description is compressed: to half their number.
        name = random.Random(1).randbytes(2 * MB).hex()
        submission = chain(1, meta=f'{{"name": "{name}"}}')
        with pytest.raises(
            StorageLimitError, match="accepts at most 1048576, its proto-max-bulk-len"
        ) as caught:
            await store.submit(submission)

        assert 2 * MB < caught.value.n_bytes < 2.5 * MB
        assert caught.value.limit_bytes == MIB


async def test_a_server_that_does_not_tell_its_limit_is_taken_to_have_that_of_all_servers(
    small_pieces: str,
) -> None:
    """A guest may not ask; and 2 MB are no reason to tell of 512."""
    async with opened(small_pieces) as store:
        rules = (
            "reset",
            "on",
            ">pw",
            "~*",
            "&*",
            "+@read",
            "+@write",
            "+@connection",
            "+fcall",
            "-@dangerous",
        )
        await store.link.ask([("ACL", "SETUSER", "guest", *rules)])
        link = RedisConnection(f"unix://guest:pw@{small_pieces.rsplit('@', 1)[1]}", patience_s=0.0)

        assert await link._most_bytes() == 512 * MIB
        assert await store.link._most_bytes() == MIB

        await link.close()


# ---- room ----


async def test_forgetting_gives_the_room_of_arguments_and_results_back(little_room: str) -> None:
    """Twelve runs, each with 8 MB of its own and a result of 8 MB, on 50 MB."""
    async with opened(little_room) as store:
        for i in range(12):
            run = f"run{i}"
            await store.share({f"h{i}": bytes([i]) * 8 * MB}, run=run, ttl_s=60)
            await store.submit(chain(1, run=run))
            await store.register(run, "i1", lease_s=LEASE_S)
            address = await store.store(run, 0, "t", bytes([i]) * 8 * MB, is_sink=True)
            await store.complete(run, "i1", [Commit(task=0, address=address)])
            assert await store.fetch(run, [(0, address)], is_sink=True) == [bytes([i]) * 8 * MB]
            await store.forget(run)

        assert await store.link.scan("") == []


async def test_the_cure_for_a_full_store_works(little_room: str) -> None:
    async with opened(little_room) as store:
        for i in range(3):
            await store.share({f"h{i}": bytes([i]) * 10 * MB}, run=f"run{i}", ttl_s=60)
            await store.submit(chain(1, run=f"run{i}"))
        with pytest.raises(StorageFullError, match="forget old runs") as caught:
            await store.share({"h3": b"3" * 25 * MB, "h0": bytes(10 * MB)}, run="next", ttl_s=60)
        assert caught.value.n_bytes == 25 * MB
        assert re.search(r"uses \d{8} of 52428800 bytes, its maxmemory\)", str(caught.value))

        await store.forget("run1")

        assert await store.share({"h3": b"3" * 25 * MB}, run="next", ttl_s=60) == 25 * MB
        assert await store.content(["h1", "h3"]) == [None, b"3" * 25 * MB]
        await store.forget("next")


async def over(store: RedisStore, run: str, contents: dict[str, bytes], result: bytes) -> Address:
    """A run of one task that has ended; the address of its result."""
    await store.share(contents, run=run, ttl_s=60)
    await store.submit(chain(1, run=run))
    await store.register(run, "i1", lease_s=LEASE_S)
    address = await store.store(run, 0, "t", result, is_sink=True)
    await store.complete(run, "i1", [Commit(task=0, address=address)])
    return address


async def test_a_full_store_gives_up_the_content_of_runs_that_are_over_the_oldest_first(
    little_room: str,
) -> None:
    """40 MB of content and 3 MB of a result, then 8 MB more, and 12 MB, on 52 MB."""
    async with opened(little_room) as store:
        address = await over(store, "oldest", {"h0": b"0" * 10 * MB}, b"result" * 500_000)
        await store.share({"h1": b"1" * 10 * MB}, run="running", ttl_s=60)
        await store.submit(chain(1, run="running"))
        await over(store, "older", {"h2": b"2" * 10 * MB}, b"small")
        await over(store, "old", {"h3": b"3" * 10 * MB}, b"small")

        async def there() -> list[bytes | None]:
            contents = await store.content([f"h{i}" for i in range(6)])
            return [content and content[:1] for content in contents]

        assert await store.share({"h4": b"4" * 8 * MB}, run="next", ttl_s=60) == 8 * MB
        assert await there() == [None, b"1", b"2", b"3", b"4", None]
        assert await store.share({"h5": b"5" * 12 * MB}, run="next", ttl_s=60) == 12 * MB
        assert await there() == [None, b"1", None, None, b"4", b"5"]

        assert (await store.observe("oldest")).results == {0: address}
        assert await store.fetch("oldest", [(0, address)], is_sink=True) == [b"result" * 500_000]
        await store.submit(chain(1, run="next"))


async def test_a_full_store_keeps_content_that_a_run_which_goes_on_uses_too(
    little_room: str,
) -> None:
    async with opened(little_room) as store:
        both = {"h": b"x" * 30 * MB}
        await over(store, "old", both, b"result")
        await store.share(both, run="running", ttl_s=60)
        await store.submit(chain(1, run="running"))

        with pytest.raises(StorageFullError):
            await store.share({"g": b"y" * 25 * MB}, run="next", ttl_s=60)

        assert await store.content(["h"]) == [both["h"]]
        await store.forget("next")


async def test_nothing_is_given_up_for_what_no_store_of_this_size_could_hold(
    little_room: str,
) -> None:
    async with opened(little_room) as store:
        await over(store, "old", {"h": b"x" * 10 * MB}, b"result")

        with pytest.raises(StorageFullError, match="60000000 bytes were refused"):
            await store.share({"g": bytes(60 * MB)}, run="next", ttl_s=60)

        assert await store.content(["h"]) == [b"x" * 10 * MB]
        await store.forget("next")


async def test_records_and_results_find_room_as_well(little_room: str) -> None:
    async with opened(little_room) as store:
        await over(store, "old", {"h0": b"0" * 25 * MB}, b"small")
        await over(store, "older", {"h1": b"1" * 15 * MB}, b"small")
        large = replace(Record.unpack(chain(1).records[0]), body=bytes(15 * MB)).pack()
        await store.submit(replace(chain(1), records=(large,)))
        await store.register("run", "i1", lease_s=LEASE_S)

        address = await store.store("run", 0, "t", b"r" * 20 * MB, is_sink=True)
        await store.complete("run", "i1", [Commit(task=0, address=address)])

        assert await store.content(["h0", "h1"]) == [None, None]
        assert await store.fetch("run", [(0, address)], is_sink=True) == [b"r" * 20 * MB]


async def test_making_room_costs_few_round_trips_however_many_runs_are_over(
    little_room: str,
) -> None:
    """Ask the memory, list the runs, look at them: three. Evict from 1, 2, 4, 8 and 16: three each,
    for the runs, their contents and the list of contents.
    """
    async with opened(little_room) as store:
        for i in range(31):
            await over(store, f"run{i}", {f"h{i}": bytes([i]) * MB}, b"small")
        before = store.round_trips

        assert await store.link._freed_bytes(50 * MB) > 30 * MB

        assert store.round_trips - before == 3 + 5 * 3
        assert await store.content([f"h{i}" for i in range(31)]) == [None] * 31


@pytest.mark.parametrize("is_over", [False, True], ids=["nothing to give up", "room is made"])
async def test_a_client_s_loop_goes_on_while_60_mb_travel_to_a_full_store(is_over: bool) -> None:
    """The loop turns during each request, and no request holds more than a window of bytes."""
    with own_server("--maxmemory", "80mb") as url:
        turns = TurnCount()
        link = CountedLink(url, turns)
        store = RedisStore(link, NAMESPACE)
        full = {"h": bytes(60 * MB)}
        await over(store, "old", full, b"small")
        if not is_over:
            await store.share(full, run="running", ttl_s=60)
        del link.requests[:]

        async with turns:
            sharing = store.share({"g": b"1" * 60 * MB}, run="next", ttl_s=60)
            if is_over:
                assert await sharing == 60 * MB
            else:
                with pytest.raises(StorageFullError):
                    await sharing
        await store.close()

    assert min(n_turns for n_turns, _ in link.requests) > 0
    assert max(n_bytes for _, n_bytes in link.requests) <= WINDOW_BYTES
    assert sum(n_bytes for _, n_bytes in link.requests) >= (60 * MB if is_over else CHUNK_BYTES)


class TurnCount:
    """Counts the turns of the running loop within its block."""

    n = 0

    async def __aenter__(self) -> TurnCount:
        self._counting = asyncio.create_task(self._count())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *raised: object) -> None:
        self._counting.cancel()

    async def _count(self) -> None:
        while True:
            self.n += 1
            await asyncio.sleep(0)


class CountedLink(RedisConnection):
    """Notes for each request of several commands the turns of the loop meanwhile, and its bytes."""

    def __init__(self, url: str, turns: TurnCount) -> None:
        super().__init__(url, patience_s=5.0)
        self.turns = turns
        self.requests: list[tuple[int, int]] = []

    async def ask(self, commands: Any, **options: Any) -> Any:
        n_before, n_bytes = self.turns.n, 0
        for command in commands:
            n_bytes += sum(len(word) for word in command if isinstance(word, bytes | memoryview))
        try:
            return await super().ask(commands, **options)
        finally:
            self.requests.append((self.turns.n - n_before, n_bytes))


async def test_a_result_that_finds_no_room_leaves_no_chunk_behind(little_room: str) -> None:
    async with opened(little_room) as store:
        await store.submit(chain(1))
        await store.register("run", "i1", lease_s=LEASE_S)

        with pytest.raises(StorageFullError, match="60000000 bytes were refused"):
            await store.store("run", 0, "t", bytes(60 * MB), is_sink=True)

        assert [
            key for key in await store.link.scan(run_prefix(NAMESPACE, "run")) if b"}:b:" in key
        ] == []
        await store.store("run", 0, "t", bytes(40 * MB), is_sink=True)


async def test_a_server_needs_no_more_room_for_large_content_than_its_bytes(
    small_pieces: str,
) -> None:
    """A twentieth more at most; with pieces of 1 MiB it was a quarter."""
    async with opened(small_pieces) as store:

        async def used_bytes() -> int:
            (told,) = await store.link.ask([("INFO", "memory")])
            return int(told["used_memory"])

        await store.share({"g": b"small"}, run="run", ttl_s=60)
        before = await used_bytes()
        await store.share({"h": bytes(50 * MB)}, run="run", ttl_s=60)

        assert 50 * MB < await used_bytes() - before < 52.5 * MB
        await store.forget("run")


# ---- forgotten meanwhile ----


async def test_content_of_a_run_that_is_forgotten_while_it_travels_is_refused(
    small_pieces: str,
) -> None:
    link = InterruptedLink(small_pieces)
    store = RedisStore(link, NAMESPACE)
    link.at, link.act = is_piece, lambda: store.forget("run")

    with pytest.raises(RunMissingError):
        await store.share({"h": b"x" * 3 * MB}, run="run", ttl_s=60)

    assert await link.scan("") == []
    await store.close()


async def test_a_result_whose_run_is_forgotten_while_it_travels_leaves_nothing_behind(
    small_pieces: str,
) -> None:
    link = InterruptedLink(small_pieces)
    store = RedisStore(link, NAMESPACE)
    await store.submit(chain(1))
    await store.register("run", "i1", lease_s=LEASE_S)
    link.at, link.act = lambda command: command[0] == "SET", lambda: store.forget("run")

    with pytest.raises(RunMissingError):
        await store.store("run", 0, "t", b"x" * 20 * MB, is_sink=True)

    assert await link.scan("") == []
    await store.close()


async def test_content_that_another_run_brings_at_the_same_time_is_whole_when_one_is_forgotten(
    small_pieces: str,
) -> None:
    """The one that is forgotten had brought the first window of it."""
    data = patterned(20 * CHUNK_BYTES)
    link = InterruptedLink(small_pieces)
    store = RedisStore(link, NAMESPACE)

    async def other_comes_and_this_one_goes() -> None:
        async with opened(small_pieces) as other:
            await other.share({"h": data}, run="other", ttl_s=60)
            await other.forget("run")
            assert await other.content(["h"]) == [data]

    link.at, link.act = is_second_window, other_comes_and_this_one_goes
    with pytest.raises(RunMissingError):
        await store.share({"h": data}, run="run", ttl_s=60)

    assert await store.content(["h"]) == [data]
    await store.forget("other")
    assert await link.scan("") == []
    await store.close()


async def test_torn_content_is_missing_content(small_pieces: str) -> None:
    async with opened(small_pieces) as store:
        await store.share({"h": patterned(3 * CHUNK_BYTES)}, run="run", ttl_s=60)
        await store.link.ask([("HDEL", content_key(NAMESPACE, "h"), 1)])

        assert await store.content(["h"]) == [None]
        await store.forget("run")


async def test_pieces_that_vanish_while_others_come_make_no_whole(small_pieces: str) -> None:
    """A server that may evict can take away the first pieces before the last one came."""
    link = InterruptedLink(small_pieces)
    store = RedisStore(link, NAMESPACE)

    async def evict() -> None:
        await link.ask([("DEL", content_key(NAMESPACE, "h"))])

    link.at, link.act = is_second_window, evict
    await store.share({"h": patterned(20 * CHUNK_BYTES)}, run="run", ttl_s=60)
    assert await store.content(["h"]) == [None]

    assert (
        await store.share({"h": patterned(20 * CHUNK_BYTES)}, run="run", ttl_s=60)
        == 20 * CHUNK_BYTES
    )
    assert await store.content(["h"]) == [patterned(20 * CHUNK_BYTES)]
    await store.forget("run")
    await store.close()


# ---- what it costs ----


async def test_content_costs_one_round_trip_where_it_is_there_and_one_more_for_16_mb_that_are_not(
    small_pieces: str,
) -> None:
    async with opened(small_pieces) as store:

        async def trips(step: Any) -> int:
            before = store.round_trips
            await step
            return store.round_trips - before

        small = {f"h{i}": bytes([i]) * 1000 for i in range(200)}
        large = {**small, "large": patterned(17 * CHUNK_BYTES)}
        assert await trips(store.share(small, run="run", ttl_s=60)) == 2
        assert await trips(store.share(small, run="other", ttl_s=60)) == 1
        assert await trips(store.content(list(small))) == 1
        assert await trips(store.share(large, run="other", ttl_s=60)) == 3
        assert await trips(store.content(list(large))) == 3
        for run in ("run", "other"):
            await store.forget(run)


async def test_what_a_run_uses_costs_no_round_trip_before_it_is_forgotten_and_then_two(
    small_pieces: str,
) -> None:
    """The contents lose their user, and the list of contents those that have none any more."""
    async with opened(small_pieces) as store:
        costs = {}
        for contents in ({}, {f"h{i}": bytes([i]) for i in range(100)}):
            await store.share(contents, run="run", ttl_s=60)
            before = store.round_trips
            await store.submit(chain(1))
            await store.register("run", "i1", lease_s=LEASE_S)
            await store.heartbeat("run", ["i1"], lease_s=LEASE_S)
            await store.forget("run")
            costs[len(contents)] = store.round_trips - before

        assert costs[100] == costs[0] + 2


async def test_what_a_store_holds_costs_three_round_trips_for_a_thousand_runs_and_contents(
    small_pieces: str,
) -> None:
    async with opened(small_pieces) as store:
        await store.share({f"h{i}": bytes([i % 9]) for i in range(995)}, run="run", ttl_s=60)
        for i in range(4):
            await store.submit(chain(1, run=f"run{i}"))
        trips = []
        for run in ("run", "one more"):
            await store.submit(chain(1, run=run))
            before = store.round_trips
            usage = await store.usage()
            trips.append(store.round_trips - before)

        assert trips == [3, 4]
        assert len(usage.runs) == 6


# ---- a cluster ----


@pytest.fixture
def cluster_of_one() -> Iterator[str]:
    """URL of a server that refuses calls whose keys have several slots, as a cluster does."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        # The servers of a cluster talk to each other at the port 10,000 above.
        port = 10_000 + probe.getsockname()[1] % 20_000
    options = ("--cluster-enabled", "yes", "--bind", "127.0.0.1", "--port", str(port))
    with own_server(*options) as url, redis.Redis.from_url(url) as server:
        server.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        until = time.monotonic() + 30
        while b"cluster_state:ok" not in server.execute_command("CLUSTER", "INFO"):
            assert time.monotonic() < until
        yield url


async def test_no_call_reaches_keys_of_two_slots_of_a_cluster(cluster_of_one: str) -> None:
    link = SteeredLink(cluster_of_one, patience_s=5.0)
    store = RedisStore(link, NAMESPACE)
    link.now = time.time()
    large = patterned(3 * CHUNK_BYTES)
    contents = {"large": large, "small": b"small"}
    for run in ("one", "two"):
        await store.share(contents, run=run, ttl_s=60)
        await store.submit(chain(1, run=run, ttl_s=60.0))
        await store.register(run, "i1", lease_s=600)
    link.now += 40
    await store.heartbeat("one", ["i1"], lease_s=600)
    address = await store.store("two", 0, "t", large, is_sink=True)
    await store.complete("two", "i1", [Commit(task=0, address=address)])

    assert await store.content(["small", "large"]) == [b"small", large]
    assert (await store.usage()).shared_bytes > len(large)
    assert await store.forget("one") > 0
    assert await store.content(["small", "large"]) == [b"small", large]
    assert await make_room(store.blobs, 1) > len(large)
    assert await store.content(["small", "large"]) == [None, None]
    assert (await store.observe("two")).state is RunState.OK
    assert await store.forget("two") > 0
    assert await link.scan("") == []
    await store.close()
