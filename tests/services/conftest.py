"""What tests with real processes may ask for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from dagnb_workers.agent.client import ask_agent

from dagnb import session
from dagnb.errors import ConfigError
from dagnb.storage.embedded import find_server
from dagnb.testing.launcher_laws import Gate
from tests.conftest import missing_service
from tests.services.processes import await_that, descendants, is_alive


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis_url: str) -> Iterator[int]:
    """Pid of an agent of this test's own, which leaves at the end, and everything below it with it."""
    monkeypatch.setenv("DAGNB_HOME", str(tmp_path))
    monkeypatch.setenv(session.STORE_VARIABLE, redis_url)
    pid = int(session.wait(ask_agent("status"))["pid"])
    yield pid
    below = descendants(pid)
    session.wait(ask_agent("leave", force=True))
    await_that(
        lambda: not any(is_alive(p) for p in (pid, *below)), "the agent and all it started left"
    )
    session.wait_for_pending(
        60.0
    )  # a run that was just over must not be kept in the history of the next test


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """A gate at which tasks wait, see `waiting`."""
    folder = tmp_path / "gate"
    folder.mkdir()
    made = Gate(folder)
    yield made
    made.close()


@pytest.fixture
def embedded_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home of this test's own with the embedded server, whose agent leaves at the end and takes
    the server along.
    """
    try:
        find_server()
    except ConfigError as error:
        missing_service(str(error))
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("DAGNB_HOME", str(home))
    monkeypatch.delenv(session.STORE_VARIABLE, raising=False)
    yield home
    session.wait(ask_agent("leave", force=True))
    session.wait_for_pending(60.0)  # as above
