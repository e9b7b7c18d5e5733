"""The demo on containers: the counts of one process, who took part, and nobody kept."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from dagnb_workers.launchers.docker.image.images import BASE_VARIABLE
from dagnb_workers.launchers.docker.spec import HOME, INSTANCE, RUN, home_mark

from dagnb import client, task
from dagnb.cli import main
from dagnb.demo.identifiers import count_identifiers, library_sources
from dagnb.demo.job import Choice, run_demo
from dagnb.storage.home import runtime_directory
from tests.conformance.agent import private_agent

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]  # an image may have to be built

LIMIT_MB = 0.3
CONTAINER = re.compile(
    r"  (dagnb-\S+)  dagnb\.run=(\w+) dagnb\.worker=\S+ dagnb\.instance=([0-9a-f]{8})"
)


@pytest.fixture
def at_home(
    worker_image: str, offline_base: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """An agent and a folder of this test's own; the image is there."""
    monkeypatch.setenv(BASE_VARIABLE, offline_base)
    with private_agent():
        yield


@pytest.mark.usefixtures("at_home")
def test_the_demo_counts_the_same_tells_its_containers_and_keeps_none(
    docker_engine: docker.DockerClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = io.StringIO()

    assert run_demo(Choice(workers="docker", limit_mb=LIMIT_MB, out=tmp_path), said)

    text = said.getvalue()
    alone = count_identifiers.function(library_sources(LIMIT_MB * 1e6))
    assert f"EQUAL: all {len(alone):,} identifiers, {alone.total():,} occurrences." in text
    (run,) = {line.run for line in client.runs()}
    told = [found.groups() for found in map(CONTAINER.fullmatch, text.splitlines()) if found]
    assert told
    assert {of_run for _, of_run, _ in told} == {run}
    assert all(
        name.startswith(f"dagnb-{run[-6:].lower()}-") and name.endswith(one)
        for name, _, one in told
    )
    assert re.search(r"^Starts: [1-9]\d* cold, \d+ warm\.$", text, re.MULTILINE)
    assert re.search(
        r"^  worker \d+.* cold, \S+ m?s: invoke .*, create .*, boot .*, import .*, register ",
        text,
        re.MULTILINE,
    )
    after = re.search(
        r"^After the run: 0 containers still running, (\d+) idle and ready", text, re.MULTILINE
    )
    assert after
    there = docker_engine.api.containers(
        filters={"label": f"{HOME}={home_mark(runtime_directory())}"}
    )
    assert {container["Labels"][RUN] for container in there} == {run}
    # another than those told may have been started, and come too late to be lent
    assert len(told) <= int(after[1]) <= len(there)
    assert {one for _, _, one in told} <= {container["Labels"][INSTANCE] for container in there}

    assert main(["workers"]) == 0
    listed = capsys.readouterr().out
    assert all(container["Names"][0].removeprefix("/") in listed for container in there)


@pytest.mark.usefixtures("at_home")
def test_the_log_of_a_task_in_a_container_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    def speak() -> None:
        print("said in a container")  # noqa: T201  # what a task prints

    run = task(speak)().run(workers="docker")
    run.result(60)
    capsys.readouterr()

    assert main(["log", run.id, "speak-0"]) == 0
    assert capsys.readouterr().out == "said in a container\n"
