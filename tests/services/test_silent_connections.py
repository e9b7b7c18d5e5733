"""Connections whose other side is gone without a word: they are given up and tried again within the
patience.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from dagnb_workers.launchers.process import Processes

import dagnb
from dagnb.errors import StorageUnavailableError
from dagnb.protocol.messages import Queue, Record, RunState, Submission
from dagnb.storage.redis import RedisStore
from dagnb.testing.launcher_laws import Gate, waiting
from tests.services.processes import await_that
from tests.services.server import running_server, server_binaries
from tests.services.silent_proxy import SilentProxy, silent_proxy

pytestmark = pytest.mark.redis

PATIENCE_S = 10.0
LIMIT_S = 60.0
RUN = "r1"


@pytest.fixture
def proxy(redis_url: str) -> Iterator[SilentProxy]:
    with silent_proxy(redis_url) as made:
        yield made


@pytest.fixture
async def store(proxy: SilentProxy) -> AsyncIterator[RedisStore]:
    """A store behind the proxy, with a run in it that waits for ever; connections of each sort have
    been used.
    """
    made = await RedisStore.open(proxy.url, namespace="silent", patience_s=PATIENCE_S)
    record = Record(queue=0, priority=0, is_sink=True, retries=0, upstream=(), edges=())
    await made.submit(
        Submission(
            run=RUN,
            records=(record.pack(),),
            queues=(Queue("~", 1),),
            sinks=(0,),
            sources=(),
            n_bits=0,
        )
    )
    await made.wait_work(RUN, 0.01)
    await made.wait_end(RUN, 0.01)
    yield made
    await made.forget(RUN)
    await made.close()


Ask = Callable[[RedisStore], Awaitable[object]]

QUESTIONS: dict[str, Ask] = {
    "a step": lambda store: store.reap(RUN),
    "a look": lambda store: store.observe(RUN),
    "several commands": lambda store: store.spans(RUN),
    "a heartbeat": lambda store: store.heartbeat(RUN, ["nobody"], lease_s=8.0),
    "waiting for work": lambda store: store.wait_work(RUN, 1.0),
    "waiting for the end": lambda store: store.wait_end(RUN, 1.0),
    "waiting for demand": lambda store: store.wait_demand(RUN, 1.0),
}


@pytest.mark.parametrize(
    "ask", QUESTIONS.values(), ids=[name.replace(" ", "-") for name in QUESTIONS]
)
async def test_a_question_on_a_silent_connection_is_asked_again_within_the_patience(
    store: RedisStore, proxy: SilentProxy, ask: Ask
) -> None:
    assert proxy.fall_silent() >= 2, "the fault must fire"

    async with asyncio.timeout(PATIENCE_S):
        await ask(store)


async def test_all_idle_connections_that_fell_silent_cost_one_limit_together(
    store: RedisStore, proxy: SilentProxy
) -> None:
    await asyncio.gather(*(store.observe(RUN) for _ in range(8)))
    assert proxy.fall_silent() >= 4, "the fault must fire"
    before = store.round_trips

    async with asyncio.timeout(PATIENCE_S):
        await store.observe(RUN)
        await asyncio.gather(*(store.observe(RUN) for _ in range(8)))

    assert store.round_trips - before == 1 + 1 + 8


async def test_a_server_that_stands_still_is_waited_for_and_then_named(tmp_path: Path) -> None:
    binary = next(iter(server_binaries().values()))
    with running_server(binary, "--pidfile", str(tmp_path / "pid")) as url:
        store = await RedisStore.open(url, patience_s=PATIENCE_S)
        (facts,) = await store.link.ask([("INFO", "server")])
        pid = int(facts["process_id"])

        os.kill(pid, signal.SIGSTOP)
        asked, before = asyncio.ensure_future(store.runs()), store.round_trips
        try:
            # until the first attempt was given up
            while store.round_trips < before + 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert await asked == []

        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(StorageUnavailableError, match="no answer within"):
                await RedisStore.open(url, patience_s=0.1)
        finally:
            os.kill(pid, signal.SIGCONT)
        await store.close()


def test_a_healthy_run_whose_connections_all_fell_silent_gives_its_result(
    agent: int, proxy: SilentProxy, tmp_path: Path
) -> None:
    """Client, supervisor and workers are behind the proxy."""
    folder = tmp_path / "gate"
    folder.mkdir()
    gate = Gate(folder)
    run = dagnb.run(waiting(str(gate.came), str(gate.go)), workers=Processes(n=2), store=proxy.url)
    gate.until_there()

    assert proxy.fall_silent() >= 4, "the fault must fire"
    gate.open()

    assert run.result(LIMIT_S) == "through"
    assert run.state is RunState.OK
    await_that(lambda: run.snapshot().is_settled, "all who took part have left")
    gate.close()
