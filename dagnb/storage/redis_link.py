"""The connection to a Redis or Valkey server: what is allowed, how errors are named, what is repeated.

A call is repeated after a lost connection, because repeating a step changes nothing.
Two pools: one for commands, one for those that block, so that a worker holds two connections.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import ipaddress
import re
import secrets
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.resources import files
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from dagnb.errors import ConfigError, RunMissingError, StorageFullError, StorageUnavailableError

Command = Sequence[str | bytes | memoryview | int | float]

_LOST = (exceptions.ConnectionError, exceptions.TimeoutError)
_OLDEST = (7, 0)
_ANSWER_S = 30.0
# To say who we are costs a round trip, and reading it from the metadata as long again. From redis-py 7 on the old names
# of these settings warn, and before it the new one is unknown.
_IS_NEW = "driver_info" in inspect.signature(Redis.__init__).parameters
_NAMELESS: Final[dict[str, Any]] = {"driver_info": None} if _IS_NEW else {"lib_name": None, "lib_version": None}


def _library() -> tuple[str, str]:
    """Name and source of the function library; the name holds a hash, so that versions may share a server."""
    source = files("dagnb.storage").joinpath("scripts/dagnb.lua").read_text(encoding="utf-8")
    name = f"dagnb_{hashlib.sha256(source.encode()).hexdigest()[:8]}"
    source = source.replace("name=dagnb\n", f"name={name}\n", 1)
    return name, source.replace("LIBRARY = 'dagnb'", f"LIBRARY = '{name}'", 1)


LIBRARY, SOURCE = _library()


def without_secrets(url: str) -> str:
    """The URL without user and password, for messages."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rsplit("@", 1)[-1], parts.path, "", ""))


