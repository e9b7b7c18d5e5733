"""The connection to a Redis or Valkey server: limits, repetition, errors, loading the library.

A call is repeated after a lost connection, because repeating a step changes nothing. A silent
connection counts as lost, too: when the peer vanishes without closing it, no error ever comes. So
every answer has a time limit.

    attempt 1          2                3                         patience is over
    |--- answer_s ---|   |--- 2 x ---|   |--- 4 x ---|   ...      raise
                      pause: 20 ms, doubled each time, 0.5 s at most

An answer that only takes long (a large value, a slow link) must not count as silence: the limit
grows by the time that the bytes need on a link of _SLOWEST_BYTES_S.

How a request reaches the server is up to the transport, see redis_transport.py.
"""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import ipaddress
import os
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from redis import exceptions
from redis.asyncio import Redis

from dagnb.errors import (
    ConfigError,
    RunMissingError,
    StorageError,
    StorageFullError,
    StorageLimitError,
    StorageLostError,
    StorageUnavailableError,
)
from dagnb.failure import reason_of
from dagnb.storage.embedded import is_embedded
from dagnb.storage.interface import CHUNK_BYTES
from dagnb.storage.redis_transport import (
    BlockingTransport,
    Command,
    LoopTransport,
    Transport,
    client,
)
from dagnb.units import MIB

_of_parents: list[object] = []
"""Clients of the process that this one was forked from. Never freed: that would close sockets."""

_LOST = (exceptions.ConnectionError, exceptions.TimeoutError)
_OLDEST = (7, 0)
_ANSWER_S = 2.5
"""Limit of a first answer, seconds; a quarter of the patience where that is longer.

Each silent attempt doubles it: a slow server gets the time it needs, and a dead connection is given
up early.
"""

_LIMIT_SETTING = "proto-max-bulk-len"
_LIMIT_BYTES = 512 * MIB
"""The default of that setting. Source: redis.conf of Redis 7."""

_SLOWEST_BYTES_S = 500_000
"""The slowest link that is waited for, bytes per second."""

_PARTS = ("context", "values", "contents", "roster", "tasks", "machine", "runs", "export")
"""The files of the function library; each may use what the files before it define."""


def _library() -> tuple[str, str]:
    """Returns name and source of the function library: its parts, joined.

    The name holds a hash of the source, so old and new clients may share a server.
    """
    folder = files("dagnb.storage").joinpath("scripts")
    parts = [folder.joinpath(f"{part}.lua").read_text(encoding="utf-8") for part in _PARTS]
    source = "\n".join(parts)
    name = f"dagnb_{hashlib.sha256(source.encode()).hexdigest()[:8]}"
    source = source.replace("name=dagnb\n", f"name={name}\n", 1)
    return name, source.replace("LIBRARY = 'dagnb'", f"LIBRARY = '{name}'", 1)


LIBRARY, SOURCE = _library()


