"""A server with little room: runs give theirs back when they are forgotten, and only theirs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import redis
from dagnb_workers.launchers.process import Processes

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
    return halves(array, after).run(store=room, workers=Processes(n=2))


def test_runs_go_on_as_long_as_each_is_forgotten(agent: int, room: str, keys: redis.Redis) -> None:
    """Eight arguments of 16 MB and results of 8 MB on 60 MB."""
    for seed in range(8):
        given = random_bytes(seed, 16 * MB)
        run = started(room, given)
        assert np.array_equal(run.result(LIMIT_S), given[: 8 * MB])
        assert run.forget() > 0

    assert keys.keys("*") == []
    assert run.forget() == 0


def test_a_run_that_finds_no_room_leaves_nothing_behind_and_the_cure_it_names_works(
    agent: int, room: str, keys: redis.Redis
) -> None:
    old = started(room, random_bytes(1, 30 * MB))
    old.result(LIMIT_S)
    before = contents(keys)
    new = random_bytes(2, 30 * MB)

    with pytest.raises(StorageFullError, match="forget old runs with `dagnb forget RUN`") as caught:
        started(room, new)
    assert 30 * MB <= caught.value.n_bytes < 31 * MB
    assert contents(keys) == before

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


def contents(keys: redis.Redis) -> set[bytes | str]:
    """Keys of content and of its users."""
    return set(keys.scan_iter("dagnb:[pu]:*"))


def gate_in(folder: Path) -> Gate:
    inner = folder / "gate"
    inner.mkdir()
    return Gate(inner)
