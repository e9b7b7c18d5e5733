"""What tests with real processes may ask for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import pytest
from dagnb_workers.agent.client import ask_agent

from dagnb import archive, session
from dagnb.errors import ConfigError
from dagnb.graph.pickling.made_module import pack_modules
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


@pytest.fixture
def few_modules(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only modules of tests that the test's own module needs travel with its runs.

    pytest reads test modules by a loader of its own, so they count as made in memory. All that it
    has collected would travel with each run: 15 MB, depending on which tests are run together.
    """
    own = request.module.__name__

    def pack_needed(modules: Mapping[str, ModuleType]) -> bytes:
        needed: dict[str, ModuleType] = {}
        waiting = [own]
        while waiting:
            name = waiting.pop()
            if name not in needed and name in modules:
                needed[name] = modules[name]
                pickled = pack_modules({name: modules[name]})
                waiting.extend(other for other in modules if other.encode() in pickled)
        return pack_modules(needed)

    monkeypatch.setattr(archive, "pack_modules", pack_needed)
