"""The agent: found or started, killed and succeeded, idle and gone."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from dagnb_workers.agent.client import AgentClient, ask_agent, ensure_agent, store_url
from dagnb_workers.hosting.run_locks import RunRecord, is_locked, run_records
from dagnb_workers.launchers.process import Processes, usable_cpus

from dagnb.errors import ConfigError, LaunchError
from dagnb.protocol.invocation import Invocation
from dagnb.protocol.messages import Queue, Record, Submission
from dagnb.storage.embedded import running_server
from dagnb.storage.home import private_directory, runtime_directory
from dagnb.storage.open import open_store
from tests.services.stage import end, eventually, is_running

pytestmark = pytest.mark.redis

IDLE_S = 0.5


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime directory of this test's own; afterwards no process of it is left."""
    with tempfile.TemporaryDirectory(prefix="dnb", dir="/tmp") as short:
        monkeypatch.setenv("DAGNB_HOME", short)
        directory = runtime_directory()
        yield directory
        if processes_of(directory):
            asyncio.run(_leave())
        eventually(lambda: not processes_of(directory))
        assert [path.name for path in directory.iterdir()] == []


async def _leave() -> None:
    async with await ensure_agent(idle_s=IDLE_S) as agent:
        await agent.ask("leave", force=True)


def processes_of(directory: Path) -> list[int]:
    """Returns the living processes whose command lines name the directory."""
    return [
        pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _names(pid, directory)
    ]


def _supervisor_now(run: str, directory: Path) -> int:
    """Its pid when it and both its workers live."""
    holder = RunRecord(directory, run).holder()
    return holder.pid if is_running(holder.pid) and len(holder.instances) == 2 else 0


def _names(pid: int, directory: Path) -> bool:
    try:
        return str(directory).encode() in Path(f"/proc/{pid}/cmdline").read_bytes() and is_running(
            pid
        )
    except (FileNotFoundError, ProcessLookupError):  # the second when it ends between open and read
        return False


@pytest.fixture
async def agent(home: Path) -> AsyncIterator[AgentClient]:
    client = await ensure_agent()
    yield client
    await client.close()


async def test_it_answers_and_is_private(agent: AgentClient, home: Path) -> None:
    pid = (await agent.ask("ping"))["pid"]

    assert is_running(pid)
    assert os.getsid(pid) != os.getsid(0)
    assert private_directory(home) == home


async def test_everybody_finds_the_same_agent_and_the_same_server(home: Path) -> None:
    clients = await asyncio.gather(*(ensure_agent() for _ in range(3)))

    assert len({(await client.ask("ping"))["pid"] for client in clients}) == 1
    assert len({(await client.ask("store"))["url"] for client in clients}) == 1
    for client in clients:
        await client.close()


async def test_the_data_of_a_killed_agent_is_found_by_the_next(home: Path) -> None:
    url = await store_url()
    store = await open_store(url)
    await store.share({"h": b"content"}, run="run", ttl_s=60)
    first = (await ask_agent("ping"))["pid"]

    end([first])
    eventually(lambda: not is_running(first))

    assert await store_url() == url
    assert (await ask_agent("ping"))["pid"] != first
    assert await store.content(["h"]) == [b"content"]
    await store.close()


async def test_a_killed_agent_is_succeeded_even_when_nobody_comes_back(home: Path) -> None:
    async with await ensure_agent(idle_s=IDLE_S) as agent:
        await agent.ask("store")
        first = (await agent.ask("ping"))["pid"]
        end([first])

    eventually(lambda: not processes_of(home), 20)

    assert running_server(home) is None


async def test_an_idle_agent_leaves_and_stops_its_server(home: Path) -> None:
    async with await ensure_agent(idle_s=IDLE_S) as agent:
        await agent.ask("store")
        assert processes_of(home)

    eventually(lambda: not processes_of(home), 20)


async def test_an_agent_stays_while_a_notebook_holds_the_store_open(home: Path) -> None:
    async with await ensure_agent(idle_s=IDLE_S) as agent:
        store = await open_store((await agent.ask("store"))["url"])
        pid = (await agent.ask("ping"))["pid"]
    await store.runs()

    with pytest.raises(AssertionError, match="not within"):
        eventually(lambda: not is_running(pid), limit_s=4 * IDLE_S)

    await store.close()
    eventually(lambda: not is_running(pid), 20)


async def test_a_server_that_was_killed_is_started_anew(agent: AgentClient, home: Path) -> None:
    first = (await agent.ask("store"))["url"]
    status = await agent.ask("status")

    end([status["server"]])

    eventually(lambda: running_server(home) is None)
    assert (await agent.ask("store"))["url"] != first


