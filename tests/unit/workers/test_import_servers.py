"""Import servers: which ones there are, which run gets one, and what happens when an import fails."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dagnb_workers.agent import import_servers
from dagnb_workers.agent.host_key import HostKey
from dagnb_workers.agent.import_servers import (
    MAX_SERVERS,
    ImportServers,
    ServerFacts,
    mark_of,
    settings_of,
    surplus,
)
from dagnb_workers.hosting.past_imports import PastImports

from dagnb.errors import LaunchError

KEY = HostKey("process", "/usr/bin/python3", "code")
MIB = 2.0**20


def launch(
    preload: list[str] | None = None, cpus: float = 1.0, **surroundings: Any
) -> dict[str, Any]:
    """A launch request of a client."""
    whole = {"folder": "/nb", "is_whole": True, "environment": {}, "path": ["/lib"], **surroundings}
    invocation = {"run": "r", "cpus": cpus, "surroundings": whole}
    return {"python": KEY.python, "invocation": json.dumps(invocation), "preload": preload}


# ---- pure parts ----


def facts(name: str, used_at: float, memory_mb: float = 1.0, idle_s: float = 60.0) -> ServerFacts:
    return ServerFacts(name=name, used_at=used_at, idle_s=idle_s, memory_bytes=int(memory_mb * MIB))


def test_idle_servers_end() -> None:
    servers = [facts("used", 95.0), facts("idle", 30.0), facts("patient", 30.0, idle_s=600.0)]

    assert surplus(servers, 100.0, 1000 * MIB) == ["idle"]


def test_the_servers_that_were_used_last_are_kept() -> None:
    servers = [facts(f"server {number}", float(number)) for number in range(MAX_SERVERS + 2)]

    assert surplus(servers, 10.0, 1000 * MIB) == ["server 1", "server 0"]


def test_servers_beyond_the_memory_end_but_never_the_newest() -> None:
    servers = [facts("old", 1.0, 30), facts("older", 0.0, 10), facts("newest", 2.0, 80)]

    assert surplus(servers, 3.0, 100 * MIB) == ["old"]
    assert surplus(servers, 3.0, 50 * MIB) == ["old", "older"]


@pytest.mark.parametrize(
    "other",
    [
        launch(environment={"OMP_NUM_THREADS": "2"}),
        launch(environment={"MPLBACKEND": "agg"}),
        launch(folder="/elsewhere"),
        launch(cpus=2.0),
        launch(warnings={"lines": [["error", "", "builtins", "Warning", "", 0]]}),
    ],
)
def test_runs_with_other_settings_get_other_servers(other: dict[str, Any]) -> None:
    assert mark_of(KEY, settings_of(launch()), None) != mark_of(KEY, settings_of(other), None)


def test_variables_of_a_terminal_and_the_path_make_no_other_server() -> None:
    other = launch(environment={"PWD": "/x", "SHLVL": "2"}, path=["/other"])

    assert mark_of(KEY, settings_of(launch()), None) == mark_of(KEY, settings_of(other), None)


def test_named_modules_make_a_server_of_their_own() -> None:
    settings = settings_of(launch())

    assert len({mark_of(KEY, settings, named) for named in (None, ["a"], ["b"])}) == 3


# ---- servers ----


class Server:
    """A connection to a server that answers by a table."""

    pid = 0

    def __init__(self, key: HostKey, answers: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self.key, self._answers, self.is_gone = key, answers, False
        self.loaded: list[str] = []

    async def ask(self, about: dict[str, Any]) -> dict[str, Any]:
        """Returns what the table says; raises what it raises."""
        if "load" in about:
            self.loaded.append(about["load"])
        return {
            "unfit": "",
            "memory_bytes": 1,
            "misfit": "",
            "stale": False,
            **self._answers(about),
        }

    async def leave(self) -> None:
        """End."""
        self.is_gone = True


class Yard:
    """Import servers whose connections answer as a test says."""

    def __init__(
        self, directory: Path, group: asyncio.TaskGroup, answers: Callable[[dict[str, Any]], Any]
    ) -> None:
        self.started: list[Server] = []

        def connect(key: HostKey) -> Any:
            self.started.append(Server(key, answers))
            return self.started[-1]

        self.servers = ImportServers(directory, group, connect)

    async def choose(self, launch: dict[str, Any]) -> HostKey:
        return await self.servers.choose(KEY, launch, waits=True)


@pytest.fixture(autouse=True)
def _everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decisions are the same on systems that cannot import early."""
    monkeypatch.setattr(import_servers, "IS_POSSIBLE", True)


