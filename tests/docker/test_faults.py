"""Containers, agents and tasks that go wrong: what the user gets, and that nothing is left
afterwards.

Each test has a runtime directory of its own; at its end the agent is told to leave, and then
neither a container nor a process of it is left (tests/docker/made_containers.py).
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from dagnb_workers.launchers.docker.image.images import BASE_VARIABLE

import dagnb
from dagnb.errors import ConfigError, LaunchError, RunCancelledError, VersionMismatchError
from dagnb.graph.resources import Resources
from dagnb.graph.task import Task
from dagnb.protocol.invocation import versions
from dagnb.storage.embedded import running_server
from tests.docker.chores import after, bomb, greedy, selfish, squared, wasteful
from tests.docker.made_containers import (
    LIMIT_S,
    MEMORY_MB,
    SOON_S,
    Containers,
    failed_with,
    image_of,
    kill,
    second_try_s,
    starts,
)
from tests.services.processes import await_that, descendants, is_alive

pytestmark = [pytest.mark.docker, pytest.mark.redis]


# ---- containers ----


@pytest.mark.parametrize("how", ["killed", "removed"])
def test_a_container_that_goes_in_mid_task_costs_an_attempt_and_nothing_else(
    yard: Containers, summary: list[str], how: str
) -> None:
    gate = yard.gate()
    run = dagnb.run(Task(after)(yard.waits(gate)), workers=yard.docker(cap=1))
    gate.until_there()
    container = yard.only()

    begin = time.time()
    container.kill() if how == "killed" else container.remove(force=True)
    gate.open()

    assert run.result(LIMIT_S) == "through and on"
    name = container.labels["dagnb.name"]
    assert [(e.type, e.attempt, e.exit_code, e.message) for e in run.errors] == [
        (
            "WorkerDied",
            1,
            137,
            f"the container of this worker, {name}, ended with exit code 137: it was killed",
        )
    ]
    summary.append(
        f"container {how} in mid-task: tried again after {second_try_s(run, begin):.2f} s"
    )
    yard.forgotten(run)
    gate.close()


def test_a_task_that_uses_too_much_memory_is_told_the_limit_and_its_container_goes_on(
    yard: Containers,
) -> None:
    run = dagnb.run(
        Task(greedy).with_options(resources=Resources(memory_mb=128))(""),
        workers=yard.docker(cap=1),
    )

    assert failed_with(run) == (
        "WorkerDied: the worker process was killed by SIGKILL (9) while running this task: out of memory, its "
        "container may use 128 MB. Give it more with resources=Resources(memory_mb=...)"
    )
    before = yard.only().id
    again = dagnb.run(
        Task(squared).with_options(resources=Resources(memory_mb=128))(3),
        workers=yard.docker(cap=1),
    )
    assert again.result(LIMIT_S) == 9
    assert (yard.only().id, starts(again)) == (before, {"cold": 0, "warm": 1})


def test_a_container_that_runs_out_of_memory_as_a_whole_is_told_with_its_limit(
    yard: Containers,
) -> None:
    """The kernel takes the worker first; only when another goes first, as arranged here, the
    container goes with it.
    """
    gate = yard.gate()
    run = dagnb.run(Task(selfish)(yard.waits(gate)), workers=yard.docker(cap=1))
    gate.until_there()
    container = yard.only()
    score = Path(f"/proc/{container.attrs['State']['Pid']}/oom_score_adj")
    if not os.access(score, os.W_OK):
        pytest.skip("only root says whom the kernel takes first")
    score.write_text("1000")

    gate.open()

    with pytest.raises(dagnb.errors.TaskFailedError):
        run.result(LIMIT_S)
    name = container.labels["dagnb.name"]
    assert run.errors[0].message == (
        f"the container of this worker, {name}, ran out of memory: it may use {MEMORY_MB} MB. "
        "Give it more with Resources(memory_mb=...)"
    )
    gate.close()


def test_a_task_that_once_ran_out_of_memory_is_not_what_its_container_is_killed_of_later(
    yard: Containers,
) -> None:
    gate = yard.gate()
    assert dagnb.run(Task(wasteful)("x"), workers=yard.docker(cap=1)).result(LIMIT_S) == 1
    run = dagnb.run(yard.waits(gate), workers=yard.docker(cap=1))
    gate.until_there()

    yard.only().kill()
    gate.open()

    assert run.result(LIMIT_S) == "through"
    assert [error.message.partition(", ")[2][10:] for error in run.errors] == [
        "ended with exit code 137: it was killed"
    ]
    gate.close()


def test_an_agent_that_ends_takes_along_a_container_that_is_just_being_made(
    yard: Containers,
) -> None:
    """The yard looks for it at the end."""
    gate = yard.gate()
    dagnb.run(yard.waits(gate), workers=yard.docker(cap=2))
    gate.until_there()
    dagnb.run(
        Task(squared)(3), workers=yard.docker(cap=2)
    )  # the only container is taken, so another one is made
    await_that(
        lambda: any(seat.state == "starting" for seat in yard.seats()), "one is being made", SOON_S
    )


def test_a_fork_bomb_ends_with_its_task_and_harms_nobody_else(yard: Containers) -> None:
    gate = yard.gate()
    other = dagnb.run(Task(after)(yard.waits(gate)), workers=yard.docker(pids=100))
    gate.until_there()

    run = dagnb.run(Task(bomb)(), workers=yard.docker(pids=64), on_error="continue")

    assert failed_with(run) == "BlockingIOError: [Errno 11] Resource temporarily unavailable"
    gate.open()
    assert other.result(LIMIT_S) == "through and on"
    gate.close()


# ---- images ----


def test_an_image_that_is_not_there_is_told_before_the_run(yard: Containers) -> None:
    with pytest.raises(
        LaunchError, match=r"no image 'dagnb-test:never'\. Fetch it with `docker pull"
    ):
        dagnb.run(Task(squared)(2), workers=yard.docker(image="dagnb-test:never"))


def test_an_image_with_another_version_is_refused_at_once_with_both_versions(
    yard: Containers, worker_image: str
) -> None:
    changed = "import dagnb.protocol.messages as m\nm.PROTOCOL_VERSION = 990\n"
    dockerfile = f"FROM {worker_image}\nCOPY sitecustomize.py /opt/dagnb/lib/\n"
    with image_of("dagnb-test:other", dockerfile, sitecustomize__py=changed) as tag:
        run = dagnb.run(Task(squared)(2), workers=yard.docker(image=tag))

        with pytest.raises(RunCancelledError) as caught:
            run.result(LIMIT_S)

        theirs = re.sub(r"protocol \d+", "protocol 990", versions())
        assert str(VersionMismatchError(theirs, versions())) in str(caught.value)
        assert "in a row" not in str(caught.value)  # it was not tried
        assert [error for error in run.errors if error.final] == []
        await_that(
            lambda: not any(seat.run for seat in yard.seats()), "nobody works for it", SOON_S
        )
        yard.forgotten(run)


@pytest.mark.parametrize(
    ("entrypoint", "said"),
    [
        (
            '["python3", "-c", "import sys; sys.exit(\'no dagnb here\')"]',
            "ended before it was ready. It said: no dagnb",
        ),
        ('["no-such-program"]', "no-such-program"),
    ],
)
def test_an_image_that_starts_no_worker_ends_the_run_at_the_first_container(
    yard: Containers, entrypoint: str, said: str
) -> None:
    with image_of(
        "dagnb-test:bare", f"FROM {os.environ[BASE_VARIABLE]}\nENTRYPOINT {entrypoint}\n"
    ) as tag:
        run = dagnb.run(Task(squared)(2), workers=yard.docker(image=tag))

        with pytest.raises(RunCancelledError) as caught:
            run.result(LIMIT_S)

    assert "was cancelled (a container did not start: " in str(caught.value)
    assert said in str(caught.value)
    assert "must start `python -m dagnb_workers.container`" in str(caught.value)


def test_a_folder_that_tasks_cannot_write_to_is_told_before_the_run(yard: Containers) -> None:
    closed = yard.folder / "it's closed"
    closed.mkdir(mode=0o500)
    uid = os.getuid() or 65534

    with pytest.raises(ConfigError) as caught:
        dagnb.run(Task(squared)(2), workers=yard.docker(mounts=f"{closed}:/out:rw"))

    assert f"run as uid {uid}, gid" in str(caught.value)
    assert f"cannot write to {closed}, which belongs to uid {os.getuid()}" in str(caught.value)
    assert "with mode 500" in str(caught.value)
    assert "chmod o+rwx" in str(caught.value)
    assert (
        dagnb.run(Task(squared)(2), workers=yard.docker(mounts=f"{closed}:/out")).result(LIMIT_S)
        == 4
    )


# ---- who looks after the containers ----


def test_an_agent_that_is_killed_is_succeeded_and_the_run_goes_on(
    yard: Containers, summary: list[str]
) -> None:
    gate = yard.gate()
    run = dagnb.run(Task(after)(yard.waits(gate)), workers=yard.docker(cap=1))
    gate.until_there()
    before, agent = yard.only().id, yard.agent()

    begin = time.monotonic()
    kill(agent)
    await_that(lambda: yard.agent() not in {0, agent}, "another agent answers", SOON_S)
    recovered = time.monotonic() - begin
    await_that(
        lambda: any(seat.run == run.id for seat in yard.seats()), "it knows the container", SOON_S
    )
    summary.append(
        f"agent killed: another answers after {recovered:.2f} s, knows it after {time.monotonic() - begin:.2f} s"
    )
    gate.open()

    assert run.result(LIMIT_S) == "through and on"
    assert (run.errors, yard.only().id) == ([], before)
    yard.forgotten(run)
    gate.close()


def test_the_killed_keeper_of_containers_is_succeeded_and_the_run_goes_on(
    yard: Containers, summary: list[str]
) -> None:
    gate = yard.gate()
    run = dagnb.run(Task(after)(yard.waits(gate)), workers=yard.docker(cap=1))
    gate.until_there()
    before = yard.only().id

    begin = time.monotonic()
    kill(yard.host())
    await_that(
        lambda: any(seat.run == run.id for seat in yard.seats()),
        "another one knows the container",
        SOON_S,
    )
    summary.append(
        f"keeper of containers killed: another knows them after {time.monotonic() - begin:.2f} s"
    )
    gate.open()

    assert run.result(LIMIT_S) == "through and on"
    assert (run.errors, yard.only().id) == ([], before)
    yard.forgotten(run)
    gate.close()


def test_both_killed_the_containers_finish_what_they_hold_and_the_next_agent_takes_over(
    yard: Containers, summary: list[str]
) -> None:
    """gate, then a task of another size, for which a container has to be started."""
    gate = yard.gate()
    last = Task(after).with_options(resources=Resources(memory_mb=128))(yard.waits(gate))
    run = dagnb.run(last, workers=yard.docker(cap=1))
    gate.until_there()
    agent, host = yard.agent(), yard.host()

    begin = time.monotonic()
    for pid in (agent, host):
        os.kill(pid, signal.SIGKILL)
    await_that(lambda: not is_alive(agent) and not is_alive(host), "both are dead")
    gate.open()

    assert run.result(LIMIT_S) == "through and on"
    summary.append(
        f"agent and keeper killed: the run ended, with a new container, after {time.monotonic() - begin:.2f} s"
    )
    assert run.errors == []
    yard.forgotten(run)
    gate.close()


def test_agent_keeper_and_container_killed_at_once_are_started_again_because_the_client_waits(
    yard: Containers, summary: list[str]
) -> None:
    gate = yard.gate()
    run = dagnb.run(Task(after)(yard.waits(gate)), workers=yard.docker(cap=1))
    gate.until_there()
    server = running_server(yard.directory)
    assert server is not None
    agent, container = yard.agent(), yard.only()
    victims = [agent, *(pid for pid in descendants(agent) if pid != server.pid)]

    begin = time.monotonic()
    for number in (
        signal.SIGSTOP,
        signal.SIGKILL,
    ):  # stopped first, so that none sees another one's end
        for pid in victims:
            os.kill(pid, number)
    container.kill()
    await_that(lambda: not any(map(is_alive, victims)), "all are dead")
    gate.open()

    assert run.result(LIMIT_S) == "through and on"
    summary.append(
        f"agent, keeper and container killed: the run ended after {time.monotonic() - begin:.2f} s"
    )
    yard.forgotten(run)
    gate.close()


def test_idle_containers_of_the_dead_are_found_and_used_again(yard: Containers) -> None:
    dagnb.run(Task(squared)(2), workers=yard.docker(cap=1)).result(LIMIT_S)
    await_that(lambda: [seat.state for seat in yard.seats()] == ["idle"], "it is idle", SOON_S)
    before = yard.only().id
    agent, host = yard.agent(), yard.host()
    for pid in (agent, host):
        os.kill(pid, signal.SIGKILL)
    await_that(lambda: not is_alive(agent) and not is_alive(host), "both are dead")

    again = dagnb.run(Task(squared)(3), workers=yard.docker(cap=1))

    assert again.result(LIMIT_S) == 9
    assert (yard.only().id, starts(again)) == (before, {"cold": 0, "warm": 1})


STARTS = """
import sys
import dagnb
from dagnb.graph.task import Task
from tests.docker.chores import after
from dagnb.testing.launcher_laws import waiting
from dagnb_workers.launchers.docker.launcher import Docker
folder, came, go = sys.argv[1:]
launcher = Docker(cap=1, memory_mb=160, mounts=f"{folder}:{folder}:rw")
run = dagnb.run(Task(after)(waiting(came, go)), workers=launcher)
print(run.id, flush=True)
run.result()
"""


def test_a_run_whose_client_was_killed_goes_on_and_its_result_is_for_whoever_attaches(
    yard: Containers,
) -> None:
    gate = yard.gate()
    command = [sys.executable, "-c", STARTS, str(yard.folder), str(gate.came), str(gate.go)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        run_id = client.stdout.readline().strip()
        gate.until_there()
        client.kill()
    gate.open()

    run = dagnb.attach(run_id, workers=yard.docker(cap=1))

    assert run.result(LIMIT_S) == "through and on"
    assert run.errors == []
    yard.forgotten(run)
    gate.close()
