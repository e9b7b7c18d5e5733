"""From inside a task: what a container can reach, and how much of everything it may have."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dagnb_workers.launchers.docker.image.images import BASE_VARIABLE

import dagnb
from dagnb.graph.resources import Resources
from dagnb.graph.task import Task
from tests.docker.made_containers import LIMIT_S, MEMORY_MB, Containers, a_yard, failed_with

pytestmark = [pytest.mark.docker, pytest.mark.redis]


@pytest.fixture(scope="module")
def yard(offline_base: str) -> Iterator[Containers]:
    """One for all tests here: the container of one is warm for the next."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(BASE_VARIABLE, offline_base)
        with a_yard() as made:
            yield made


def seen(yard: Containers, look: Callable[..., Any], *arguments: Any, **settings: Any) -> Any:
    """What the function sees from inside."""
    return dagnb.run(Task(look)(*arguments), workers=yard.docker(**settings)).result(LIMIT_S)


def test_no_network_is_in_reach(yard: Containers) -> None:
    def look() -> tuple[list[str], list[str]]:
        import socket

        said = []
        for host in ("8.8.8.8", "172.17.0.1", "10.0.0.1"):
            try:
                socket.create_connection((host, 53), timeout=3).close()
            except OSError as error:
                said.append(str(error))
        return said, [name for _, name in socket.if_nameindex()]

    said, interfaces = seen(yard, look)

    assert said == ["[Errno 101] Network is unreachable"] * 3
    assert not [name for name in interfaces if name.startswith(("eth", "en", "docker"))]


def test_the_root_cannot_be_written_to_and_tmp_can(yard: Containers) -> None:
    def look() -> tuple[list[str | None], str, str, str]:
        import os
        from pathlib import Path

        said = []
        for place in ("/x", "/opt/dagnb/lib/x", "/run/dagnb/x", "/etc/x"):
            try:
                Path(place).write_text("x")
            except OSError as error:
                said.append(error.strerror)
        Path("/tmp/x").write_text("fits")
        Path("here").write_text("fits")
        return said, Path("/tmp/x").read_text(), os.getcwd(), os.environ["HOME"]

    said, text, cwd, home = seen(yard, look)

    assert said == ["Read-only file system"] * 4
    assert (text, cwd, home) == ("fits", "/tmp", "/tmp")


def test_a_task_is_nobody_without_rights_and_cannot_get_any(yard: Containers) -> None:
    def look() -> dict[str, Any]:
        import os
        from pathlib import Path

        status = dict(
            line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines()
        )
        names = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")
        try:
            os.setuid(0)
            became = "root"
        except OSError as error:
            became = str(error.strerror)
        return {
            "uids": (os.getuid(), os.geteuid()),
            "became": became,
            **{name: status[name] for name in names},
        }

    told = seen(yard, look)

    uid = os.getuid() or 65534
    assert told == {
        "uids": (uid, uid), "became": "Operation not permitted", "NoNewPrivs": "1", "Seccomp": "2",
        **dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), "0" * 16),
    }  # fmt: skip


def test_the_limits_are_the_ones_asked_for(yard: Containers) -> None:
    def look() -> dict[str, Any]:
        import resource
        from pathlib import Path

        def first(*files: str) -> str:
            return next(Path(file).read_text().strip() for file in files if Path(file).exists())

        return {
            "pids": first("/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/pids/pids.max"),
            "memory": first(
                "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"
            ),
            "swap": first(
                "/sys/fs/cgroup/memory.swap.max",
                "/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes",
            ),
            "cpu": first("/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us"),
            "core": resource.getrlimit(resource.RLIMIT_CORE),
        }

    node = Task(look).with_options(resources=Resources(cpus=0.5, memory_mb=128))()

    told = dagnb.run(node, workers=yard.docker(pids=77)).result(LIMIT_S)

    assert (told["pids"], told["memory"], told["core"]) == ("77", str(128 << 20), (0, 0))
    assert told["swap"] in {"0", str(128 << 20)}  # cgroup v2 counts it apart, v1 with the memory
    assert told["cpu"].split()[0] == "50000"