@pytest.mark.parametrize(
    "line", ['{"op": "nonsense"}', "[]", "{}", '{"op": "launch"}', '{"op": "stop"}', "x"]
)
async def test_nonsense_is_answered_and_does_no_harm(agent: AgentClient, line: str) -> None:
    agent._writer.write(line.encode() + b"\n")

    assert b"not a request" in await agent._reader.readline()
    assert await agent.ask("ping")


async def test_a_run_name_that_is_a_path_is_refused(agent: AgentClient) -> None:
    with pytest.raises(LaunchError, match="cannot name a run"):
        await agent.ask("stop", run="../../etc/passwd")


async def test_an_interpreter_that_is_not_there_is_refused(agent: AgentClient, home: Path) -> None:
    invocation = Invocation(run="r", store="redis://h", key=bytes(32)).to_json()

    with pytest.raises(LaunchError, match="cannot be started"):
        await agent.ask("launch", invocation=invocation, python="/no/such/python")

    assert (await agent.ask("status"))["runs"] == {}


# ---- runs ----


async def _waiting_run(run: str = "r1") -> Invocation:
    """A run whose workers wait for ever: its only task is not among the sources."""
    record = Record(queue=0, priority=0, is_sink=True, retries=0, upstream=(), edges=())
    submission = Submission(
        run=run, records=(record.pack(),), queues=(Queue("~", 2),), sinks=(0,), sources=(), n_bits=0
    )
    url = await store_url()
    store = await open_store(url)
    await store.submit(submission)
    await store.close()
    return Invocation(run=run, store=url, key=bytes(32), n_workers=2)


async def _supervisor_of(run: str) -> int:
    """Its pid, once its workers live too."""
    pid = eventually(lambda: _supervisor_now(run, runtime_directory()), 20)
    assert (await ask_agent("status"))["runs"] == {run: pid}
    return pid


async def test_launching_twice_starts_one_supervisor(home: Path) -> None:
    invocation = await _waiting_run()
    async with await ensure_agent() as agent:
        asked: dict[str, Any] = {"invocation": invocation.to_json(), "python": sys.executable}

        assert await agent.ask("launch", **asked) == {"started": True}
        assert await agent.ask("launch", **asked) == {"started": False}

    assert await _supervisor_of("r1")
    await Processes().stop("r1")


async def test_stop_ends_supervisor_and_workers_now(home: Path) -> None:
    launcher = Processes(n=2)
    await launcher.launch(await _waiting_run())
    pid = await _supervisor_of("r1")

    await launcher.stop("r1")

    assert not is_running(pid)
    assert not is_locked(home / "run-r1.lock")
    assert not run_records(home)
    await launcher.stop("r1")  # nothing happens


async def test_a_killed_supervisor_is_succeeded(home: Path) -> None:
    await Processes().launch(await _waiting_run())
    first = await _supervisor_of("r1")

    end([first])
    eventually(lambda: not is_running(first))

    assert await _supervisor_of("r1") != first
    await Processes().stop("r1")


async def test_a_killed_agent_leaves_runs_alone_and_the_next_one_knows_them(home: Path) -> None:
    await Processes().launch(await _waiting_run())
    pid = await _supervisor_of("r1")

    end([(await ask_agent("ping"))["pid"]])

    assert await _supervisor_of("r1") == pid
    end([pid])  # and looks after them
    eventually(lambda: not is_running(pid))
    assert await _supervisor_of("r1") != pid
    await Processes().stop("r1")


async def test_it_does_not_leave_while_a_run_goes_on(home: Path) -> None:
    await Processes().launch(await _waiting_run())
    await _supervisor_of("r1")

    assert await ask_agent("leave") == {"left": False}

    await Processes().stop("r1")
    assert await ask_agent("leave") == {"left": True}


async def test_a_cancelled_run_leaves_nothing(home: Path) -> None:
    invocation = await _waiting_run()
    await Processes().launch(invocation)
    pid = await _supervisor_of("r1")

    store = await open_store(invocation.store)
    await store.cancel("r1", "a test")
    await store.close()

    eventually(lambda: not is_running(pid))
    eventually(lambda: not run_records(home))


async def test_a_terminated_agent_takes_everything_along(home: Path) -> None:
    await Processes().launch(await _waiting_run())
    await _supervisor_of("r1")

    os.kill((await ask_agent("ping"))["pid"], signal.SIGTERM)

    eventually(lambda: not processes_of(home), 20)


def test_processes_is_a_launcher_with_as_many_workers_as_usable_cpus() -> None:
    assert Processes().cap == usable_cpus() >= 1
    assert Processes(n=3).cap == 3
    assert Processes.name == "process"


def test_a_launcher_without_workers_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"Processes\(n=0\)"):
        Processes(n=0)
