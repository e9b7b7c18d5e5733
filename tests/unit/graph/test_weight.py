"""Weights: roughly the bytes of pickled arguments, told without pickling them."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from dagnb.graph.task import task
from dagnb.graph.weight import OPAQUE_BYTES, weight


@task
def part() -> bytes:
    return b""


@pytest.mark.parametrize(
    "value",
    [
        b"x" * 10_000,
        "y" * 5_000,
        list(range(1000)),
        [1.5] * 100_000,
        {i: float(i) for i in range(3_000)},
        {"key": [bytes([i]) * 100 for i in range(50)]},
        np.zeros((100, 200)),
        [np.full(1000, i) for i in range(3)],
        {f"{i}" for i in range(100)},
    ],
)
def test_it_is_what_pickling_gives_within_a_factor_of_four(value: Any) -> None:
    real = len(pickle.dumps(value, protocol=5))

    assert real / 4 < weight(value) < 4 * real


def test_nodes_weigh_nothing_because_their_values_are_counted_elsewhere() -> None:
    assert weight(part()) == 0
    assert weight([part(), part()]) == 8


def test_what_tells_nothing_has_a_usual_weight() -> None:
    assert weight(object()) == weight(range(10**9)) == OPAQUE_BYTES


def test_what_holds_itself_ends() -> None:
    loop: list[Any] = [1]
    loop.append(loop)

    assert 0 < weight(loop) < 10_000


def test_a_long_container_is_weighed_by_its_begin() -> None:
    assert weight([b"x" * 100] * 10**6) == pytest.approx(108 * 10**6, rel=0.01)
