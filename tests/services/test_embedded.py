"""The embedded server is the user's alone, and is found again."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from dagnb.errors import ConfigError, StorageUnavailableError
from dagnb.storage import embedded
from dagnb.storage.embedded import (
    ServerProcess,
    bundled_server,
    find_server,
    is_alive,
    n_clients,
    running_server,
    socket_folder,
    start_server,
    stop_server,
)
from dagnb.storage.home import private_directory
from dagnb.storage.redis import RedisStore
from tests.services.stage import eventually, is_running

pytestmark = pytest.mark.redis


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return private_directory(tmp_path / "run")


@pytest.fixture(params=["found", "bundled"])
def server(request: pytest.FixtureRequest, directory: Path) -> Iterator[ServerProcess]:
    program = find_server() if request.param == "found" else bundled_server()
    if program is None:
        pytest.skip("no bundled server for this platform")
    made = start_server(directory, program)
    yield made
    stop_server(made)
    assert not is_running(made.pid)
    assert list(directory.iterdir()) == []


def test_it_listens_on_a_private_socket_and_on_no_port(
    server: ServerProcess, directory: Path
) -> None:
    inodes = {
        os.readlink(f"/proc/{server.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{server.pid}/fd")
    }
    listening = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]

    assert not [line for line in listening if f"socket:[{line[9]}]" in inodes]
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert (
        stat.S_IMODE(socket_folder(directory).stat().st_mode) == 0o755
    )  # a container's user need not be ours
    assert [path.name for path in socket_folder(directory).iterdir()] == ["redis.sock"]
    assert stat.S_IMODE((directory / "store.json").stat().st_mode) == 0o600


def test_nobody_is_served_without_the_password(server: ServerProcess, directory: Path) -> None:
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(socket_folder(directory) / "redis.sock"))
        line.sendall(b"PING\r\n")

        assert line.recv(100).startswith(b"-NOAUTH")


def test_the_password_stands_in_no_command_line_and_no_environment(server: ServerProcess) -> None:
    password = urlsplit(server.url).password
    assert password is not None

    assert len(password) == 64
    for what in ("cmdline", "environ"):
        assert password.encode() not in Path(f"/proc/{server.pid}/{what}").read_bytes()
    assert password not in repr(server)


async def test_its_url_opens_a_store(server: ServerProcess) -> None:
    store = await RedisStore.open(server.url, namespace="dagnb")

    assert await store.runs() == []
    assert n_clients(server) >= 1
    await store.close()
    assert password_free(store.url)


def password_free(url: str) -> bool:
    return urlsplit(url).password is None


def test_whoever_comes_next_finds_it(server: ServerProcess, directory: Path) -> None:
    assert running_server(directory) == server
    assert n_clients(server) == 0


def test_it_survives_an_interrupt_in_the_terminal(server: ServerProcess) -> None:
    assert os.getsid(server.pid) == server.pid != os.getsid(0)


def test_a_killed_server_is_not_found(directory: Path) -> None:
    server = start_server(directory)
    os.kill(server.pid, signal.SIGKILL)
    eventually(lambda: not is_alive(server))

    assert running_server(directory) is None
    again = start_server(directory)
    assert running_server(directory) == again
    stop_server(again)
    stop_server(server)


@pytest.mark.parametrize(
    "note", ["", "{}", "not json", '{"url": "unix://d:p@/nowhere/redis.sock", "pid": 1}']
)
def test_a_note_that_leads_nowhere_is_no_server(directory: Path, note: str) -> None:
    (directory / "store.json").write_text(note)

    assert running_server(directory) is None


def test_another_server_with_another_password_is_not_taken_for_it(directory: Path) -> None:
    server = start_server(directory)
    note = (directory / "store.json").read_text()
    (directory / "store.json").write_text(
        note.replace(urlsplit(server.url).password or "?", "0" * 64)
    )

    assert running_server(directory) is None
    stop_server(server)


def test_a_server_that_cannot_start_tells_what_it_logged(directory: Path) -> None:
    with pytest.raises(StorageUnavailableError, match="did not start: it logged nothing"):
        start_server(directory, Path(shutil.which("false") or ""))


def test_an_old_server_on_the_path_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "redis-server"
    old.write_text("#!/bin/sh\necho 'Redis server v=6.2.14 sha=0'\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert find_server() == bundled_server()


def test_no_server_anywhere_names_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(embedded, "bundled_server", lambda: None)

    with pytest.raises(ConfigError, match="install redis-server or valkey-server"):
        find_server()


def test_the_bundled_server_is_a_program() -> None:
    program = bundled_server()
    if program is None:
        pytest.skip("none for this platform")

    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout

    assert told.startswith("Valkey server v=")
