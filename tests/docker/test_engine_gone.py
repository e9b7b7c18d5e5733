"""The engine goes away in mid-run and comes back. It is an engine of this test's own: the machine's
is shared.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dagnb_workers.launchers.docker import engine
from dagnb_workers.launchers.docker.image.images import BASE_VARIABLE

import dagnb
from dagnb.graph.task import Task
from tests.docker.chores import after, squared
from tests.docker.made_containers import LIMIT_S, SOON_S, Containers, a_yard
from tests.services.processes import await_that

pytestmark = [pytest.mark.docker, pytest.mark.redis, pytest.mark.timeout(300)]


class Engine:
    """A dockerd, and a containerd which outlives it, with everything they have in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.url = folder, f"unix://{folder}/d.sock"
        self._process: subprocess.Popen[bytes] | None = None
        command = [
            "containerd",
            "--address",
            f"{folder}/c.sock",
            "--root",
            f"{folder}/c",
            "--state",
            f"{folder}/cs",
        ]
        with (folder / "containerd.log").open("ab") as log:
            self._containerd = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True
            )

    def start(self) -> None:
        """Returns when it answers. Skips where the user may not run one."""
        # In a network of its own: a dockerd without a bridge removes docker0, whosever it is.
        command = [
            "unshare",
            "--net",
            "--",
            "dockerd",
            "--bridge=none",
            "--iptables=false",
            "--ip-masq=false",
            "-H",
            self.url,
        ]
        command += ["--data-root", f"{self.folder}/data", "--exec-root", f"{self.folder}/x"]
        command += ["--pidfile", f"{self.folder}/d.pid", "--containerd", f"{self.folder}/c.sock"]
        (self.folder / "d.pid").unlink(missing_ok=True)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True
            )
        until = time.monotonic() + 30
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > until:
                said = (self.folder / "log").read_text(errors="replace").strip().splitlines()[-1:]
                pytest.skip(f"no second dockerd can be started here: {said}")
            time.sleep(0.05)

    def answers(self) -> bool:
        """Whether it does."""
        told = self.docker("version", check=False)
        return told.returncode == 0

    def docker(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        """The engine's own command line."""
        return subprocess.run(
            ["docker", "-H", self.url, *command], capture_output=True, check=check, timeout=120
        )

    def load(self, *tags: str) -> None:
        """Images of the machine's engine."""
        with subprocess.Popen(["docker", "save", *tags], stdout=subprocess.PIPE) as saved:
            subprocess.run(
                ["docker", "-H", self.url, "load"],
                stdin=saved.stdout,
                check=True,
                capture_output=True,
            )

    def kill(self) -> None:
        """As a crash does: containers are left to themselves."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        """With all that they started, and all that they mounted."""
        for process in (self._process, self._containerd):
            if process is not None:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(20)
                process.kill()
                process.wait()
        for shim in self._shims():
            with contextlib.suppress(ProcessLookupError):
                os.kill(shim, signal.SIGKILL)
        mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for place in sorted(
            (place for place in mounted if place.startswith(f"{self.folder}/")), reverse=True
        ):
            subprocess.run(["umount", "--lazy", place], check=False)

    def _shims(self) -> Iterator[int]:
        """The parents of containers: they carry the address of their containerd in their command
        lines.
        """
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if f"{self.folder}/c.sock".encode() in path.read_bytes():
                    yield int(path.parent.name)


@pytest.fixture
def own(worker_image: str, offline_base: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """An engine that knows the images of workers."""
    if (
        os.getuid() != 0
        or not shutil.which("dockerd")
        or not shutil.which("containerd")
        or os.environ.get("DOCKER_HOST")
    ):
        pytest.skip("a second dockerd needs root and the programs")
    folder = Path(tempfile.mkdtemp(prefix="dckr"))
    made = Engine(folder)
    try:
        made.start()
        made.load(worker_image, offline_base)
        monkeypatch.setenv("DOCKER_HOST", made.url)
        monkeypatch.setenv(BASE_VARIABLE, offline_base)
        assert engine.connect().ping()
        yield made
    finally:
        made.end()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def yard(own: Engine) -> Iterator[Containers]:
    with a_yard() as made:
        yield made


@pytest.mark.parametrize("when", ["while it is away", "when it is back"])
def test_an_engine_that_crashes_in_mid_run_and_comes_back_costs_an_attempt_at_most(
    yard: Containers, own: Engine, summary: list[str], when: str
) -> None:
    """The task ends while the engine is away; or it would end later, but a returning engine ends
    what it finds.
    """
    gate = yard.gate()
    run = dagnb.run(Task(after)(yard.waits(gate)), workers=yard.docker(cap=1))
    gate.until_there()

    own.kill()
    killed = time.monotonic()
    if when == "while it is away":
        gate.open()
        await_that(
            lambda: run.status.get("done", 0) >= 1, "the container finished its task", SOON_S
        )
    own.start()
    back = time.monotonic()
    gate.open()

    assert run.result(LIMIT_S) == "through and on"
    ended = time.monotonic()
    assert len(run.errors) <= (0 if when == "while it is away" else 1)
    assert dagnb.run(Task(squared)(3), workers=yard.docker(cap=1)).result(LIMIT_S) == 9
    summary.append(
        f"engine killed, the task ends {when}: engine back after {back - killed:.2f} s, the run "
        f"ended {ended - back:.2f} s later, {len(run.errors)} lost; the next run {time.monotonic() - ended:.2f} s"
    )
    yard.forgotten(run)
    gate.close()


def test_a_run_that_starts_while_there_is_no_engine_is_refused_and_says_so(
    yard: Containers, own: Engine
) -> None:
    own.kill()

    with pytest.raises(
        dagnb.errors.LaunchError,
        match=r"the Docker engine at unix://.*/d\.sock is not running\. Start it",
    ):
        dagnb.run(Task(squared)(3), workers=yard.docker(cap=1))

    own.start()
    await_that(own.answers, "the engine is back")
    assert dagnb.run(Task(squared)(3), workers=yard.docker(cap=1)).result(LIMIT_S) == 9