def test_neither_the_engines_socket_nor_our_keys_nor_other_processes_are_inside(
    yard: Containers,
) -> None:
    def look(home: str) -> dict[str, Any]:
        import os
        from pathlib import Path

        lines = [
            Path(f"/proc/{pid}/cmdline").read_bytes()
            for pid in os.listdir("/proc")
            if pid.isdigit()
        ]
        environment = Path("/proc/self/environ").read_bytes()
        try:
            first = str(Path("/proc/1/environ").read_bytes())
        except OSError as error:
            first = str(error.strerror)
        return {
            "sockets": [str(path) for path in Path("/run").rglob("*") if path.is_socket()],
            "docker": [
                path
                for path in ("/var/run/docker.sock", "/run/docker.sock")
                if os.path.exists(path)
            ],
            "home": os.path.exists(home),
            "first": first,
            "python": all(b"dagnb_workers.container" in line for line in lines),
            "secrets": [
                word for word in (b"redis://", b"unix://", b"dagnb.key") if word in environment
            ],
        }

    told = seen(yard, look, str(yard.directory))

    # The broker's name is a hash, see HostKey.mark.
    sockets = told.pop("sockets")
    assert sorted(re.sub("/[0-9a-f]{8}$", "/broker", name) for name in sockets) == [
        "/run/dagnb/broker",
        "/run/dagnb/redis.sock",
    ]
    assert told == {
        "docker": [], "home": False,
        "first": "Permission denied", "python": True, "secrets": [],
    }  # fmt: skip


def test_the_store_lets_a_task_do_what_workers_need_and_nothing_to_the_server(
    yard: Containers,
) -> None:
    """A task is told the credentials of its worker by nobody; here it is."""
    from dagnb_workers.agent.client import store_url
    from dagnb_workers.launchers.docker.settings import store_access

    from dagnb import session

    def look(url: str) -> dict[str, str]:
        import redis

        client: Any = redis.Redis.from_url(url)
        said = {}
        for command in (
            "CONFIG GET requirepass", "FLUSHALL", "FLUSHDB", "SHUTDOWN NOSAVE", "REPLICAOF localhost 1",
            "MIGRATE localhost 1 k 0 1", "ACL LIST", "SAVE", "FUNCTION DELETE dagnb", "EVAL return(1) 0",
            "MODULE LIST", "MONITOR", "CLIENT KILL TYPE normal", "SWAPDB 0 1", "KEYS *",
        ):  # fmt: skip
            try:
                client.execute_command(*command.split())
                said[command] = "done"
            except redis.exceptions.NoPermissionError:
                said[command] = "refused"
        return {**said, "PING": str(client.ping())}

    told = seen(yard, look, store_access(session.wait(store_url())).url)

    assert told.pop("PING") == "True"
    assert told == dict.fromkeys(told, "refused")
    assert len(told) == 15


def test_a_folder_is_read_only_unless_it_was_granted_for_writing(
    yard: Containers, tmp_path: Path
) -> None:
    for name in ("in", "out"):
        (tmp_path / name).mkdir(mode=0o777)
        (tmp_path / name).chmod(0o777)
    (tmp_path / "in" / "data").write_text("mine")

    def look() -> tuple[str, str, int]:
        from pathlib import Path

        try:
            Path("/in/data").write_text("overwritten")
            said = "written"
        except OSError as error:
            said = str(error.strerror)
        return Path("/in/data").read_text(), said, Path("/out/result").write_text("done")

    told = seen(yard, look, mounts=[f"{tmp_path}/in:/in", f"{tmp_path}/out:/out:rw"])

    assert told == ("mine", "Read-only file system", 4)
    assert (tmp_path / "in" / "data").read_text() == "mine"
    assert (tmp_path / "out" / "result").read_text() == "done"


def test_a_network_is_there_for_the_task_that_was_granted_one_and_for_no_other(
    yard: Containers,
) -> None:
    def look() -> list[str]:
        import socket

        return [name for _, name in socket.if_nameindex() if name.startswith("eth")]

    granted, other = Task(look).with_options(network=True)(), Task(look)()

    assert dagnb.run(granted, other, workers=yard.docker()).result(LIMIT_S) == (["eth0"], [])


def test_a_task_that_fills_its_disk_is_told_so(yard: Containers) -> None:
    def fills() -> None:
        with open("/tmp/big", "wb") as file:
            file.writelines(bytes(1 << 20) for _ in range(16))

    said = failed_with(dagnb.run(Task(fills)(), workers=yard.docker(tmp_mb=8)))

    assert said == "OSError: [Errno 28] No space left on device"


def test_variables_are_set_as_told(yard: Containers) -> None:
    def look() -> str | None:
        import os

        return os.environ.get("MINE")

    assert seen(yard, look, environment={"MINE": "yes"}) == "yes"
    assert seen(yard, look) is None


def test_workers_have_the_memory_that_was_asked_for_by_default(yard: Containers) -> None:
    def look() -> int | None:
        from dagnb_workers.hosting.supervisor import container_limit

        return container_limit()

    assert seen(yard, look) == MEMORY_MB << 20
