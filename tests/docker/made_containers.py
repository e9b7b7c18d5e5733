"""Real containers below an agent of a test's own, and what is left of them afterwards: nothing."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests
from dagnb_workers.agent.client import ask_running, store_url
from dagnb_workers.launchers.docker import engine
from dagnb_workers.launchers.docker.launcher import Docker
from dagnb_workers.launchers.docker.spec import HOME, home_mark

import dagnb
from dagnb import session
from dagnb.errors import LaunchError
from dagnb.graph.task import Node
from dagnb.handle import Run
from dagnb.storage.home import runtime_directory
from dagnb.testing.launcher_laws import Gate, waiting
from dagnb.trace.trace import Phase, Span
from tests.conformance.agent import private_agent
from tests.services.processes import await_that, is_alive

LIMIT_S = 60.0
SOON_S = 20.0
MEMORY_MB = 160


class Containers:
    """The containers of one runtime directory, seen from outside: by the engine alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.directory = runtime_directory()
        self.home = home_mark(self.directory)

    def docker(self, **settings: Any) -> Docker:
        """Small containers that see the folder of gates."""
        told = {
            "cap": 2,
            "memory_mb": MEMORY_MB,
            "mounts": f"{self.folder}:{self.folder}:rw",
            **settings,
        }
        return Docker(**told)

    def containers(self) -> list[Any]:
        """All of them, dead ones too; none while the engine is away."""
        client = engine.connect()
        return client.containers.list(
            all=True, filters={"label": f"{HOME}={self.home}"}, ignore_removed=True
        )

    def only(self) -> Any:
        """The container, where there is one."""
        (found,) = self.containers()
        return found

    def gate(self, name: str = "gate") -> Gate:
        """A gate that functions in containers see."""
        folder = self.folder / name
        folder.mkdir()
        return Gate(folder)

    def waits(self, gate: Gate) -> Node[str]:
        """A task that waits at the gate, then tells that it is through."""
        return waiting(str(gate.came), str(gate.go))

    def host(self) -> int:
        """The pid of the agent's process for containers."""
        (found,) = [pid for pid, line in self._processes() if "launchers.docker.host" in line]
        return found

    def agent(self) -> int:
        """The pid of the agent, 0 when there is none."""
        return int(session.wait(ask_running("ping")).get("pid", 0))

    def processes(self) -> list[str]:
        """Command lines of all that belongs to this directory: agent, hosts, nurseries, server."""
        return [line for _, line in self._processes()]

    def _processes(self) -> Iterator[tuple[int, str]]:
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                line = (
                    Path(f"/proc/{pid}/cmdline")
                    .read_bytes()
                    .replace(b"\0", b" ")
                    .decode(errors="replace")
                )
                if str(self.directory) in line and is_alive(int(pid)):
                    yield int(pid), line

    def keys_of(self, run: str) -> list[str]:
        """Keys of the embedded server that carry the run's id."""
        from redis import Redis

        url = session.wait(store_url())
        with contextlib.closing(Redis.from_url(url)) as client:
            return sorted(key.decode() for key in client.scan_iter(match=f"*{run}*", count=1000))

    def forgotten(self, run: Run[Any]) -> None:
        """Forget the run; then the store knows nothing of it, and nobody writes about it any more."""
        await_that(
            lambda: not any(seat.run == run.id for seat in self.seats()),
            "containers have left the run",
            SOON_S,
        )
        run.forget()
        assert self.keys_of(run.id) == []

    def is_empty(self) -> None:
        """Nothing is left, or soon will be."""
        with contextlib.suppress(AssertionError):
            await_that(
                lambda: not self.containers() and not self.processes(), "nothing is left", SOON_S
            )
        left = [container.name for container in self.containers()], self.processes()
        assert left == ([], []), left

    def seats(self) -> tuple[Any, ...]:
        """What the fleet says it holds; nothing while its process is being replaced."""
        with contextlib.suppress(LaunchError):
            return session.wait(self.docker().seats())
        return ()


@contextlib.contextmanager
def a_yard() -> Iterator[Containers]:
    """A directory, an agent and a server of one's own. At the end the agent is told to leave:
    nothing is left then.
    """
    with tempfile.TemporaryDirectory(prefix="dagnb-yard-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o777)
        with private_agent():
            yard = Containers(Path(folder))
            try:
                yield yard
            finally:
                _let_all_through(yard.folder)
        yard.is_empty()


@contextlib.contextmanager
def image_of(tag: str, dockerfile: str, **files: str) -> Iterator[str]:
    """An image made of a few lines."""
    told = {
        "Dockerfile": dockerfile,
        **{name.replace("__", "."): text for name, text in files.items()},
    }
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        for name, text in told.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    client = engine.connect()
    client.images.build(
        fileobj=io.BytesIO(context.getvalue()), custom_context=True, tag=tag, rm=True, forcerm=True
    )
    try:
        yield tag
    finally:
        client.images.remove(tag, force=True)


def _let_all_through(folder: Path) -> None:
    """Who waits at a gate when a test has failed."""
    for pipe in folder.glob("*/go"):
        with contextlib.suppress(OSError):
            fd = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
            os.write(fd, b"!" * 16)
            os.close(fd)


def kill(pid: int) -> None:
    """SIGKILL to a process of the yard, and wait until it is gone."""
    assert pid > 1
    os.kill(pid, signal.SIGKILL)
    await_that(lambda: not is_alive(pid), f"{pid} is dead")


def spans(run: Run[Any], phase: Phase) -> list[Span]:
    """Those of a phase, in order of time."""
    return sorted(
        (span for span in run.trace.spans if span.phase is phase), key=lambda span: span.begin_s
    )


def starts(*runs: Run[Any]) -> dict[str, int]:
    """How many workers started cold, and how many warm."""
    told = [span.detail for run in runs for span in spans(run, Phase.INVOKE)]
    return {kind: told.count(kind) for kind in ("cold", "warm")}


def second_try_s(run: Run[Any], since: float) -> float:
    """Seconds from a moment to the first line of the second attempt."""
    again = [span for span in spans(run, Phase.RUN) if span.attempt == 2]
    return again[0].begin_s - since


class Watch:
    """How many containers of a yard ran at a time, by the engine's events."""

    def __init__(self, yard: Containers) -> None:
        self.most, self.n_started = 0, 0
        self._there: set[str] = set()
        self._seen = threading.Event()
        self._events = engine.connect().api.events(
            decode=True,
            filters={
                "type": "container",
                "label": f"{HOME}={yard.home}",
                "event": ["start", "die"],
            },
        )
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        with contextlib.suppress(requests.RequestException, OSError, ValueError, AttributeError):
            for event in self._events:
                if event["Action"] == "start":
                    self._there.add(event["id"])
                    self.n_started += 1
                else:
                    self._there.discard(event["id"])
                self.most = max(self.most, len(self._there))

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *error: object) -> None:
        self._events.close()
        self._thread.join(5)


def failed_with(run: Run[Any], limit_s: float = LIMIT_S) -> str:
    """The message of the run's only failed task."""
    try:
        run.result(limit_s)
    except dagnb.errors.TaskFailedError as error:
        (told,) = error.errors
        return f"{told.type}: {told.message}"
    raise AssertionError("the run did not fail")
