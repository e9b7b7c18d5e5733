"""Requests to a Redis server: on an event loop, or blocking the thread that makes them.

    LoopTransport      clients and supervisors, which do many things at a time
    BlockingTransport  worker processes, which do one thing at a time: a loop would cost them more
                       time a request than the server does

Both have the same coroutines. Those of a BlockingTransport never suspend, so a process without a
loop runs them to their end by one step (`run_at_once`).
"""

from __future__ import annotations

import asyncio
import inspect
import math
import time
from collections.abc import Awaitable, Coroutine, Sequence
from typing import Any, Final, Protocol, TypeVar

import redis
import redis.retry
from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from dagnb.errors import ProtocolError

_T = TypeVar("_T")

Command = Sequence[str | bytes | memoryview | int | float]

_CONNECT_S = 5.0

# Sending the client's name costs a round trip, and reading it from the metadata as long again. The
# old names of these settings give a warning from redis-py 7 on, which introduced the new one.
_IS_NEW = "driver_info" in inspect.signature(Redis.__init__).parameters
_NAMELESS: Final[dict[str, Any]] = (
    {"driver_info": None} if _IS_NEW else {"lib_name": None, "lib_version": None}
)


class Transport(Protocol):
    """Sends requests to one server, each once. limit_s: seconds for the whole answer.

    Raises the exceptions of redis; its TimeoutError when no answer came in time. The connection is
    given up then: its next answer would be that of the old request.
    """

    async def execute(self, command: Command, limit_s: float) -> Any:
        """Returns the answer to one command."""
        ...

    async def pipeline(self, commands: Sequence[Command], limit_s: float) -> list[Any]:
        """Returns the answers to several commands, in one round trip."""
        ...

    async def pop(self, key: str, timeout_s: float, limit_s: float) -> None:
        """Take the head of a list; wait for one no longer than timeout_s."""
        ...

    async def drop_idle(self) -> None:
        """Close connections that no request uses: one of them may be silent."""
        ...

    async def pause(self, seconds: float) -> None:
        """Wait."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


class LoopTransport:
    """Requests on the running event loop.

    Two pools of connections, because a command that blocks keeps its connection.
    """

    def __init__(self, url: str) -> None:
        """Connect nothing yet."""
        self._commands, self._blocking = client(url, None), client(url, None)

    async def execute(self, command: Command, limit_s: float) -> Any:
        """See Transport."""
        # redis-py leaves it untyped.
        answer = self._commands.execute_command(*command)  # type: ignore[no-untyped-call]
        return await _within(limit_s, answer)

    async def pipeline(self, commands: Sequence[Command], limit_s: float) -> list[Any]:
        """See Transport."""
        return await _within(limit_s, self._sent(commands))

    async def _sent(self, commands: Sequence[Command]) -> list[Any]:
        async with self._commands.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            return await pipe.execute()

    async def pop(self, key: str, timeout_s: float, limit_s: float) -> None:
        """See Transport."""
        command = ("BLPOP", key, timeout_s)
        popped = self._blocking.execute_command(*command)  # type: ignore[no-untyped-call]
        await _within(limit_s, popped)

    async def drop_idle(self) -> None:
        """See Transport."""
        await self._commands.connection_pool.disconnect(inuse_connections=False)

    async def pause(self, seconds: float) -> None:
        """See Transport."""
        await asyncio.sleep(seconds)

    async def close(self) -> None:
        """See Transport."""
        await self._commands.aclose()
        await self._blocking.aclose()


class BlockingTransport:
    """Requests that block this thread.

    The limit of an answer is that of the socket, for each part of it that arrives. redis-py sets it
    when it connects, so each limit has a client of its own; rounded up to powers of two seconds,
    they are one or two.
    """

    def __init__(self, url: str) -> None:
        """Connect nothing yet."""
        self._url = url
        self._clients: dict[int, redis.Redis] = {}

    async def execute(self, command: Command, limit_s: float) -> Any:
        """See Transport."""
        return self._client(limit_s).execute_command(*command)  # type: ignore[no-untyped-call]

    async def pipeline(self, commands: Sequence[Command], limit_s: float) -> list[Any]:
        """See Transport."""
        with self._client(limit_s).pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)  # type: ignore[no-untyped-call]
            return list(pipe.execute())

    async def pop(self, key: str, timeout_s: float, limit_s: float) -> None:
        """See Transport."""
        await self.execute(("BLPOP", key, timeout_s), limit_s)

    async def drop_idle(self) -> None:
        """See Transport."""
        for each in self._clients.values():
            each.connection_pool.disconnect(inuse_connections=False)

    async def pause(self, seconds: float) -> None:
        """See Transport."""
        time.sleep(seconds)  # noqa: ASYNC251  # this thread has no loop

    async def close(self) -> None:
        """See Transport."""
        for each in self._clients.values():
            each.close()

    def _client(self, limit_s: float) -> redis.Redis:
        exponent = max(0, math.ceil(math.log2(limit_s)))
        known = self._clients.get(exponent)
        if known is None:
            known = self._clients[exponent] = redis.Redis.from_url(
                self._url,
                protocol=2,
                socket_timeout=2.0**exponent,
                socket_connect_timeout=_CONNECT_S,
                retry=redis.retry.Retry(NoBackoff(), 0),
                health_check_interval=0,
                **_NAMELESS,
            )
        return known


def run_at_once(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine that never suspends, in a thread without a loop. Returns its value.

    Raises its exception; ProtocolError if it does suspend.
    """
    try:
        coroutine.send(None)
    except StopIteration as end:
        value: _T = end.value
        return value
    coroutine.close()
    name = getattr(coroutine, "__qualname__", "a coroutine")
    raise ProtocolError(f"{name} waits for an event loop, and there is none")


def client(url: str, answer_s: float | None) -> Redis:
    """Returns a client for a loop that repeats nothing by itself.

    Retries by redis-py would hide round trips, and repeat calls without marking them as
    repetitions.
    """
    made: Redis = Redis.from_url(
        url,
        protocol=2,
        socket_timeout=answer_s,
        socket_connect_timeout=_CONNECT_S,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
        **_NAMELESS,
    )
    return made


async def _within(limit_s: float, answer: Awaitable[_T]) -> _T:
    try:
        async with asyncio.timeout(limit_s):
            return await answer
    except TimeoutError as error:
        raise exceptions.TimeoutError(f"no answer within {limit_s:g} s") from error
