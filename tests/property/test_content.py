"""Content on a server and in memory, after the same calls: there as long as a run uses it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from dagnb.storage.memory import MemoryStore
from dagnb.storage.redis import RedisStore
from dagnb.testing.step_laws import chain
from tests.services.mirror import SteeredLink

pytestmark = pytest.mark.redis

RUNS = ("r1", "r2")
HASHES = ("h1", "h2", "h3")
TTL_S = 50.0
STEP_S = 30.0
"""more than a quarter of the time to live: so every heartbeat renews it"""

ACTS: st.SearchStrategy[tuple[str, str, set[str]]] = st.one_of(
    st.tuples(
        st.sampled_from(("share", "start")),
        st.sampled_from(RUNS),
        st.sets(st.sampled_from(HASHES), min_size=1),
    ),
    st.tuples(st.sampled_from(("wait", "work", "forget")), st.sampled_from(RUNS), st.just(set())),
)
"""Share content; submit a run, too; let time pass, with or without heartbeats; forget a run."""


@dataclass
class Both:
    """A store on a server and one in memory, on one clock."""

    runner: asyncio.Runner
    link: SteeredLink
    store: RedisStore
    memory: MemoryStore = field(init=False)

    def __post_init__(self) -> None:
        self.link.now = 1000.0
        self.memory = MemoryStore(lambda: self.link.now)

    def ask(self, name: str, *args: Any, **options: Any) -> tuple[Any, Any]:
        """What both answer."""

        async def asked() -> tuple[Any, Any]:
            theirs = await getattr(self.store, name)(*args, **options)
            return theirs, await getattr(self.memory, name)(*args, **options)

        return self.runner.run(asked())


@pytest.fixture(scope="module")
def linked(redis_url: str) -> Iterator[tuple[asyncio.Runner, SteeredLink]]:
    with asyncio.Runner() as runner:
        link = SteeredLink(redis_url, patience_s=0.0)
        yield runner, link
        runner.run(link.close())


@settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate,),
)
@given(acts=st.lists(ACTS, min_size=3, max_size=30))
def test_a_server_drops_content_when_the_memory_does_and_never_before(
    linked: tuple[asyncio.Runner, SteeredLink], acts: list[tuple[str, str, set[str]]]
) -> None:
    """Expired content leaves memory at once, the server (real time) when a run is forgotten."""
    runner, link = linked
    both = Both(runner, link, RedisStore(link, f"content{secrets.token_hex(4)}"))
    uses: dict[str, set[str]] = {run: set() for run in RUNS}
    submitted: set[str] = set()

    for what, run, hashes in acts:
        dropped: set[str] = set()
        if what in ("share", "start"):
            both.ask(
                "share", {name: name.encode() for name in sorted(hashes)}, run=run, ttl_s=TTL_S
            )
            uses[run] |= hashes
        if what == "start" and run not in submitted:
            both.ask("submit", chain(1, run=run, ttl_s=TTL_S))
            submitted.add(run)
        if what in ("wait", "work"):
            link.now += STEP_S
        if what == "work" and run in both.memory._runs:
            both.ask("heartbeat", run, [], lease_s=8.0)
        if what == "forget":
            both.ask("forget", run)
            submitted.discard(run)
            dropped, uses[run] = uses[run], set()
        theirs, ours = (
            dict(zip(HASHES, found, strict=True)) for found in both.ask("content", HASHES)
        )
        assert {name: theirs[name] for name in dropped} == {name: ours[name] for name in dropped}, (
            what,
            run,
        )
        assert {name: theirs[name] for name in HASHES if ours[name]} == {
            n: ours[n] for n in HASHES if ours[n]
        }

    for run in RUNS:
        both.ask("forget", run)
    assert runner.run(link.scan(both.store.namespace)) == []
