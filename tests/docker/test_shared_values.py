"""Large values of tasks in containers lie in shared memory: who gets them, and what deaths leave.

Each test has a runtime directory of its own; at its end nothing is left of it
(tests/docker/made_containers.py).
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import zlib
from typing import Any

import pytest
from dagnb_workers.agent.client import store_url
from redis import Redis

import dagnb
from dagnb import session
from dagnb.graph.resources import Resources
from dagnb.graph.task import Node, Task
from dagnb.handle import Run
from dagnb.storage import segments
from dagnb.storage.broker import REFUSED
from dagnb.storage.embedded import socket_folder
from dagnb.testing.launcher_laws import Gate
from tests.docker.chores import (
    Block,
    block,
    first,
    grown,
    overwritten,
    prying,
    summed,
    written_beyond,
)
from tests.docker.made_containers import LIMIT_S, SOON_S, Containers, failed_with, kill
from tests.services.large_values import folder_of, n_events, values_of
from tests.services.processes import await_that, is_alive

pytestmark = [
    pytest.mark.docker,
    pytest.mark.redis,
    pytest.mark.usefixtures("few_modules", "shared_memory"),
]

N_BYTES = 4 << 20
LARGE = 200 << 20
"""bytes, more than a container here may use"""


def nothing_is_left(run: Run[Any]) -> None:
    await_that(lambda: not folder_of(run.id).exists(), "the segments are removed", SOON_S)


def n_stored() -> int:
    """The largest number of bytes that the store has under one key."""
    with contextlib.closing(Redis.from_url(session.wait(store_url()))) as client:
        return max(int(client.memory_usage(key) or 0) for key in client.scan_iter(count=1000))  # type: ignore[arg-type]


def held_at(yard: Containers, gate: Gate, **settings: Any) -> Run[int]:
    """A run whose block is made, and whose reader waits for the gate.

    block ---> first
    gate  --->
    """
    node = Task(first)(Task(block)(N_BYTES), yard.waits(gate))
    run = dagnb.run(node, workers=yard.docker(**settings))
    gate.until_there()
    await_that(lambda: run.status.get("done", 0) == 1, "the block is made", SOON_S)
    return run


def test_values_between_containers_and_of_the_client_lie_in_shared_memory_each_task_has_its_own(
    yard: Containers,
) -> None:
    """block -> grown -> grown -> first eight times, after the gate; the client's block -> first"""
    gate = yard.gate()
    chain = Task(grown)(Task(grown)(Task(block)(N_BYTES)))
    given = Block(bytearray(b"\5") * N_BYTES)
    through = yard.waits(gate)
    readers = [Task(first)(chain, through) for _ in range(8)]
    readers += [Task(first)(given, through) for _ in range(2)]

    run = dagnb.run([*readers, Task(grown)(chain, through)], workers=yard.docker(cap=2))
    gate.until_there()
    await_that(lambda: run.status.get("done", 0) == 3, "the chain is made", SOON_S)

    assert n_stored() < N_BYTES // 2
    assert len(values_of(run.id)) >= 1
    assert (folder_of(run.id) / "arrays").stat().st_size >= N_BYTES
    gate.open()
    *numbers, last = run.result(LIMIT_S)
    assert (numbers, last.data[0], len(last.data)) == ([3] * 8 + [5] * 2, 4, N_BYTES)
    assert given.data[0] == 5
    nothing_is_left(run)
    again = dagnb.attach(run.id).result(LIMIT_S)[-1]
    assert bytes(again.data) == bytes(last.data)
    yard.forgotten(run)
    gate.close()


def test_values_that_are_read_do_not_count_against_the_memory_of_a_container(
    yard: Containers,
) -> None:
    given = Block(bytearray(b"\3") * LARGE)
    small = Resources(memory_mb=128)

    run = dagnb.run(Task(summed).with_options(resources=small)(given), workers=yard.docker(cap=1))

    assert run.result(LIMIT_S) == zlib.crc32(given.data)
    changed = Task(overwritten).with_options(resources=small)(given)
    message = failed_with(dagnb.run(changed, workers=yard.docker(cap=1)))
    assert "out of memory, its container may use 128 MB" in message


