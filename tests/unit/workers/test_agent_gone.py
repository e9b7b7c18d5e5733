"""Pools say whether the agent, which starts workers, has to be started first."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from dagnb_workers.hosting.run_locks import acquire_lock
from dagnb_workers.launchers.process import Processes

from dagnb.planning.planner import Pool
from dagnb.storage.home import runtime_directory, runtime_path


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGNB_HOME", str(tmp_path))


def pool() -> Pool:
    return asyncio.run(Processes(n=2).pool())


def test_without_an_agent_it_is_gone_and_asking_makes_no_folder() -> None:
    assert pool().is_agent_gone
    assert not runtime_path().exists()


def test_an_agent_that_holds_its_lock_is_there() -> None:
    lock = acquire_lock(runtime_directory() / "agent.lock")
    assert lock is not None

    assert not pool().is_agent_gone
    os.close(lock)
    assert pool().is_agent_gone
