"""A client is killed between submitting a run and launching its workers: nobody shows that run as
running for ever.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

import dagnb
from dagnb import client, task
from dagnb.errors import RunCancelledError
from dagnb.protocol.messages import RunState
from dagnb.storage.keys import run_prefix
from dagnb.storage.redis import RedisStore
from dagnb.testing.launcher_laws import Gate, waiting

pytestmark = pytest.mark.redis

LIMIT_S = 60.0

DIES = """
import os, signal
import dagnb
from dagnb_workers.launchers.process import Processes

class Dies(Processes):
    async def launch(self, invocation, needs=()):
        print(invocation.run, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

@dagnb.task
def one():
    return 1

one().run(workers=Dies(n=1))
"""


@task
def one() -> int:
    """A small task."""
    return 1


@pytest.fixture
def server(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as made:
        yield made


def submitted_by_a_client_that_died() -> str:
    """Id of its run."""
    told = subprocess.run(
        [sys.executable, "-c", DIES], stdout=subprocess.PIPE, text=True, check=False, timeout=60
    )
    return told.stdout.strip()


def by_the_list(run: str) -> None:
    assert {line.run: line.state for line in dagnb.runs()}[run] is RunState.CANCELLED


def by_a_look(run: str) -> None:
    assert dagnb.attach(run).state is RunState.CANCELLED


def by_a_snapshot(run: str) -> None:
    assert dagnb.attach(run).snapshot().is_over


def by_waiting(run: str) -> None:
    with pytest.raises(RunCancelledError, match="it never started"):
        dagnb.attach(run).result(LIMIT_S)


@pytest.mark.parametrize("looks", [by_the_list, by_a_look, by_a_snapshot, by_waiting])
def test_whoever_looks_at_a_run_that_never_started_is_told_so_when_its_time_is_up(
    agent: int, server: redis.Redis, looks: Callable[[str], None]
) -> None:
    run = submitted_by_a_client_that_died()
    control = run_prefix("dagnb", run) + "m"
    left_s = float(server.hget(control, "start_by") or 0) - time.time()
    assert 0 < left_s <= client.START_S
    assert dagnb.attach(run).state is RunState.RUNNING

    server.hset(control, "start_by", time.time())  # instead of waiting for it
    looks(run)

    assert dagnb.attach(run).look().reason.startswith("it never started")


def test_a_run_whose_workers_were_launched_need_not_start_by_any_moment(
    agent: int, server: redis.Redis
) -> None:
    run = one().run()

    assert server.hget(run_prefix("dagnb", run.id) + "m", "start_by") is None
    assert run.result(LIMIT_S) == 1


def test_looking_at_a_run_that_is_worked_for_costs_one_round_trip_a_look(
    agent: int, tmp_path: Path
) -> None:
    """What sees to it that somebody works for the run asks the store for nothing."""
    folder = tmp_path / "gate"
    folder.mkdir()
    gate = Gate(folder)
    run = waiting(str(gate.came), str(gate.go)).run()
    gate.until_there()
    store = run._store
    assert isinstance(store, RedisStore)

    before = store.round_trips
    looks = [run.look() for _ in range(3)]

    assert store.round_trips - before == 3
    assert all(seen.n_instances for seen in looks)
    gate.open()
    assert run.result(LIMIT_S) == "through"
    gate.close()
