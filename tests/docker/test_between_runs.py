"""What one run, or a failure, leaves to the next: nothing. And containers that cannot come to work
are given up.
"""

from __future__ import annotations

import socket
import subprocess

import pytest
import redis

from dagnb import Resources, session
from dagnb.errors import LaunchError, RunCancelledError
from dagnb.graph.task import Task
from tests.docker.chores import leave_things, look_around, reach_the_first_process, squared
from tests.docker.made_containers import LIMIT_S, Containers
from tests.services.processes import await_that
from tests.services.server import server_binaries

pytestmark = [pytest.mark.docker, pytest.mark.redis, pytest.mark.timeout(180)]


def test_a_warm_container_holds_neither_files_nor_processes_of_an_earlier_run(
    yard: Containers,
) -> None:
    launcher = yard.docker(cap=1)
    name, n_before = Task(leave_things)().run(workers=launcher).result(LIMIT_S)
    container = yard.only().id

    files, names, n_processes = Task(look_around)().run(workers=launcher).result(LIMIT_S)

    assert yard.only().id == container
    assert (name in names, name in files) == (False, False)
    assert n_processes < n_before


def test_tasks_cannot_reach_the_descriptors_of_the_first_process(yard: Containers) -> None:
    reached = Task(reach_the_first_process)().run(workers=yard.docker(cap=1)).result(LIMIT_S)

    assert reached == []


def test_a_run_whose_containers_cannot_reach_the_store_is_told_so(yard: Containers) -> None:
    program, port = next(iter(server_binaries().values())), _free_port()
    command = [str(program), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            url = f"redis://127.0.0.1:{port}"
            with redis.Redis.from_url(url) as client:
                await_that(lambda: _answers(client), "the server answers")
            run = Task(squared)(3).run(workers=yard.docker(cap=1, network="none"), store=url)

            with pytest.raises(
                RunCancelledError,
                match=r"registered within 20 s: can it reach the store at .*'none'",
            ):
                run.result(LIMIT_S + 30)
        finally:
            server.terminate()


def test_a_prewarm_that_fails_leaves_no_container_that_nobody_may_use(yard: Containers) -> None:
    wrong = yard.docker(cap=1, environment={"PYTHONHOME": "/nowhere"})

    with pytest.raises(LaunchError, match="ended before it was ready"):
        session.wait(wrong.prewarm(Resources(), 1))

    assert Task(squared)(4).run(workers=yard.docker(cap=1)).result(LIMIT_S) == 16
    assert [container.status for container in yard.containers()] == ["running"]


def test_what_is_in_the_environment_of_tasks_does_not_stand_in_labels(yard: Containers) -> None:
    launcher = yard.docker(cap=1, environment={"TOKEN": "very-secret"})
    assert Task(squared)(2).run(workers=launcher).result(LIMIT_S) == 4

    labels = " ".join(yard.only().labels.values())

    assert "very-secret" not in labels


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def _free_port() -> int:
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        port: int = line.getsockname()[1]
        return port
