"""The asking side of the agent: find it, or start it, and ask."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from dagnb import errors
from dagnb.errors import DagnbError, LaunchError
from dagnb.storage.home import runtime_directory
from dagnb_workers.hosting.interpreter import plain_environment, program
from dagnb_workers.hosting.run_locks import RunRecord, is_held

START_S = 15.0
_LINE_BYTES = 64 * 1024 * 1024
_TRIES = 5
_LOG_TAIL = 1000


class AgentClient:
    """One connection; while it is open the agent stays."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def ask(self, op: str, **arguments: Any) -> dict[str, Any]:
        """The agent's answer. Raises the error it answers with; ConnectionError when it has gone."""
        self._writer.write(json.dumps({"op": op, **arguments}).encode() + b"\n")
        await self._writer.drain()
        line = await self._reader.readline()
        if not line:
            raise ConnectionResetError("the agent has gone")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise _error(answer)
        return answer

    async def close(self) -> None:
        """Hang up."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def __aenter__(self) -> AgentClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


async def ensure_agent(
    directory: Path | None = None, *, idle_s: float | None = None
) -> AgentClient:
    """A connection to the agent of this runtime directory, which is started when there is none. Raises LaunchError.

    idle_s: only for an agent that is started now.
    """
    directory = directory or runtime_directory()
    for _ in range(_TRIES):
        try:
            return await _answering(directory)
        except OSError:  # none there, or just leaving
            await asyncio.to_thread(_start, directory, idle_s)
    raise LaunchError(f"no agent stays in {directory}. It said: {_log_tail(directory)}")


async def _answering(directory: Path) -> AgentClient:
    """A connection on which the agent has answered. Raises OSError."""
    client = await _connect(directory)
    try:
        await client.ask("ping")
    except BaseException:  # cancelled as well: nobody else would close it
        await client.close()
        raise
    return client


async def ask_agent(op: str, **arguments: Any) -> dict[str, Any]:
    """One question to the agent, which is started when there is none."""
    for _ in range(_TRIES):
        try:
            async with await ensure_agent() as agent:
                return await agent.ask(op, **arguments)
        except ConnectionError:  # it was just leaving
            continue
    raise LaunchError(f"no agent answers to {op!r}. Ask `dagnb doctor`.")


async def ask_running(op: str, **arguments: Any) -> dict[str, Any]:
    """One question to the agent; {} when there is none."""
    try:
        async with await _connect(runtime_directory()) as agent:
            return await agent.ask(op, **arguments)
    except OSError:
        return {}


async def ensure_hosted(run: str) -> None:
    """Start an agent when a run noted here has lost everything that worked for it: see Hosting.ensure_hosted.

    The new agent reads the notes in its directory and starts a supervisor for the run. Costs two system calls while
    an agent lives.
    """
    directory = runtime_directory()
    if is_held(directory / "agent.lock"):
        return  # it looks after every run that is noted in its directory

    entry = RunRecord(directory, run)
    if entry.read() is None or entry.is_alive():
        return
    await ask_agent("ping")


def stop() -> int:
    """`dagnb agent --stop`: the exit code, 0 also when there was no agent."""

    async def ask() -> None:
        async with await _connect(runtime_directory()) as agent:
            await agent.ask("leave", force=True)

    try:
        asyncio.run(ask())
    except OSError:
        sys.stdout.write("no agent is running\n")
        return 0
    deadline = time.monotonic() + START_S
    while is_held(runtime_directory() / "agent.lock") and time.monotonic() < deadline:
        time.sleep(0.01)
    sys.stdout.write("the agent, its server and its runs have ended\n")
    return 0


async def store_url(**host: Any) -> str:
    """The URL of the embedded server, with its password; the server is started when there is none.

    host: who will be needed next, and is started meanwhile.
    """
    url: str = (await ask_agent("store", **host))["url"]
    return url


async def _connect(directory: Path) -> AgentClient:
    return AgentClient(
        *await asyncio.open_unix_connection(directory / "agent.sock", limit=_LINE_BYTES)
    )


def _start(directory: Path, idle_s: float | None) -> None:
    """Start an agent and wait until it listens, which it tells by closing its stdout."""
    arguments = ["--detach", "--directory", str(directory)]
    if idle_s is not None:
        arguments += ["--idle-s", str(idle_s)]
    try:
        with (directory / "agent.log").open("ab") as log:
            subprocess.run(
                program("dagnb_workers.agent.agent", arguments),
                env=plain_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                cwd="/",
                timeout=START_S,
                check=True,
            )
    except (subprocess.SubprocessError, OSError) as error:
        raise LaunchError(
            f"the agent did not start: {error}. It said: {_log_tail(directory)}. "
            f"Correct what it says of {directory}, or set DAGNB_HOME to another directory."
        ) from error


def _log_tail(directory: Path) -> str:
    try:
        return (directory / "agent.log").read_text(errors="replace")[
            -_LOG_TAIL:
        ].strip() or "nothing"
    except OSError:
        return "nothing"


def _error(answer: dict[str, Any]) -> DagnbError:
    """The error itself where a message makes one, else a LaunchError with its message."""
    kind = getattr(errors, answer["type"], None)
    return (
        errors.ConfigError(answer["error"])
        if kind is errors.ConfigError
        else LaunchError(answer["error"])
    )