async def test_a_run_is_forked_from_the_server_that_has_imported_what_it_names(
    tmp_path: Path,
) -> None:
    async with asyncio.TaskGroup() as group:
        yard = Yard(tmp_path, group, lambda about: {})

        keys = [await yard.choose(launch(["a", "b"])) for _ in range(2)]

    (server,) = yard.started
    assert keys == [server.key, server.key]
    assert server.loaded == ["a", "b"]
    assert server.key.early


async def test_an_unfit_module_is_left_out_of_the_next_server(tmp_path: Path) -> None:
    async with asyncio.TaskGroup() as group:
        yard = Yard(
            tmp_path, group, lambda about: {"unfit": "no" if about.get("load") == "a" else ""}
        )
        request = launch(["a", "b"])

        key = await yard.choose(request)

    assert [server.loaded for server in yard.started] == [["a"], ["b"]]
    assert key == yard.started[1].key
    assert yard.servers.left_out(KEY, request) == {"a": "no"}


async def test_a_module_is_left_out_when_two_servers_have_died_of_it(tmp_path: Path) -> None:
    def answers(about: dict[str, Any]) -> dict[str, Any]:
        if about.get("load") == "deadly":
            raise LaunchError("the fork server is gone.")
        return {}

    async with asyncio.TaskGroup() as group:
        yard = Yard(tmp_path, group, answers)

        key = await yard.choose(launch(["a", "deadly"]))

    assert [server.loaded for server in yard.started] == [["a", "deadly"], ["a", "deadly"], ["a"]]
    assert key == yard.started[2].key


@pytest.mark.parametrize("request_", [launch(), launch([])], ids=["nothing learnt", "turned off"])
async def test_without_modules_no_server_is_started(
    tmp_path: Path, request_: dict[str, Any]
) -> None:
    async with asyncio.TaskGroup() as group:
        yard = Yard(tmp_path, group, lambda about: {})

        assert await yard.choose(request_) == KEY

    assert yard.started == []


async def test_a_run_that_would_import_another_file_gets_no_early_imports(tmp_path: Path) -> None:
    async with asyncio.TaskGroup() as group:
        yard = Yard(tmp_path, group, lambda about: {"misfit": "a" if "path" in about else ""})

        assert await yard.choose(launch(["a"])) == KEY

    assert len(yard.started) == 1


async def test_a_stale_server_is_replaced(tmp_path: Path) -> None:
    async with asyncio.TaskGroup() as group:
        yard = Yard(tmp_path, group, lambda about: {"stale": len(yard.started) == 1})

        key = await yard.choose(launch(["a"]))

    first, second = yard.started
    assert (first.is_gone, key) == (True, second.key)


async def test_new_modules_of_a_run_make_a_server_that_has_them_too(tmp_path: Path) -> None:
    past = PastImports.of(tmp_path, launch())
    async with asyncio.TaskGroup() as group:
        yard = Yard(tmp_path, group, lambda about: {})
        past.add({"a": 1.0})
        await yard.choose(launch())
        past.add({"b": 2.0})

        key = await yard.choose(launch())

    first, second = yard.started
    assert (first.is_gone, second.loaded, key) == (True, ["a", "b"], second.key)


async def test_a_run_does_not_wait_for_imports_that_the_latest_run_did_without(
    tmp_path: Path,
) -> None:
    PastImports.of(tmp_path, launch()).add({"slow": 9.0})
    another = {**json.loads(launch()["invocation"]), "run": "another"}
    PastImports.of(tmp_path, {**launch(), "invocation": json.dumps(another)}).begin()
    async with asyncio.TaskGroup() as group:
        yard = Yard(tmp_path, group, lambda about: {})

        assert await yard.choose(launch()) == KEY  # the server is loading

    assert yard.started[0].loaded == ["slow"]


async def test_a_server_that_died_is_started_again_by_the_next_run(tmp_path: Path) -> None:
    async with asyncio.TaskGroup() as group:
        yard = Yard(tmp_path, group, lambda about: {})
        await yard.choose(launch(["a"]))
        yard.started[0].is_gone = True

        key = await yard.choose(launch(["a"]))

    assert key == yard.started[1].key != yard.started[0].key


async def test_servers_are_not_started_any_more_when_the_agent_leaves(tmp_path: Path) -> None:
    async with asyncio.TaskGroup() as group:
        yard = Yard(tmp_path, group, lambda about: {})
        yard.servers.leave()

        assert await yard.choose(launch(["a"])) == KEY

    assert yard.started == []