def refuse_exposed(url: str) -> None:
    """Raise ConfigError for a server off this host that is reached without TLS or without a password."""
    parts = urlsplit(url)
    if parts.scheme == "unix" or _is_loopback(parts.hostname or "localhost"):
        return
    lacks = [what for what, there in (("TLS", parts.scheme == "rediss"), ("a password", parts.password)) if not there]
    if lacks:
        raise ConfigError(
            f"the store at {without_secrets(url)} is reached over a network without {' and without '.join(lacks)}: "
            "whoever listens could read results or run code. Use rediss://:PASSWORD@HOST, or allow_insecure=True."
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def translated(url: str, run: str = "", n_bytes: int = 0) -> Iterator[None]:
    """Foreign errors in our words; n_bytes: how much was to be stored."""
    try:
        yield
    except exceptions.OutOfMemoryError as error:
        raise StorageFullError(n_bytes, str(error)) from error
    except exceptions.ResponseError as error:
        if str(error).startswith("NORUN"):
            raise RunMissingError(run) from error
        raise StorageUnavailableError(url, str(error)) from error
    except exceptions.RedisError as error:
        raise StorageUnavailableError(url, str(error) or type(error).__name__) from error


class Link:
    """One server. `round_trips` counts flushes to it, those that block included."""

    def __init__(self, url: str, patience_s: float) -> None:
        """Nothing is connected yet. patience_s: how long lost connections are tried again."""
        self.url: Final = without_secrets(url)
        self.patience_s = patience_s
        self.round_trips = 0
        self.commands = _client(url, _ANSWER_S)
        self.blocking = _client(url, None)

    async def close(self) -> None:
        """Give the connections back."""
        await self.commands.aclose()
        await self.blocking.aclose()

    async def check(self, *, allow_eviction: bool) -> None:
        """Raise ConfigError for a server that is too old or may evict keys; who may not ask is not told."""
        try:
            with translated(self.url):
                answers = await self._pipeline([("INFO", "server"), ("INFO", "memory")])
        except StorageUnavailableError as error:
            if isinstance(error.__cause__, exceptions.NoPermissionError):
                return
            raise
        info: dict[str, Any] = {**answers[0], **answers[1]}
        version = tuple(int(part) for part in str(info["redis_version"]).split(".")[:2])
        if version < _OLDEST:
            raise ConfigError(
                f"the server at {self.url} is Redis {info['redis_version']}; dagnb needs 7.0 or newer, or Valkey. "
                "Upgrade it, or give no URL: dagnb then starts a server of its own."
            )
        policy = info.get("maxmemory_policy", "noeviction")
        if policy != "noeviction" and not allow_eviction:
            raise ConfigError(
                f"the server at {self.url} has maxmemory-policy {policy} and may delete results or a run's state. "
                "Set it with `CONFIG SET maxmemory-policy noeviction`, or set DAGNB_ALLOW_EVICTION=1."
            )

    async def call(
        self, function: str, prefix: str, *args: Any, run: str = "", now: str = "", fresh: str = "", n_bytes: int = 0
    ) -> Any:
        """One step: a function of the library on the run's keys. Repeated, marked as such, when its reply was lost."""
        fresh = fresh or secrets.token_hex(8)
        name = f"{LIBRARY}_{function}"

        async def attempt(again: bool) -> Any:
            return await self._execute(
                self.commands, "FCALL", name, 1, prefix, now, fresh, "1" if again else "0", *args
            )

        return await self._patiently(attempt, run, n_bytes)

    async def ask(self, commands: Sequence[Command], *, run: str = "", n_bytes: int = 0) -> list[Any]:
        """Several commands in one round trip; they must bear repetition."""

        async def attempt(_: bool) -> list[Any]:
            return await self._pipeline(commands)

        answers: list[Any] = await self._patiently(attempt, run, n_bytes)
        return answers

    async def scan(self, prefix: str) -> list[bytes]:
        """Every key that begins so: walks through all keys of the server."""
        pattern = re.sub(r"([\\*?\[\]])", r"\\\1", prefix) + "*"
        with translated(self.url):
            return [key async for key in self.commands.scan_iter(match=pattern, count=1000)]

    async def pop(self, key: str, timeout_s: float) -> None:
        """Take the head of a list when there is one, or return when the time is up or the server went away."""
        self.round_trips += 1
        with translated(self.url), suppress(*_LOST, TimeoutError):
            async with asyncio.timeout(timeout_s + _ANSWER_S):
                await self._execute(self.blocking, "BLPOP", key, max(timeout_s, 0.001))

    async def hear(self, channel: str, is_over: Callable[[], Awaitable[bool]], timeout_s: float) -> None:
        """Return when a message comes, or it is over already, or the time is up, or the server went away.

        Nothing is cancelled when the time is up: who connects may swallow that, and listen for ever.
        """
        self.round_trips += 1
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        async with self.blocking.pubsub() as listener:
            with translated(self.url), suppress(*_LOST, TimeoutError):
                await listener.subscribe(channel)
                while (left_s := until - loop.time()) > 0:
                    message = await listener.get_message(timeout=left_s)
                    if message is not None and (message["type"] == "message" or await is_over()):
                        return

    def require_run(self, run: str, found: object) -> None:
        """Raise RunMissingError when what was looked up is not there."""
        if not found:
            raise RunMissingError(run)

    async def _execute(self, client: Redis, *command: Any) -> Any:
        return await client.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped

    async def _pipeline(self, commands: Sequence[Command]) -> list[Any]:
        async with self.commands.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            return await pipe.execute()

    async def _patiently(self, attempt: Callable[[bool], Awaitable[Any]], run: str, n_bytes: int) -> Any:
        """The answer, through lost connections and servers that do not know our library yet."""
        loop = asyncio.get_running_loop()
        until, pause_s, again = loop.time() + self.patience_s, 0.02, False
        while True:
            self.round_trips += 1
            with translated(self.url, run, n_bytes):
                try:
                    return await attempt(again)
                except _LOST as error:
                    if isinstance(error, exceptions.AuthenticationError) or loop.time() + pause_s > until:
                        raise
                    again = True
                except exceptions.ResponseError as error:
                    if "Function not found" not in str(error):
                        raise
                    await self._load()
                    continue
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, 0.5)

    async def _load(self) -> None:
        self.round_trips += 1
        await self._execute(self.commands, "FUNCTION", "LOAD", "REPLACE", SOURCE)


def _client(url: str, answer_s: float | None) -> Redis:
    """A client that repeats nothing by itself: its retries would hide round trips and repeat what must not be."""
    client: Redis = Redis.from_url(
        url,
        protocol=2,
        socket_timeout=answer_s,
        socket_connect_timeout=5.0,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
        **_NAMELESS,
    )
    return client
