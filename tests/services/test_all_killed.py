"""Everything that works for a run is killed at once: agent, fork servers, supervisor, workers. Its
client notices.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from dagnb_workers.agent.client import ask_agent, ask_running
from dagnb_workers.launchers.process import Processes

import dagnb
from dagnb import session
from dagnb.errors import RunCancelledError, StorageLostError
from dagnb.handle import Run
from dagnb.storage.embedded import is_embedded, start_server, stop_server
from dagnb.storage.home import runtime_directory
from dagnb.storage.redis import RedisStore
from dagnb.testing.launcher_laws import Gate, waiting
from tests.services.processes import await_that, descendants, is_alive

pytestmark = pytest.mark.redis

LIMIT_S = 60.0


def started(gate: Gate) -> Run[str]:
    """A run of one task, which has begun and waits at the gate."""
    run = dagnb.run(waiting(str(gate.came), str(gate.go)), workers=Processes(n=2))
    gate.until_there()
    return run


def kill_all() -> None:
    """Kill the agent and everything below it. They are stopped first, so that none sees another
    one's end.
    """
    agent = int(session.wait(ask_running("ping"))["pid"])
    victims = [agent, *descendants(agent)]
    assert len(victims) >= 5, "agent, its fork server, supervisor, its fork server, a worker"
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in victims:
            os.kill(pid, number)
    await_that(lambda: not any(map(is_alive, victims)), "all are dead")


def by_result(run: Run[str]) -> None:
    assert run.result(LIMIT_S) == "through"


def by_await(run: Run[str]) -> None:
    async def waits() -> str:
        async with asyncio.timeout(LIMIT_S):
            return await run

    assert asyncio.run(waits()) == "through"


def by_looks(run: Run[str]) -> None:
    await_that(lambda: run.done, "the run is over", LIMIT_S)


def by_snapshots(run: Run[str]) -> None:
    """As the live view and `dagnb attach` do."""
    now = run.snapshot()

    def is_over() -> bool:
        nonlocal now
        now = run.snapshot(now)
        return now.is_over

    await_that(is_over, "the run is over", LIMIT_S)


def by_another_handle(run: Run[str]) -> None:
    assert dagnb.attach(run.id).result(LIMIT_S) == "through"


@pytest.mark.parametrize("waits", [by_result, by_await, by_looks, by_snapshots, by_another_handle])
def test_a_run_whose_hosts_were_all_killed_is_finished_because_somebody_waits(
    agent: int, gate: Gate, waits: Callable[[Run[str]], None]
) -> None:
    run = started(gate)
    kill_all()
    gate.open()

    waits(run)

    assert run.result(LIMIT_S) == "through"
    assert [error.type for error in run.errors] == ["LeaseLost"] or run.errors == []


def test_waiting_for_a_run_starts_no_agent_once_the_run_is_over(agent: int, gate: Gate) -> None:
    run = started(gate)
    gate.open()
    assert run.result(LIMIT_S) == "through"
    await_that(lambda: not session.wait(ask_agent("status"))["runs"], "its supervisor has left")
    os.kill(agent, signal.SIGTERM)
    await_that(lambda: not is_alive(agent), "the agent left")

    assert run.result(LIMIT_S) == "through"
    session.wait(Processes().ensure_hosted(run.id))

    assert session.wait(ask_running("ping")) == {}


def test_an_agent_that_is_told_to_leave_ends_its_runs_in_the_store_too(
    agent: int, gate: Gate
) -> None:
    run = started(gate)

    session.wait(ask_agent("leave", force=True))

    with pytest.raises(RunCancelledError, match="the agent that hosted it was stopped"):
        run.result(LIMIT_S)


# ---- the embedded server is killed, too ----


def test_what_an_embedded_server_held_is_told_to_be_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGNB_HOME", str(tmp_path))
    first = start_server(runtime_directory())
    assert is_embedded(first.url)
    with asyncio.Runner() as runner:
        store = runner.run(RedisStore.open(first.url, patience_s=0.1))
        os.kill(first.pid, signal.SIGKILL)
        assert first.child is not None
        first.child.wait()

        with pytest.raises(StorageLostError, match="Start them again"):
            runner.run(store.runs())

        second = start_server(runtime_directory())  # with another password, and without the runs
        try:
            with pytest.raises(StorageLostError, match="Start them again"):
                runner.run(store.runs())
        finally:
            runner.run(store.close())
            stop_server(second)
