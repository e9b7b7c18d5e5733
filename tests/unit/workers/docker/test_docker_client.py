"""Undocumented behaviour of the Docker SDK that dagnb relies on, seen from the engine's side."""

from __future__ import annotations

import asyncio
import io
import json
import struct
import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from dagnb_workers.launchers.docker import engine as engines
from dagnb_workers.launchers.docker.container import Wire
from dagnb_workers.launchers.docker.spec import Mount, Spec, create_arguments

from dagnb.errors import LaunchError
from tests.unit.workers.docker.stand_in import Engine, Handler, engine_at

LIMIT_S = 20.0


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """An engine that knows its version and nothing else; the environment names it."""
    with engine_at(tmp_path / "docker.sock") as engine:
        for name in engines.VARIABLES:
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("DOCKER_HOST", engine.url)
        yield engine
        engines.connect().close()
        engines._client.cache_clear()


def frame(stream: int, data: bytes) -> bytes:
    return struct.pack(">BxxxL", stream, len(data)) + data


async def test_what_is_sent_to_a_container_arrives_there_and_what_it_says_comes_back(
    engine: Engine,
) -> None:
    messages: list[dict[str, Any]] = []
    is_gone = asyncio.Event()
    arrived: list[bytes] = []

    def attach(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
        arrived.append(handler.rfile.readline())
        handler.wfile.write(
            frame(2, b"a warning") + frame(1, b'{"child') + frame(1, b'ren": ["run"]}\n')
        )
        handler.hang_up()

    def on_message(message: dict[str, Any]) -> None:
        messages.append(message)
        if "gone" in message:
            is_gone.set()

    engine.answers["POST", "/containers/c1/attach"] = attach
    wire = Wire(asyncio.get_running_loop(), on_message)
    await asyncio.to_thread(wire.attach, "c1")
    wire.send({"who": True})
    await asyncio.wait_for(is_gone.wait(), LIMIT_S)

    assert arrived == [b'{"who": true}\n']
    assert messages == [{"children": ["run"]}, {"gone": True}]
    assert wire.stderr == "a warning"


def test_a_container_is_made_with_all_that_shuts_it_in(engine: Engine) -> None:
    engine.answers["POST", "/containers/create"] = lambda handler: handler.say(
        {"Id": "c1", "Warnings": []}, 201
    )
    engine.answers["GET", "/containers/c1/json"] = lambda handler: handler.say({"Id": "c1"})
    spec = Spec(
        image="worker",
        cpus=0.5,
        memory_mb=64,
        mounts=(Mount(source="/data", target="/in"),),
        environment=(("A", "b"),),
    )

    made = engines.connect().containers.create(
        **create_arguments(spec, "name", {"dagnb.run": "RUN"})
    )

    (asked,) = [json.loads(one.body) for one in engine.requests if one.path == "/containers/create"]
    host = asked["HostConfig"]
    assert made.id == "c1"
    assert (asked["Image"], asked["User"], asked["Labels"]) == (
        "worker",
        "65534:65534",
        {"dagnb.run": "RUN"},
    )
    assert sorted(asked["Env"]) == ["A=b", "HOME=/tmp", "PYTHONHASHSEED=0"]
    assert asked["OpenStdin"] is True
    assert asked.get("StdinOnce", False) is False
    assert host["LogConfig"] == {"Type": "none", "Config": {}}
    assert host["Ulimits"] == [{"Name": "core", "Soft": 0, "Hard": 0}]
    assert host["Mounts"] == [
        {"Type": "bind", "Source": "/data", "Target": "/in", "ReadOnly": True}
    ]
    assert host["Tmpfs"] == {"/tmp": "size=256m,mode=1777"}
    assert (host["NanoCpus"], host["Memory"], host["MemorySwap"]) == (
        500_000_000,
        64 << 20,
        64 << 20,
    )
    assert (host["CapDrop"], host["SecurityOpt"]) == (["ALL"], ["no-new-privileges"])
    assert (host["NetworkMode"], host["IpcMode"], host["PidsLimit"]) == ("none", "private", 256)
    assert host["ReadonlyRootfs"] is host["AutoRemove"] is True


def test_a_build_that_is_closed_hangs_up_so_that_the_engine_ends_it(engine: Engine) -> None:
    has_hung_up = threading.Event()

    def build(handler: Handler) -> None:
        event = b'{"stream": "Step 1/9"}\r\n'
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
        if handler.rfile.read(1) == b"":
            has_hung_up.set()
        handler.hang_up()

    engine.answers["POST", "/build"] = build
    events = engines.connect().api.build(
        fileobj=io.BytesIO(b"tar"), custom_context=True, decode=True
    )

    assert next(events) == {"stream": "Step 1/9"}
    assert isinstance(events, Generator)
    events.close()
    assert has_hung_up.wait(LIMIT_S)


def test_an_engine_that_says_nothing_more_is_our_error(engine: Engine) -> None:
    engine.answers["GET", "/containers/json"] = Handler.hang_up

    with pytest.raises(LaunchError, match="no Docker engine answers"), engines.answering():
        engines.connect().api.containers()


def test_an_image_is_absent_or_no_name_at_all_as_the_engine_says(engine: Engine) -> None:
    engine.answers["GET", "/images/absent/json"] = lambda handler: handler.say(
        {"message": "No such image"}, 404
    )
    engine.answers["GET", "/images/UPPER/json"] = lambda handler: handler.say(
        {"message": "bad reference"}, 400
    )

    assert engines.inspected(engines.connect(), "absent") is None
    with pytest.raises(LaunchError, match="'UPPER' names no image: bad reference"):
        engines.inspected(engines.connect(), "UPPER")


def test_what_the_environment_says_of_proxies_and_passwords_is_not_for_an_engine_on_a_socket(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("default login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    engine.answers["GET", "/containers/json"] = lambda handler: handler.say([])
    client = engines.connect()

    client.api.containers()

    assert [
        one.headers.get("Authorization")
        for one in engine.requests
        if one.path == "/containers/json"
    ] == [None]
