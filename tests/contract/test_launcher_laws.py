"""The laws of launchers, on each of them."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from dagnb_workers.launchers.docker.image.images import BASE_VARIABLE
from dagnb_workers.launchers.docker.launcher import Docker
from dagnb_workers.launchers.inline import Inline

from dagnb import registry, session
from dagnb.protocol.launcher import Launcher
from dagnb.testing import LauncherLaws
from tests.conformance.agent import private_agent
from tests.docker.conftest import docker_engine, offline_base  # noqa: F401  # fixtures


class TestInline(LauncherLaws):
    """Threads and coroutines of this process."""

    def launcher(self, n: int) -> Launcher:
        return Inline(n=n)

    def leftovers(self, run: str) -> list[str]:
        async def coroutines() -> list[str]:
            return [task.get_name() for task in asyncio.all_tasks() if run in task.get_name()]

        threads = [thread.name for thread in threading.enumerate() if run in thread.name]
        return sorted(threads + session.wait(coroutines()))


@pytest.fixture(scope="module")
def agent() -> Iterator[None]:
    """The agent that starts processes."""
    with private_agent():
        yield


@pytest.mark.redis
@pytest.mark.usefixtures("agent")
class TestProcesses(LauncherLaws):
    """Processes below an agent of its own."""

    def launcher(self, n: int) -> Launcher:
        made: Launcher = registry.find("launcher", "process")(n=n)
        return made

    def leftovers(self, run: str) -> list[str]:
        """Processes below this run's supervisor, and the supervisor."""
        from dagnb_workers.agent.client import ask_agent

        pid = session.wait(ask_agent("status"))["runs"].get(run)
        return sorted(family(str(pid))) if pid else []


@pytest.fixture(scope="module")
def base(offline_base: str) -> Iterator[None]:  # noqa: F811  # a fixture
    """What images are built on, and the folder that containers see."""
    folder = tempfile.mkdtemp(prefix="dagnb-gates-", dir="/var/tmp")  # /tmp is the container's own
    Path(folder).chmod(0o777)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(BASE_VARIABLE, offline_base)
        patch.setattr(TestDocker, "folder", folder)
        yield
    shutil.rmtree(folder)


@pytest.mark.redis
@pytest.mark.docker
@pytest.mark.usefixtures("agent", "base")
class TestDocker(LauncherLaws):
    """Containers; those of one test are warm for the next."""

    folder = ""

    def gates(self) -> str:
        return self.folder

    def launcher(self, n: int) -> Launcher:
        return Docker(cap=n, memory_mb=160, mounts=f"{self.folder}:{self.folder}:rw")

    def leftovers(self, run: str) -> list[str]:
        """Containers that work for this run, or are meant to."""
        return sorted(
            seat.name for seat in session.wait(self.launcher(1).seats()) if seat.run == run
        )


def family(pid: str) -> set[str]:
    """The process and all below it that live."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, state, parent = stat.parent.name, *stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:  # it ended meanwhile
            continue
        if state != "Z":
            parents[name] = parent
    found = {pid} & set(parents)
    while more := {name for name, parent in parents.items() if parent in found} - found:
        found |= more
    return found
