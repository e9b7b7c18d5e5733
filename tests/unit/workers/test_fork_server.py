"""The fork server, seen by its client."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from dagnb_workers.hosting.fork_server import Exit, ForkServerClient

from dagnb.errors import LaunchError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")


@asynccontextmanager
async def fork_server(
    kind: str = "ends_children",
) -> AsyncIterator[tuple[ForkServerClient, subprocess.Popen[bytes]]]:
    here, there = socket.socketpair()
    program = Path(__file__).with_name("fork_server_stage.py")
    process = subprocess.Popen(  # noqa: ASYNC220  # waited for below, also in plain functions
        [sys.executable, "-P", program, str(there.fileno()), kind],
        pass_fds=[there.fileno()],
        stderr=subprocess.PIPE,
    )
    there.close()
    client = ForkServerClient(here)
    listening = asyncio.create_task(client.listen())
    try:
        yield client, process
    finally:
        if process.poll() is None:
            await client.leave()
        await asyncio.wait_for(listening, 10)
        client.close()
        process.communicate(timeout=10)


async def ended(client: ForkServerClient) -> Exit:
    exited = await asyncio.wait_for(client.exits.get(), 10)
    assert exited is not None
    return exited


async def gone(pid: int) -> None:
    """Wait until there is no such process, or only its remains."""
    deadline = time.monotonic() + 10
    while _is_running(pid):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the second when it ends between open and read
        return False


async def test_a_child_is_started_and_its_end_is_told() -> None:
    async with fork_server() as (client, _):
        pid = await client.spawn("exit", "a", {"code": 3})

        assert await ended(client) == Exit("a", pid, 3 << 8)


async def test_many_children_are_started_fast_and_none_is_missed() -> None:
    async with fork_server() as (client, _):
        await client.spawn("exit", "first", {"code": 0})
        begun = time.monotonic()
        await asyncio.gather(*(client.spawn("exit", str(n), {"code": n}) for n in range(50)))
        took_s = time.monotonic() - begun
        exits = [await ended(client) for _ in range(51)]

    assert {(one.name, one.code) for one in exits} == {
        ("first", 0),
        *((str(n), n) for n in range(50)),
    }
    assert took_s / 50 < 0.05


async def test_descriptors_reach_the_child_they_are_meant_for() -> None:
    pipes = [os.pipe() for _ in range(6)]
    async with fork_server() as (client, _):
        for n in range(3):
            fds = [write for _, write in pipes[2 * n : 2 * n + 2]]
            await client.spawn("write", str(n), {"texts": [f"{n}a", f"{n}b"]}, fds)
        for _ in range(3):
            await ended(client)

    assert [os.read(read, 10).decode() for read, _ in pipes] == ["0a", "0b", "1a", "1b", "2a", "2b"]
    for pipe in pipes:
        for fd in pipe:
            os.close(fd)


async def test_a_child_inherits_only_its_own_descriptors() -> None:
    async with fork_server() as (client, _):
        await client.spawn("wait", "other", {}, [0])
        await client.spawn("open", "a", {}, [0, 0])

        assert (await ended(client)).code == 5


async def test_a_signal_reaches_one_child_only() -> None:
    async with fork_server() as (client, _):
        await client.spawn("wait", "a", {})
        other = await client.spawn("wait", "b", {})

        await client.signal("a", signal.SIGTERM)
        await client.signal("unknown", signal.SIGTERM)

        assert ((one := await ended(client)).name, one.code) == ("a", -signal.SIGTERM)
        assert _is_running(other)


async def test_a_child_that_raises_prints_it_and_ends_with_1() -> None:
    async with fork_server() as (client, process):
        await client.spawn("raise", "a", {})
        assert (await ended(client)).code == 1
        await client.leave()
        _, printed = process.communicate(timeout=10)

    assert printed.decode().endswith("ValueError: no\n")


async def test_what_a_child_leaves_behind_is_ended() -> None:
    read, write = os.pipe()
    async with fork_server() as (client, _):
        await client.spawn("child", "a", {}, [write])
        grandchild = int(os.read(read, 20))
        await ended(client)

        await gone(grandchild)
    os.close(read)
    os.close(write)


async def test_children_end_with_the_connection() -> None:
    async with fork_server() as (client, process):
        pids = [await client.spawn("wait", str(n), {}) for n in range(3)]
        client._control.shutdown(socket.SHUT_WR)

        for pid in pids:
            await gone(pid)
        assert process.wait(timeout=10) == 1  # it says that it was deserted


async def test_children_die_with_a_fork_server_that_is_killed() -> None:
    async with fork_server() as (client, process):
        pid = await client.spawn("wait", "a", {})

        process.kill()

        await gone(pid)
        with pytest.raises(LaunchError, match="fork server is gone"):
            await client.spawn("exit", "b", {"code": 0})


async def test_other_children_live_on_without_it() -> None:
    async with fork_server("leaves_children") as (client, process):
        pid = await client.spawn("wait", "a", {})
        await client.leave()
        assert process.wait(timeout=10) == 0  # it left knowingly

        assert _is_running(pid)
        os.kill(pid, signal.SIGKILL)


async def test_a_terminal_interrupt_does_not_end_it() -> None:
    async with fork_server() as (client, process):
        await client.spawn("exit", "a", {"code": 0})

        process.send_signal(signal.SIGINT)

        await client.spawn("exit", "b", {"code": 0})
