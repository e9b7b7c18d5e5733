"""The effect of CPUs and memory on times: learnt for each function, never assumed."""

from __future__ import annotations

import math
import random

import pytest

from dagnb.prediction.observation import Batch, Point, thinned
from dagnb.prediction.regression import GAMMA, GAMMA_SD, scaling


def runs(
    gamma: float, shares: list[list[float]], noise: float = 0.1, between: float = 0.3
) -> list[Batch]:
    """One batch a list of CPUs; each run has a level of its own."""
    source = random.Random(1)
    learnt = []
    for i, cpus in enumerate(shares):
        level = source.gauss(0, between)
        points = [
            Point(1000, level - gamma * math.log(c) + source.gauss(0, noise), cpus=c) for c in cpus
        ]
        learnt.append(thinned(points, float(i)))
    return learnt


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
def test_the_exponent_is_learnt_from_a_few_runs_at_several_shares(gamma: float) -> None:
    learnt = scaling(runs(gamma, [[1.0, 2.0, 4.0, 8.0]] * 4))

    assert learnt.cpus.gamma == pytest.approx(gamma, abs=0.1)
    assert learnt.cpus.sd < 0.1


def test_sequential_code_is_known_as_such_after_six_tasks() -> None:
    learnt = scaling(runs(0.0, [[1.0, 1.0, 1.0, 4.0, 4.0, 4.0]]))

    assert abs(learnt.cpus.gamma) < 0.15


def test_without_different_shares_the_prior_is_kept_with_its_uncertainty() -> None:
    learnt = scaling(runs(0.0, [[2.0] * 10] * 5))

    assert (learnt.cpus.gamma, learnt.cpus.sd) == (GAMMA, GAMMA_SD)
    assert learnt.gain(2.0, None) == 0.0
    assert learnt.gain(8.0, None) == pytest.approx(0.5 * math.log(4))
    assert learnt.uncertainty(8.0, None) == pytest.approx(0.3 * math.log(4))


def test_runs_that_differ_as_a_whole_teach_less_than_tasks_of_one_run() -> None:
    inside = scaling(runs(0.0, [[1.0, 4.0]] * 4))
    across = scaling(runs(0.0, [[1.0, 1.0], [4.0, 4.0]] * 2))

    assert inside.cpus.sd < across.cpus.sd < GAMMA_SD


def test_memory_is_distinguished_from_cpus() -> None:
    points = [
        Point(1000, -1.0 * math.log(cpus) + 0.01 * i, cpus=cpus, memory_mb=memory)
        for i, (cpus, memory) in enumerate(
            [(1.0, 512.0), (1.0, 4096.0), (4.0, 512.0), (4.0, 4096.0)] * 4
        )
    ]

    learnt = scaling([thinned(points, 0.0)])

    assert learnt.cpus.gamma == pytest.approx(1.0, abs=0.1)
    assert learnt.memory.gamma == pytest.approx(0.0, abs=0.1)


def test_memory_alone_is_held_to_buy_cpu_time_until_it_is_measured() -> None:
    learnt = scaling([thinned([Point(1000, 0.0, memory_mb=512.0)], 0.0)])

    assert learnt.gain(None, 1024.0) == pytest.approx(0.5 * math.log(2))


def test_a_share_that_no_sample_says_changes_nothing_but_the_uncertainty() -> None:
    learnt = scaling([thinned([Point(1000, 0.0)], 0.0)])

    assert learnt.gain(8.0, None) == 0.0
    assert learnt.uncertainty(8.0, None) == pytest.approx(GAMMA_SD)
    assert learnt.uncertainty(None, None) == 0.0
