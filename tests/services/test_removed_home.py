"""Somebody removes the runtime directory under a living agent: a test's own folder, or a tidy user."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from dagnb_workers.agent.client import ask_agent

from dagnb import session
from tests.services.processes import await_that, descendants, is_alive

pytestmark = pytest.mark.redis


def test_agent_and_server_end_when_their_directory_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGNB_HOME", str(tmp_path / "h"))
    session.wait(ask_agent("store"))
    status = session.wait(ask_agent("status"))
    pids = [status["pid"], status["server"], *descendants(status["pid"])]
    assert all(is_alive(pid) for pid in pids)

    shutil.rmtree(tmp_path / "h")

    await_that(lambda: not any(is_alive(pid) for pid in pids), "nothing of it is left")