def test_values_that_were_made_do_not_count_against_the_memory_of_a_container(
    yard: Containers,
) -> None:
    """Five blocks, of 40 MB each, in a container of 160 MB. Two readers each: none is kept."""
    blocks = [Task(block)(40 << 20) for _ in range(5)]
    gate = yard.gate()
    through = yard.waits(gate)
    readers: list[Node[int]] = []
    for made in blocks:
        readers += [Task(first)(made, through), Task(first)(made, through)]

    run = dagnb.run(readers, workers=yard.docker(cap=2))
    gate.until_there()
    await_that(lambda: run.status.get("done", 0) == 5, "all are made", SOON_S)

    assert len(values_of(run.id)) == 5
    gate.open()
    assert (run.result(LIMIT_S), run.errors) == ([1] * 10, [])
    gate.close()


def test_memory_that_a_task_takes_beyond_its_file_counts_against_its_container(
    yard: Containers,
) -> None:
    run = dagnb.run(Task(written_beyond)(LARGE), workers=yard.docker(cap=1))

    assert "out of memory, its container may use 160 MB" in failed_with(run)
    nothing_is_left(run)


def test_without_shared_memory_the_values_go_through_the_store(yard: Containers) -> None:
    gate = yard.gate()
    run = held_at(yard, gate, shared_memory_mb=0)

    assert not folder_of(run.id).exists()
    gate.open()
    assert run.result(LIMIT_S) == 1
    gate.close()


def test_without_a_broker_the_values_go_through_the_store(yard: Containers) -> None:
    dagnb.run(Task(summed)(Block(b"")), workers=yard.docker()).result(LIMIT_S)
    (socket,) = [path for path in socket_folder(yard.directory).iterdir() if path.suffix != ".sock"]
    socket.unlink()
    gate = yard.gate()
    run = held_at(yard, gate)

    assert values_of(run.id) == []
    gate.open()
    assert run.result(LIMIT_S) == 1
    nothing_is_left(run)
    gate.close()


@pytest.mark.parametrize("who", ["container", "host", "host and agent"])
def test_a_value_outlives_the_container_that_made_it_and_the_host(
    yard: Containers, who: str
) -> None:
    gate = yard.gate()
    run = held_at(yard, gate)
    before = values_of(run.id)

    if who == "container":
        for container in yard.containers():
            container.kill()
        gate.until_there()  # once more, in another container
    if who == "host":
        kill(yard.host())
    if who == "host and agent":
        victims = yard.agent(), yard.host()
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        await_that(lambda: not any(map(is_alive, victims)), "both are dead")
    gate.open()

    assert run.result(LIMIT_S) == 1
    assert (len(before), n_events(run, "lost")) == (1, 0)
    nothing_is_left(run)
    yard.forgotten(run)
    gate.close()


def test_a_run_that_is_stopped_leaves_no_values(yard: Containers) -> None:
    gate = yard.gate()
    run = held_at(yard, gate)

    run.kill()

    nothing_is_left(run)
    gate.close()


def test_a_task_reaches_the_values_of_its_own_run_and_no_others(yard: Containers) -> None:
    gate = yard.gate()
    other = held_at(yard, gate)
    (value,) = values_of(other.id)
    names = [value.name, segments.ARRAYS]
    launcher = yard.docker(shared_memory_mb=4)

    answers, seen = dagnb.run(Task(prying)(other.id, names, 5 << 20), workers=launcher).result(
        LIMIT_S
    )

    # Six requests for files of the other run, three for odd names, one for another container; then
    # one for too many bytes, and one for a value that is not there.
    assert answers == [REFUSED] * 10 + [errno.EDQUOT, errno.ENOENT]
    assert seen == []
    gate.open()
    assert other.result(LIMIT_S) == 1
    gate.close()
