"""Laws of every store: content is shared by runs, and stays as long as one of them uses it."""

from __future__ import annotations

import array
from dataclasses import replace

import pytest

from dagnb.protocol.messages import Commit
from dagnb.storage.interface import CHUNK_BYTES
from dagnb.testing.step_laws import LEASE_S, Subject, chain, small

CONTENTS = {"h1": b"one", "h2": b"two!"}
# Around the size at which a value is cut into chunks.
LARGE_SIZES = (0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 17 * CHUNK_BYTES + 5)


def patterned(n_bytes: int) -> bytes:
    """Returns bytes without two equal pieces: chunks in a wrong order are noticed."""
    return b"".join(i.to_bytes(8, "big") for i in range(-(-n_bytes // 8)))[:n_bytes]


class ContentLaws:
    """Laws about sharing, reading and forgetting content."""

    async def test_content_travels_once(self, subject: Subject) -> None:
        store = subject.store
        assert await store.share({}, run="run", ttl_s=60) == 0
        assert await store.share(CONTENTS, run="run", ttl_s=60) == 7
        assert await store.share({**CONTENTS, "h3": b"."}, run="other", ttl_s=60) == 1

        assert await store.content(["h2", "h0", "h1"]) == [b"two!", None, b"one"]
        assert await store.content([]) == []

    @pytest.mark.parametrize("n_bytes", LARGE_SIZES)
    async def test_content_of_any_size_comes_back(self, subject: Subject, n_bytes: int) -> None:
        contents = {"h1": patterned(n_bytes), "h2": b"beside"}

        assert await subject.store.share(contents, run="run", ttl_s=60) == n_bytes + 6

        assert await subject.store.content(["h2", "h1"]) == [b"beside", patterned(n_bytes)]

    async def test_content_may_be_a_view_of_memory_that_is_not_copied(
        self, subject: Subject
    ) -> None:
        numbers = array.array("d", range(200_000))

        assert (
            await subject.store.share({"h": memoryview(numbers)}, run="run", ttl_s=60) == 1_600_000
        )

        assert await subject.store.content(["h"]) == [numbers.tobytes()]

    async def test_many_middle_sized_contents_come_back_in_order(self, subject: Subject) -> None:
        contents = {f"h{i}": bytes([i]) * 300_000 for i in range(80)}

        assert await subject.store.share(contents, run="run", ttl_s=60) == 24_000_000

        assert await subject.store.content(list(contents)) == list(contents.values())

    async def test_content_goes_with_the_last_run_that_uses_it(self, subject: Subject) -> None:
        store = subject.store
        for run in ("one", "two"):
            await store.share(CONTENTS, run=run, ttl_s=60)
            await store.submit(chain(1, run=run, ttl_s=60.0))
        await store.share({"h3": b"of one alone"}, run="one", ttl_s=60)

        assert await store.forget("one") > 0
        assert await store.content(["h1", "h2", "h3"]) == [b"one", b"two!", None]
        assert await store.forget("two") > 0
        assert await store.content(["h1", "h2", "h3"]) == [None, None, None]

        assert (await store.forget("one"), await store.forget("two")) == (0, 0)

    async def test_content_of_a_run_that_is_not_submitted_yet_stays_when_another_is_forgotten(
        self, subject: Subject
    ) -> None:
        store = subject.store
        await store.share(CONTENTS, run="run", ttl_s=60)
        await store.submit(chain(1, ttl_s=60.0))
        assert await store.share(CONTENTS, run="next", ttl_s=60) == 0

        # The client of "next" has sent nothing, because the store had it all.
        await store.forget("run")
        await store.submit(chain(1, run="next", ttl_s=60.0))

        assert await store.content(["h1", "h2"]) == [b"one", b"two!"]

    async def test_content_of_a_run_that_was_never_submitted_goes_when_it_is_forgotten(
        self, subject: Subject
    ) -> None:
        store = subject.store
        await store.share(CONTENTS, run="run", ttl_s=60)

        assert await store.forget("run") > 0

        assert await store.content(["h1", "h2"]) == [None, None]

    async def test_content_that_was_forgotten_travels_again(self, subject: Subject) -> None:
        store = subject.store
        await store.share(CONTENTS, run="run", ttl_s=60)
        await store.forget("run")

        assert await store.share(CONTENTS, run="next", ttl_s=60) == 7

        assert await store.content(["h1", "h2"]) == [b"one", b"two!"]

    async def test_a_run_whose_time_to_live_is_over_keeps_no_content(
        self, subject: Subject
    ) -> None:
        store = subject.store
        await store.share(CONTENTS, run="of a client that died", ttl_s=60)
        subject.advance(50)
        await store.share(CONTENTS, run="run", ttl_s=60)
        subject.advance(20)

        await store.forget("run")

        assert await store.content(["h1", "h2"]) == [None, None]

    async def test_content_lives_as_long_as_its_run_is_worked_for(self, subject: Subject) -> None:
        store = subject.store
        await store.share(CONTENTS, run="run", ttl_s=60)
        await store.submit(replace(chain(1), ttl_s=60.0))
        await store.register("run", "i1", lease_s=3600.0)
        subject.advance(40)
        await store.heartbeat("run", ["i1"], lease_s=LEASE_S)
        subject.advance(40)  # 80 s, longer than the 60 s of the submission

        await store.share(CONTENTS, run="next", ttl_s=60)
        await store.forget("next")

        assert await store.content(["h1", "h2"]) == [b"one", b"two!"]

    async def test_a_store_says_how_many_bytes_each_run_takes_up(self, subject: Subject) -> None:
        store = subject.store
        contents = {"own": bytes(300_000), "shared": bytes(2_000_000)}
        await store.share(contents, run="run", ttl_s=60)
        await store.submit(chain(1, ttl_s=60.0))
        await store.share({"shared": contents["shared"]}, run="other", ttl_s=60)
        await store.submit(chain(1, run="other", ttl_s=60.0))
        await store.share({"unused": bytes(500_000)}, run="never submitted", ttl_s=60)
        reply = await store.register("run", "i1", lease_s=LEASE_S)
        value = bytes(16_000)
        await store.complete("run", "i1", [small(reply.offers[0], value)], spans=bytes(40_000))
        reply = await store.register("other", "i2", lease_s=LEASE_S)
        address = await store.store("other", 0, "token", bytes(3_000_000), is_sink=True)
        await store.complete("other", "i2", [Commit(task=0, address=address)])

        usage = await store.usage()

        assert usage.used_bytes is not None
        assert usage.used_bytes > 5_800_000
        assert is_about(usage.unused_bytes, 500_000)
        assert is_about(usage.shared_bytes, 2_000_000)
        assert set(usage.runs) == {"run", "other"}
        run, other = usage.runs["run"], usage.runs["other"]
        assert is_about(run.result_bytes, 16_000)
        assert is_about(run.own_bytes, 300_000)
        assert is_about(run.shared_bytes, 2_000_000)
        assert 40_000 <= run.record_bytes < 50_000
        assert is_about(other.result_bytes, 3_000_000)
        assert other.own_bytes == 0
        assert is_about(other.shared_bytes, 2_000_000)
        assert 0 < other.record_bytes < 10_000

    async def test_what_is_forgotten_takes_up_nothing(self, subject: Subject) -> None:
        store = subject.store
        await store.share(CONTENTS, run="run", ttl_s=60)
        await store.submit(chain(1, ttl_s=60.0))

        await store.forget("run")

        usage = await store.usage()
        assert (usage.runs, usage.shared_bytes, usage.unused_bytes) == ({}, 0, 0)


def is_about(n_bytes: int, wanted: int) -> bool:
    """Tells whether a size is the wanted one, or up to a tenth more: servers count their own."""
    return wanted <= n_bytes <= 1.1 * wanted
