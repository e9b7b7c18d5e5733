"""A server with little room: runs give theirs back when they are forgotten, and only theirs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import redis
from dagnb_workers.launchers.process import Processes

from dagnb import client
from dagnb.errors import RunMissingError, StorageFullError
from dagnb.graph.task import task
from dagnb.handle import Run
from dagnb.testing.launcher_laws import Gate, waiting
from tests.conftest import own_server

pytestmark = [pytest.mark.redis, pytest.mark.usefixtures("few_modules")]

MB = 1_000_000
LIMIT_S = 60.0


@pytest.fixture(scope="module")
def room() -> Iterator[str]:
    """URL of a server with 60 MB."""
    with own_server("--maxmemory", "60mb") as url:
        yield url


@pytest.fixture
def keys(room: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(room) as client:
        yield client


@task
def halves(array: np.ndarray, after: object = None) -> np.ndarray:
    """The first half of it."""
    return array[: len(array) // 2].copy()


def random_bytes(seed: int, n_bytes: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, n_bytes, dtype=np.uint8)


def started(room: str, array: np.ndarray, after: object = None) -> Run[np.ndarray]:
    return halves(array, after).run(store=room, workers=Processes(n=2, shared_memory_mb=0))


def test_runs_go_on_as_long_as_each_is_forgotten(agent: int, room: str, keys: redis.Redis) -> None:
    """Eight arguments of 16 MB and results of 8 MB on 60 MB."""
    for seed in range(8):
        given = random_bytes(seed, 16 * MB)
        run = started(room, given)
        assert np.array_equal(run.result(LIMIT_S), given[: 8 * MB])
        assert run.forget() > 0

    assert keys.keys("*") == []
    assert run.forget() == 0


@task
def thrice(array: np.ndarray) -> np.ndarray:
    """Three copies, one behind the other."""
    return np.tile(array, 3)


def test_a_run_finds_the_room_of_arguments_of_runs_that_are_over_and_their_results_stay(
    agent: int, room: str, keys: redis.Redis
) -> None:
    """Arguments of 25, 20 and 15 MB and half of that as results, 90 MB on 60 MB."""
    given = {n_mb: random_bytes(n_mb, n_mb * MB) for n_mb in (25, 20, 15)}
    runs = {n_mb: started(room, array) for n_mb, array in given.items() if n_mb == 25}
    for n_mb in (20, 15):
        runs[25].result(LIMIT_S)
        runs[n_mb] = started(room, given[n_mb])
        runs[n_mb].result(LIMIT_S)

    for n_mb, run in runs.items():
        again = client.attach(run.id, store=room, workers=Processes(n=2, shared_memory_mb=0))
        assert np.array_equal(again.result(LIMIT_S), given[n_mb][: n_mb * MB // 2])
        run.forget()
    assert keys.keys("*") == []


def test_a_run_that_finds_no_room_leaves_nothing_behind_and_the_cure_it_names_works(
    agent: int, room: str, keys: redis.Redis
) -> None:
    old = thrice(random_bytes(1, 12 * MB)).run(
        store=room, workers=Processes(n=2, shared_memory_mb=0)
    )
    old.result(LIMIT_S)
    old_results = results(keys)
    new = random_bytes(2, 30 * MB)

    with pytest.raises(StorageFullError, match="forget old runs with `dagnb forget RUN`") as caught:
        started(room, new)
    assert 30 * MB <= caught.value.n_bytes < 31 * MB
    # The run that is over has given up its argument, and the new one has left nothing.
    assert contents(keys) == set()
    assert results(keys) == old_results

    old.forget()
    run = started(room, new)
    assert len(run.result(LIMIT_S)) == 15 * MB
    run.forget()
    assert keys.keys("*") == []


def test_a_run_goes_on_when_another_with_its_argument_is_forgotten(
    agent: int, room: str, keys: redis.Redis, tmp_path: Path
) -> None:
    gate, given = gate_in(tmp_path), random_bytes(1, 8 * MB)
    first = started(room, given)
    first.result(LIMIT_S)
    second = started(room, given, waiting(str(gate.came), str(gate.go)))
    gate.until_there()

    first.forget()
    gate.open()

    assert np.array_equal(second.result(LIMIT_S), given[: 4 * MB])
    second.forget()
    assert keys.keys("*") == []
    gate.close()


def test_a_run_that_is_forgotten_while_it_runs_leaves_nothing(
    agent: int, room: str, keys: redis.Redis, tmp_path: Path
) -> None:
    gate = gate_in(tmp_path)
    run = started(room, random_bytes(1, 8 * MB), waiting(str(gate.came), str(gate.go)))
    gate.until_there()

    run.forget()

    assert keys.keys("*") == []
    gate.open()
    with pytest.raises(RunMissingError):
        run.result(LIMIT_S)
    gate.close()


def results(keys: redis.Redis) -> set[bytes | str]:
    """Keys of pieces of large results."""
    return set(keys.scan_iter("dagnb:*:b:*"))


def contents(keys: redis.Redis) -> set[bytes | str]:
    """Keys of content and of its users."""
    return set(keys.scan_iter("dagnb:[pu]:*"))


def gate_in(folder: Path) -> Gate:
    inner = folder / "gate"
    inner.mkdir()
    return Gate(inner)
