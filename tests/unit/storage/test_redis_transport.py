"""Coroutines that are run without a loop, and requests that block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dagnb.errors import ProtocolError, StorageUnavailableError
from dagnb.storage.redis_link import RedisConnection
from dagnb.storage.redis_transport import run_at_once
from tests.unit.storage.server import Answer, Command, Server, answering_server, bulk


async def _sum(*numbers: int) -> int:
    return sum(numbers)


async def _twice(number: int) -> int:
    return await _sum(number, number)


async def _raising() -> None:
    raise KeyError("k")


async def _waiting() -> None:
    await asyncio.sleep(0)


def test_a_coroutine_that_never_suspends_gives_its_value_without_a_loop() -> None:
    assert run_at_once(_twice(21)) == 42


def test_its_exception_is_raised() -> None:
    with pytest.raises(KeyError, match="k"):
        run_at_once(_raising())


def test_a_coroutine_that_waits_is_refused() -> None:
    with pytest.raises(ProtocolError, match="_waiting waits for an event loop"):
        run_at_once(_waiting())


class Beside:
    """A server on the loop of another thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.answer: Answer = _nothing
        self.server: Server | None = None
        self._loop = asyncio.new_event_loop()
        self._ready, self._end = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self._thread.start()
        self._ready.wait()

    async def _serve(self) -> None:
        async def answer(command: Command) -> bytes | None:
            return await self.answer(command)

        async with answering_server(self.folder, answer) as self.server:
            self._ready.set()
            await self._end.wait()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()
        self._loop.close()

    def link(self, patience_s: float) -> RedisConnection:
        assert self.server is not None
        return RedisConnection(self.server.url, patience_s, blocks=True)


async def _nothing(command: Command) -> bytes | None:
    return b"+OK\r\n"


@pytest.fixture
def beside(tmp_path: Path) -> Iterator[Beside]:
    made = Beside(tmp_path)
    yield made
    made.close()


def received(beside: Beside) -> list[list[bytes]]:
    assert beside.server is not None
    return beside.server.received


def test_commands_of_one_request_take_one_round_trip_on_one_connection(beside: Beside) -> None:
    link = beside.link(0.0)

    assert run_at_once(link.ask([("GET", "a"), ("GET", "b")])) == [b"OK", b"OK"]
    run_at_once(link.pop("list", 0.5))
    run_at_once(link.close())

    assert received(beside) == [[b"GET", b"a"], [b"GET", b"b"], [b"BLPOP", b"list", b"0.5"]]
    assert link.round_trips == 2


def test_a_request_whose_answer_is_lost_is_repeated_and_marked_as_a_repetition(
    beside: Beside,
) -> None:
    answers = iter([None, bulk(b"done")])

    async def lose_the_first(command: Command) -> bytes | None:
        return next(answers)

    beside.answer = lose_the_first
    link = beside.link(5.0)

    assert run_at_once(link.call("reap", "run:")) == b"done"
    run_at_once(link.close())

    assert [command[6] for command in received(beside)] == [b"0", b"1"]


def test_a_request_on_a_silent_connection_is_given_up(beside: Beside) -> None:
    async def be_silent(command: Command) -> bytes | None:
        return await asyncio.get_running_loop().create_future()

    beside.answer = be_silent
    link = beside.link(0.0)
    link.answer_s = 0.01

    with pytest.raises(StorageUnavailableError):
        run_at_once(link.ask([("GET", "key")]))
    run_at_once(link.close())

    assert received(beside) == [[b"GET", b"key"]]
