"""Runs keep going when the processes that host them die."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dagnb_workers.agent.host_key import HostKey
from dagnb_workers.agent.hosts import Hosts, fail_run
from dagnb_workers.hosting.interpreter import PythonStart
from dagnb_workers.hosting.run_locks import RunRecord

from dagnb.errors import LaunchError
from dagnb.protocol.invocation import Invocation
from dagnb.storage.open import MEMORY_URL, open_store, open_store_of

LAUNCH = {"host": "process", "python": "/usr/bin/python3", "code": "c", "invocation": "{}"}


class Connection:
    """A connection to a host that is there, or is not."""

    def __init__(self, *, is_there: bool) -> None:
        self.is_there, self.spawned = is_there, list[str]()

    async def spawn(self, kind: str, name: str, args: dict[str, Any]) -> int:
        """Returns the pid of the supervisor."""
        if not self.is_there:
            raise LaunchError("the fork server is gone.")
        self.spawned.append(name)
        return 4242


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    """A run that has a launch file."""
    made = RunRecord(tmp_path, "run-1")
    made.write(LAUNCH)
    return made


def hosts_with(
    tmp_path: Path, connections: Iterator[Connection], monkeypatch: pytest.MonkeyPatch
) -> Hosts:
    """Hosts whose connections are these, one after the other."""
    made = Hosts(tmp_path, 60.0, asyncio.TaskGroup())
    monkeypatch.setattr(made, "ensure_host", lambda key: next(connections))
    return made


async def test_a_run_stays_noted_when_its_new_host_dies_too(
    tmp_path: Path, record: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = Connection(is_there=True)
    hosts = hosts_with(tmp_path, iter([Connection(is_there=False), there]), monkeypatch)

    await hosts.restart_if_lost(record)
    assert (record.read(), hosts.is_hosted(record)) == (LAUNCH, False)
    await hosts.restart_if_lost(record)

    assert (there.spawned, hosts.is_hosted(record)) == (["run-1"], True)


async def test_a_launch_tries_another_host_once(
    tmp_path: Path, record: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = Connection(is_there=True)
    hosts = hosts_with(tmp_path, iter([Connection(is_there=False), there]), monkeypatch)

    await hosts.launch(record, LAUNCH)

    assert (there.spawned, hosts.is_hosted(record)) == (["run-1"], True)


async def test_a_launch_that_fails_twice_is_refused_and_forgotten(
    tmp_path: Path, record: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = hosts_with(
        tmp_path, iter([Connection(is_there=False), Connection(is_there=False)]), monkeypatch
    )

    with pytest.raises(LaunchError, match="gone"):
        await hosts.launch(record, LAUNCH)

    assert (record.read(), hosts.is_hosted(record)) == (None, False)


def test_hosts_of_other_interpreters_or_code_have_other_marks() -> None:
    marks = {
        HostKey(*fields).mark
        for fields in [("docker", "a", "1"), ("docker", "b", "1"), ("docker", "a", "2")]
    }

    assert len(marks) == 3


def test_a_host_reads_back_from_what_a_request_says_of_it() -> None:
    start = PythonStart(
        options=("-O",),
        variables=(("A", "1"), ("B", "")),
        is_client=True,
        folders=("/lib",),
        site="s",
    )
    key = HostKey("process", "/usr/bin/python3", "c", start)

    assert HostKey.of(json.loads(json.dumps(key.to_dict()))) == key
    assert (
        HostKey.of(HostKey("docker", "p", "c").to_dict()).mark == HostKey("docker", "p", "c").mark
    )


async def test_the_store_of_an_invocation_is_that_of_its_url() -> None:
    invocation = Invocation(run="r", store=MEMORY_URL, key=b"k" * 32)

    assert await open_store_of(invocation) is await open_store(MEMORY_URL)


async def test_a_run_that_is_given_up_is_cancelled_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cancelled: list[tuple[str, str]] = []
    store = await open_store(MEMORY_URL)

    async def cancel(run: str, reason: str) -> None:
        cancelled.append((run, reason))

    monkeypatch.setattr(store, "cancel", cancel)
    invocation = Invocation(run="r", store=MEMORY_URL, key=b"k" * 32)

    await fail_run({"invocation": invocation.to_json()}, "it was stopped")

    assert cancelled == [("r", "it was stopped")]
