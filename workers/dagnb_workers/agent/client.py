"""The client of the agent: finds it, or starts it, and sends requests.

The agent may be leaving at any moment. So a request whose connection breaks is sent again, to a new
agent; every request may be repeated.
"""

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
from dagnb.storage.home import runtime_directory, runtime_path
from dagnb_workers.hosting.interpreter import plain_environment, program
from dagnb_workers.hosting.run_locks import RunRecord, is_locked

# Seconds that an agent may take to listen, or to end with all its runs.
START_S = 15.0

_LINE_BYTES = 64 * 1024 * 1024
_TRIES = 5
_LOG_TAIL = 1000


class AgentClient:
    """A connection to the agent; while it is open, the agent does not leave."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def ask(self, op: str, **arguments: Any) -> dict[str, Any]:
        """Returns the agent's answer. Raises its error; ConnectionError when the agent has gone."""
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
        """Close the connection."""
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
    """Returns a connection to the agent of this runtime directory. Raises LaunchError.

    Starts an agent when there is none. idle_s: only for an agent that is started now.
    """
    directory = directory or runtime_directory()
    for _ in range(_TRIES):
        try:
            return await _connect_and_ping(directory)
        except OSError:  # no agent runs, or it is leaving
            await asyncio.to_thread(_start, directory, idle_s)
    raise LaunchError(
        f"no agent keeps running in {directory}. Its log ends with: {_log_tail(directory)}. "
        "`dagnb doctor` tells more."
    )


async def _connect_and_ping(directory: Path) -> AgentClient:
    """Returns a connection on which the agent has answered. Raises OSError."""
    client = await _connect(directory)
    try:
        await client.ask("ping")
    except BaseException:  # also when cancelled: the caller has no connection to close yet
        await client.close()
        raise
    return client


async def ask_agent(op: str, **arguments: Any) -> dict[str, Any]:
    """Returns the answer to one request; starts an agent when there is none. Raises LaunchError."""
    for _ in range(_TRIES):
        try:
            async with await ensure_agent() as agent:
                return await agent.ask(op, **arguments)
        except ConnectionError:  # the agent was leaving
            continue
    raise LaunchError(f"no agent answers the request {op!r}. Run `dagnb doctor`.")


async def ask_running(op: str, **arguments: Any) -> dict[str, Any]:
    """Returns the answer to one request; {} when no agent runs."""
    try:
        async with await _connect(runtime_directory()) as agent:
            return await agent.ask(op, **arguments)
    except OSError:
        return {}


def is_agent_gone() -> bool:
    """Returns True if no agent runs, so that the next request starts one."""
    return not is_locked(runtime_path() / "agent.lock")


async def ensure_hosted(run: str) -> None:
    """Start an agent when all processes of a run have died: see Hosting.ensure_hosted.

    The new agent reads the launch files in its directory and starts a supervisor for the run. While
    an agent lives, this call only looks at its lock.
    """
    directory = runtime_directory()
    if is_locked(directory / "agent.lock"):
        return  # that agent restarts every run that has a launch file

    record = RunRecord(directory, run)
    if record.read() is None or record.is_alive():
        return
    await ask_agent("ping")


def stop() -> int:
    """Run `dagnb agent --stop`. Returns the exit code: 0, also without an agent; 1 if it stays."""

    async def ask_to_leave() -> None:
        async with await _connect(runtime_directory()) as agent:
            await agent.ask("leave", force=True)

    try:
        asyncio.run(ask_to_leave())
    except OSError:
        sys.stdout.write("no agent is running\n")
        return 0

    # The agent holds its lock until its runs and its server have ended.
    deadline = time.monotonic() + START_S
    while is_locked(runtime_directory() / "agent.lock"):
        if time.monotonic() > deadline:
            sys.stderr.write(
                f"dagnb: the agent has not ended within {START_S:g} s. "
                f"Its log: {runtime_directory() / 'agent.log'}\n"
            )
            return 1
        time.sleep(0.01)
    sys.stdout.write("the agent, its server and its runs have ended\n")
    return 0


async def store_url(**host: Any) -> str:
    """Returns the URL of the embedded server, with its password; starts it when there is none.

    host: fields of the host that will be needed next (HostKey.to_dict); it is started meanwhile.
    """
    url: str = (await ask_agent("store", **host))["url"]
    return url


async def _connect(directory: Path) -> AgentClient:
    path = directory / "agent.sock"
    reader, writer = await asyncio.open_unix_connection(path, limit=_LINE_BYTES)
    return AgentClient(reader, writer)


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
            f"the agent did not start: {error}. Its log ends with: {_log_tail(directory)}. "
            f"Correct what the log says of {directory}, or set DAGNB_HOME to another directory."
        ) from error


def _log_tail(directory: Path) -> str:
    try:
        log = (directory / "agent.log").read_text(errors="replace")
    except OSError:
        return "nothing"
    return log[-_LOG_TAIL:].strip() or "nothing"


def _error(answer: dict[str, Any]) -> DagnbError:
    # Most error classes need more than a message, and callers only distinguish ConfigError.
    if getattr(errors, answer["type"], None) is errors.ConfigError:
        return errors.ConfigError(answer["error"])
    return LaunchError(answer["error"])
