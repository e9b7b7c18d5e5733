"""The undocumented behaviour of redis-py that dagnb relies on: commands and answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dagnb.errors import (
    ConfigError,
    RunMissingError,
    StorageFullError,
    StorageLimitError,
    StorageUnavailableError,
)
from dagnb.storage.redis import moment_of
from dagnb.storage.redis_link import RedisConnection
from tests.unit.storage.server import Answer, Command, Server, answering_server, bulk


@contextlib.asynccontextmanager
async def linked(folder: Path, answer: Answer) -> AsyncIterator[tuple[RedisConnection, Server]]:
    """A link to a server that answers so; nothing is tried again."""
    async with answering_server(folder, answer) as server:
        link = RedisConnection(server.url, patience_s=0.0)
        try:
            yield link, server
        finally:
            await link.close()


async def ok(command: Command) -> bytes:
    return b"+OK\r\n"


async def test_a_new_connection_sends_the_command_and_nothing_before_it(tmp_path: Path) -> None:
    async with linked(tmp_path, ok) as (link, server):
        await link.ask([("GET", "key")])

        assert server.received == [[b"GET", b"key"]]


async def test_numbers_and_buffers_of_a_command_travel_as_text_and_as_they_are(
    tmp_path: Path,
) -> None:
    async def answer(command: Command) -> bytes:
        is_first = [word[0] for word in server.received].count(b"FCALL") == 1
        return b"-ERR Function not found\r\n" if command[0] == b"FCALL" and is_first else b"+OK\r\n"

    async with linked(tmp_path, answer) as (link, server):
        await link.call("put", "run:", 7, 0.5, memoryview(b"\x00\r\n"))

        call, load, again = server.received
        assert call[0] == again[0] == b"FCALL"
        assert again[-3:] == [b"7", b"0.5", b"\x00\r\n"]
        assert load[:3] == [b"FUNCTION", b"LOAD", b"REPLACE"]


async def test_a_command_whose_answer_is_lost_is_not_sent_again_behind_our_back(
    tmp_path: Path,
) -> None:
    async def hang_up(command: Command) -> None:
        return None

    async with linked(tmp_path, hang_up) as (link, server):
        with pytest.raises(StorageUnavailableError):
            await link.ask([("GET", "key")])

        assert server.received == [[b"GET", b"key"]]


async def test_an_answer_to_a_command_that_was_cancelled_is_not_taken_for_that_of_the_next(
    tmp_path: Path,
) -> None:
    is_asked, may_answer = asyncio.Event(), asyncio.Event()

    async def answer(command: Command) -> bytes:
        if command[1] == b"slow":
            is_asked.set()
            await may_answer.wait()
        return bulk(command[1])

    async with linked(tmp_path, answer) as (link, _):
        slow = asyncio.ensure_future(link.ask([("GET", "slow")]))
        await is_asked.wait()
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        may_answer.set()

        assert await link.ask([("GET", "next")]) == [b"next"]


async def test_the_answer_to_info_is_a_dictionary_and_that_to_time_two_numbers(
    tmp_path: Path,
) -> None:
    async def answer(command: Command) -> bytes:
        if command == [b"TIME"]:
            return b"*2\r\n" + bulk(b"12") + bulk(b"500000")
        return bulk(b"# Server\r\nredis_version:6.2.14\r\n")

    async with linked(tmp_path, answer) as (link, _):
        with pytest.raises(ConfigError, match=r"is Redis 6\.2\.14"):
            await link.check(allow_eviction=False)
        (clock,) = await link.ask([("TIME",)])

        assert moment_of(clock) == 12.5


async def test_the_answer_to_config_get_is_the_name_and_the_value_as_text(tmp_path: Path) -> None:
    async def answer(command: Command) -> bytes | None:
        if command[0] == b"CONFIG":
            return b"*2\r\n" + bulk(command[2]) + bulk(b"1500000")
        return None if len(command[-1]) > 1_500_000 else b"+OK\r\n"

    async with linked(tmp_path, answer) as (link, server):
        await link.ask([("SET", "key", bytes(1_500_000))])
        with pytest.raises(StorageLimitError) as raised:
            await link.ask([("SET", "key", bytes(1_500_001))])

        assert (raised.value.n_bytes, raised.value.limit_bytes) == (1_500_001, 1_500_000)
        assert server.received[-1] == [b"CONFIG", b"GET", b"proto-max-bulk-len"]


async def test_a_small_command_whose_answer_is_lost_is_no_reason_to_ask_for_limits(
    tmp_path: Path,
) -> None:
    async def hang_up(command: Command) -> None:
        return None

    async with linked(tmp_path, hang_up) as (link, server):
        with pytest.raises(StorageUnavailableError):
            await link.ask([("SET", "key", bytes(1_000_000))])

        assert [command[0] for command in server.received] == [b"SET"]


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (b"-OOM command not allowed when used memory > 'maxmemory'.\r\n", StorageFullError),
        (b"-NORUN no such run\r\n", RunMissingError),
        (b"-ERR unknown command\r\n", StorageUnavailableError),
        (b"-NOAUTH Authentication required.\r\n", StorageUnavailableError),
    ],
)
async def test_errors_of_the_server_are_told_apart_by_their_first_word(
    tmp_path: Path, said: bytes, kind: type[Exception]
) -> None:
    async def refuse(command: Command) -> bytes:
        return said

    async with linked(tmp_path, refuse) as (link, _):
        with pytest.raises(kind) as raised:
            await link.call("put", "run:", run="RUN", n_bytes=1)

        assert type(raised.value) is kind


async def test_who_may_not_ask_for_settings_is_not_refused(tmp_path: Path) -> None:
    async def refuse(command: Command) -> bytes:
        return b"-NOPERM this user has no permissions to run the 'info' command\r\n"

    async with linked(tmp_path, refuse) as (link, server):
        await link.check(allow_eviction=False)

        assert [command[0] for command in server.received] == [b"INFO", b"INFO"]