def without_secrets(url: str) -> str:
    """Returns the URL without user and password, for messages."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rsplit("@", 1)[-1], parts.path, "", ""))


def refuse_exposed(url: str) -> None:
    """Raise ConfigError for a server on another host without TLS or without a password."""
    parts = urlsplit(url)
    if parts.scheme == "unix" or _is_loopback(parts.hostname or "localhost"):
        return
    lacks = []
    if parts.scheme != "rediss":
        lacks.append("TLS")
    if not parts.password:
        lacks.append("a password")
    if lacks:
        raise ConfigError(
            f"the store at {without_secrets(url)} is reached over a network without "
            f"{' and without '.join(lacks)}: anyone who listens could read results or run code. "
            "Use rediss://:PASSWORD@HOST, or allow_insecure=True."
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def translated(url: str, run: str = "", n_bytes: int = 0) -> Iterator[None]:
    """Translate errors of redis into errors of dagnb. n_bytes: size of what was to be stored."""
    try:
        yield
    except exceptions.OutOfMemoryError as error:
        raise StorageFullError(n_bytes, reason_of(error)) from error
    except exceptions.ResponseError as error:
        if str(error).startswith("NORUN"):
            raise RunMissingError(run) from error
        raise StorageUnavailableError(url, reason_of(error)) from error
    except exceptions.RedisError as error:
        # An embedded server that is gone does not come back: the next one in its place has another
        # password and none of its runs, so waiting for it would be useless.
        is_gone = isinstance(error, exceptions.ConnectionError) and is_embedded(url)
        kind = StorageLostError if is_gone else StorageUnavailableError
        raise kind(url, reason_of(error)) from error


class RedisConnection:
    """The connection to one server. `round_trips` counts requests, those that block included."""

    def __init__(self, url: str, patience_s: float, *, blocks: bool = False) -> None:
        """Set up clients; nothing is connected yet. patience_s: the longest outage to wait for.

        blocks: requests block the thread, which has no loop. Channels and walks need one.
        """
        self.url: Final = without_secrets(url)
        self.patience_s = patience_s
        self.answer_s = max(_ANSWER_S, patience_s / 4)
        self.round_trips = 0
        self.make_room: Callable[[int], Awaitable[int]] | None = None
        """frees room for so many bytes on a full server; returns the bytes that it freed"""
        self._full_url, self._blocks = url, blocks
        self._connect()

    def _connect(self) -> None:
        self._pid = os.getpid()
        self._transport: Transport
        if self._blocks:
            self._transport = BlockingTransport(self._full_url)
        else:
            self._transport = LoopTransport(self._full_url)
        self._listening: Redis | None = None

    def _own(self) -> None:
        """Connect anew in a forked process. The parent goes on with the old sockets."""
        if self._pid != os.getpid():
            _of_parents.append((self._transport, self._listening))
            # The end of the interpreter would free the list, and so close them.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(_of_parents))
            self._connect()

    @property
    def transport(self) -> Transport:
        """This process's way to the server."""
        self._own()
        return self._transport

    @property
    def listening(self) -> Redis:
        """This process's client for channels and for walks through all keys."""
        self._own()
        if self._listening is None:
            self._listening = client(self._full_url, self.answer_s)
        return self._listening

    async def close(self) -> None:
        """See Store.close."""
        await self.transport.close()
        if self._listening is not None:
            await self._listening.aclose()

    async def check(self, *, allow_eviction: bool) -> None:
        """Raise ConfigError for a server that is too old or may evict keys.

        Without the right to call INFO, the check is skipped.
        """
        try:
            with translated(self.url):
                looks: list[Command] = [("INFO", "server"), ("INFO", "memory")]
                limit_s = max(self.patience_s, self.answer_s)
                answers = await self.transport.pipeline(looks, limit_s)
        except StorageUnavailableError as error:
            if isinstance(error.__cause__, exceptions.NoPermissionError):
                return
            raise
        info: dict[str, Any] = {**answers[0], **answers[1]}
        version = tuple(int(part) for part in str(info["redis_version"]).split(".")[:2])
        if version < _OLDEST:
            raise ConfigError(
                f"the server at {self.url} is Redis {info['redis_version']}; "
                "dagnb needs 7.0 or newer, or Valkey. "
                "Upgrade it, or give no URL: dagnb then starts a server of its own."
            )
        policy = info.get("maxmemory_policy", "noeviction")
        if policy != "noeviction" and not allow_eviction:
            raise ConfigError(
                f"the server at {self.url} has maxmemory-policy {policy} "
                "and may delete results or a run's state. "
                "Set it with `CONFIG SET maxmemory-policy noeviction`, or accept that with "
                "DAGNB_ALLOW_EVICTION=1 or dagnb.Redis(url=..., allow_eviction=True)."
            )

    async def call(
        self,
        function: str,
        prefix: str,
        *args: Any,
        run: str = "",
        now: str = "",
        fresh: str = "",
        n_bytes: int = 0,
    ) -> Any:
        """Take one step: call a function of the library on the run's keys. Returns its answer.

        The call is repeated, and marked as a repetition, when its reply was lost.
        n_bytes: bytes sent and received. now, fresh: for tests; by default the server's clock and a
        random text.
        """
        fresh = fresh or secrets.token_hex(8)

        async def attempt(again: bool, limit_s: float) -> Any:
            step = self.step(function, prefix, *args, now=now, fresh=fresh, again=again)
            return await self._execute(step, limit_s)

        return await self._patiently(attempt, _Request(run, n_bytes, n_bytes, [args]))

    def step(
        self,
        function: str,
        prefix: str,
        *args: Any,
        now: str = "",
        fresh: str = "",
        again: bool = False,
    ) -> Command:
        """Returns the command that calls a function of the library, for `ask`.

        Only for functions that need no mark when they are repeated.
        """
        return ("FCALL", f"{LIBRARY}_{function}", 1, prefix, now, fresh, int(again), *args)

    async def ask(
        self,
        commands: Sequence[Command],
        *,
        run: str = "",
        n_bytes: int = 0,
        whole: int | None = None,
    ) -> list[Any]:
        """Send several commands in one round trip. Returns their answers.

        They may be sent twice, so they must be idempotent. n_bytes: bytes sent and received,
        roughly. whole: size of the value that these are a part of, for the error of a full server.
        """

        async def attempt(_: bool, limit_s: float) -> list[Any]:
            return await self.transport.pipeline(commands, limit_s)

        request = _Request(run, n_bytes, n_bytes if whole is None else whole, commands)
        answers: list[Any] = await self._patiently(attempt, request)
        return answers

    async def scan(self, prefix: str) -> list[bytes]:
        """Returns every key that begins so. It walks through all keys of the server."""
        # A namespace may hold characters that mean something in a pattern.
        pattern = re.sub(r"([\\*?\[\]])", r"\\\1", prefix) + "*"
        with translated(self.url):
            return [key async for key in self.listening.scan_iter(match=pattern, count=1000)]

    async def pop(self, key: str, timeout_s: float) -> None:
        """Take the head of a list. Return without one when the time is up or the server is lost."""
        self.round_trips += 1
        with translated(self.url), suppress(*_LOST):
            await self.transport.pop(key, max(timeout_s, 0.001), timeout_s + self.answer_s)

    async def wait_message(
        self, channel: str, is_over: Callable[[], Awaitable[bool]], timeout_s: float
    ) -> None:
        """Return when a message comes, `is_over` says so, the time is up, or the server is lost.

        is_over: called after the subscription to the channel.
        """
        self.round_trips += 1
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        async with self.listening.pubsub() as listener:
            with translated(self.url), suppress(*_LOST, TimeoutError):
                await listener.subscribe(channel)
                # A limit per message, not a cancellation: redis-py may swallow that while it
                # connects, and then listen for ever.
                while (left_s := until - loop.time()) > 0:
                    message = await listener.get_message(timeout=left_s)
                    if message is not None and (message["type"] == "message" or await is_over()):
                        return

    def require_run(self, run: str, is_there: object) -> None:
        """Raise RunMissingError when a look found no key of the run."""
        if not is_there:
            raise RunMissingError(run)

    async def _execute(self, command: Command, limit_s: float) -> Any:
        return await self.transport.execute(command, limit_s)

    async def _patiently(
        self, attempt: Callable[[bool, float], Awaitable[Any]], request: _Request
    ) -> Any:
        """Returns the answer, through lost and silent connections, and loads the library if needed.

        attempt: makes the request; True for a repetition, and the limit of the answer in seconds.
        See the picture at the top.
        """
        transfer_s = request.n_bytes / _SLOWEST_BYTES_S
        until, pause_s, again = time.monotonic() + self.patience_s + transfer_s, 0.02, False
        answer_s = self.answer_s
        while True:
            self.round_trips += 1
            with translated(self.url, request.run, request.whole):
                try:
                    return await attempt(again, answer_s + transfer_s)
                except _LOST as error:
                    await self._refuse_oversize(request, error)
                    if (
                        isinstance(error, exceptions.AuthenticationError)
                        or time.monotonic() + pause_s > until
                    ):
                        raise
                    # The step may have been taken: from here on, a repetition.
                    again = True
                    if isinstance(error, exceptions.TimeoutError):
                        answer_s *= 2
                        # What made this connection silent made the idle ones silent, too.
                        await self.transport.drop_idle()
                except exceptions.OutOfMemoryError as error:
                    # A step is refused as a whole, so the next attempt is no repetition.
                    if await self._freed_bytes(request.whole):
                        continue
                    raise exceptions.OutOfMemoryError(await self._fullness()) from error
                except exceptions.ResponseError as error:
                    await self._refuse_oversize(request, error)
                    if "Function not found" not in str(error):
                        raise
                    await self._load()
                    continue
            await self.transport.pause(pause_s)
            pause_s = min(2 * pause_s, 0.5)

    async def _refuse_oversize(self, request: _Request, error: Exception) -> None:
        """Raise StorageLimitError if an argument of the commands is larger than the server accepts.

        A server closes the connection in the middle of such an argument, so the error is either a
        lost connection or the server's reason, by chance.
        """
        largest = request.largest()
        if largest <= CHUNK_BYTES:
            return
        limit = await self._most_bytes()
        if largest > limit:
            raise StorageLimitError(self.url, largest, limit) from error

    async def _most_bytes(self) -> int:
        """Returns the proto-max-bulk-len of the server; its default if reading it is forbidden."""
        self.round_trips += 1
        try:
            command = ("CONFIG", "GET", _LIMIT_SETTING)
            setting = await self.transport.execute(command, self.answer_s)
        except exceptions.RedisError:
            return _LIMIT_BYTES
        return int(setting[1]) if setting else _LIMIT_BYTES

    async def _freed_bytes(self, n_bytes: int) -> int:
        """Returns the bytes that were freed for a value of this size."""
        if self.make_room is None:
            return 0
        # Why there is no room is what the caller must know, not why none could be made.
        with suppress(StorageError):
            return await self.make_room(n_bytes)
        return 0

    async def memory(self) -> tuple[int, int] | None:
        """Returns the bytes that the server uses, and its maxmemory, 0 for none.

        Returns None where INFO is not allowed, or does not say it.
        """
        self.round_trips += 1
        try:
            (memory,) = await self.transport.pipeline([("INFO", "memory")], self.answer_s)
            return memory["used_memory"], memory["maxmemory"]
        except (exceptions.RedisError, KeyError):
            return None

    async def _fullness(self) -> str:
        """Returns how full the server is, for a message; with numbers where they are known."""
        memory = await self.memory()
        if memory is None:
            return "its maxmemory is reached"
        return f"it uses {memory[0]} of {memory[1]} bytes, its maxmemory"

    async def _load(self) -> None:
        self.round_trips += 1
        command = ("FUNCTION", "LOAD", "REPLACE", SOURCE)
        await self.transport.execute(command, max(self.patience_s, self.answer_s))


@dataclass(frozen=True, slots=True)
class _Request:
    """One request.

    n_bytes: bytes sent and received. whole: size of the value that it is a part of.
    """

    run: str
    n_bytes: int
    whole: int
    commands: Sequence[Command]

    def largest(self) -> int:
        """Returns the bytes of the largest argument."""
        words = (word for command in self.commands for word in command)
        return max(map(_size, words), default=0)


def _size(word: str | bytes | memoryview | int | float) -> int:
    if isinstance(word, str):
        return len(word.encode())
    return memoryview(word).nbytes if isinstance(word, bytes | memoryview) else 0
