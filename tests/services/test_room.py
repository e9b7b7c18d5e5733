"""A server with little room: runs give theirs back when they are forgotten, and only theirs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import redis
from dagnb_workers.launchers.inline import Inline

from dagnb import session
from dagnb.errors import RunMissingError, StorageFullError
from dagnb.graph.task import task
from tests.conftest import own_server
from tests.unit.inline_runs import LIMIT_S, gates, hold, under_way

pytestmark = pytest.mark.redis

MB = 1_000_000


@pytest.fixture(scope="module")
def room() -> Iterator[str]:
    """URL of a server with 60 MB."""
    with own_server("--maxmemory", "60mb") as url:
        yield url
        session.caught_up(60.0)


@pytest.fixture
def keys(room: str) -> redis.Redis:
    client: redis.Redis = redis.Redis.from_url(room)
    return client


@task
def halves(array: np.ndarray, after: object = None) -> np.ndarray:
    """The first half of it."""
    return array[: len(array) // 2].copy()


def random_bytes(seed: int, n_bytes: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, n_bytes, dtype=np.uint8)


def test_runs_go_on_as_long_as_each_is_forgotten(room: str, keys: redis.Redis) -> None:
    """Eight arguments of 16 MB and results of 8 MB on 60 MB."""
    for seed in range(8):
        given = random_bytes(seed, 16 * MB)
        run = halves(given).run(store=room, workers=Inline(n=2))
        assert np.array_equal(run.result(LIMIT_S), given[: 8 * MB])
        session.caught_up(60.0)
        assert run.forget() > 0

    assert keys.keys("*") == []
    assert run.forget() == 0


def test_a_run_that_finds_no_room_leaves_nothing_behind_and_the_cure_it_names_works(
    room: str, keys: redis.Redis
) -> None:
    old = halves(random_bytes(1, 30 * MB)).run(store=room, workers=Inline(n=2))
    old.result(LIMIT_S)
    session.caught_up(60.0)
    before = set(keys.keys("*"))
    new = halves(random_bytes(2, 30 * MB))

    with pytest.raises(StorageFullError, match="forget old runs with `dagnb forget RUN`") as caught:
        new.run(store=room, workers=Inline(n=2))
    assert 30 * MB <= caught.value.n_bytes < 31 * MB
    assert set(keys.keys("*")) == before

    old.forget()
    run = new.run(store=room, workers=Inline(n=2))
    assert len(run.result(LIMIT_S)) == 15 * MB
    session.caught_up(60.0)
    run.forget()


def test_a_run_goes_on_when_another_with_its_argument_is_forgotten(room: str, keys: redis.Redis) -> None:
    given = random_bytes(1, 8 * MB)
    first = halves(given).run(store=room, workers=Inline(n=2))
    first.result(LIMIT_S)
    second = halves(given, hold("go on")).run(store=room, workers=Inline(n=2))
    under_way("go on")

    session.caught_up(60.0)
    first.forget()
    gates["go on"].set()

    assert np.array_equal(second.result(LIMIT_S), given[: 4 * MB])
    session.caught_up(60.0)
    second.forget()
    assert keys.keys("*") == []


def test_a_run_that_is_forgotten_while_it_runs_leaves_nothing(room: str, keys: redis.Redis) -> None:
    run = halves(random_bytes(1, 8 * MB), hold("forgotten")).run(store=room, workers=Inline(n=2))
    under_way("forgotten")

    run.forget()

    assert keys.keys("*") == []
    gates["forgotten"].set()
    with pytest.raises(RunMissingError):
        run.result(LIMIT_S)
