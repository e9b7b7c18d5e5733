"""The law of what tasks of a run do not share, and the level that a run is expected to have."""

from __future__ import annotations

import math
import random
import statistics

import pytest

from dagnb.prediction.estimate import RESIDUALS, equally_likely, residuals
from dagnb.prediction.observation import Sample, Target
from dagnb.prediction.predictor import Predictor

FAST_S, SLOW_S = 0.1, 2.0


def runs_of(times: list[list[float]]) -> Predictor:
    """Learns one run of function f after the other, each a list of seconds."""
    predictor = Predictor()
    for i, run in enumerate(times):
        tasks = []
        for seconds in run:
            sample = Sample(
                function="f", name="f", input_bytes=9, output_bytes=9, run_s=seconds, ended_at=i
            )
            tasks.append(sample)
        predictor.learn(tasks)
    return predictor


def expected_s(predictor: Predictor) -> list[float]:
    """Run times that a task of the next run may have, equally likely."""
    median_s = predictor.predict(Target.RUN, "f", "f", 9).p50
    return [median_s * math.exp(log_factor) for log_factor in predictor.residuals("f", "f")]


@pytest.mark.parametrize("share", [0.3, 0.5])
def test_a_function_with_two_modes_keeps_both_whichever_is_the_median(share: float) -> None:
    chance = random.Random(3)
    modes = [SLOW_S if chance.random() < share else FAST_S for _ in range(8 * 40)]

    seconds = expected_s(runs_of([modes[i * 40 : (i + 1) * 40] for i in range(8)]))

    slow = [s for s in seconds if s > 0.7 * SLOW_S]
    assert len(slow) / len(seconds) == pytest.approx(share, abs=0.06)
    between = [s for s in seconds if 1.5 * FAST_S < s < SLOW_S / 1.5]
    assert len(between) <= 0.06 * len(seconds)
    assert statistics.fmean(seconds) == pytest.approx(statistics.fmean(modes), rel=0.15)


def test_the_sum_of_skewed_times_is_more_than_that_of_their_medians() -> None:
    chance = random.Random(4)
    runs = [[0.5 * chance.paretovariate(2.0) for _ in range(60)] for _ in range(6)]
    predictor = runs_of(runs)

    # The mean of this law is 1.0, its median 0.71.
    every = [seconds for run in runs for seconds in run]
    assert predictor.predict(Target.RUN, "f", "f", 9).p50 < 0.85
    assert statistics.fmean(expected_s(predictor)) == pytest.approx(
        statistics.fmean(every), rel=0.1
    )


def test_a_level_that_jumps_is_followed_and_one_that_scatters_is_averaged() -> None:
    jumped = runs_of([[1.0] * 20] * 6 + [[10.0] * 20] * 3)
    chance = random.Random(5)
    scattered = runs_of([[math.exp(chance.gauss(0.0, 0.4))] * 20 for _ in range(12)])

    assert statistics.median(expected_s(jumped)) == pytest.approx(10.0, rel=0.05)
    assert statistics.median(expected_s(scattered)) == pytest.approx(1.0, rel=0.3)


def test_what_a_whole_run_shares_is_no_difference_between_its_tasks() -> None:
    slow_and_quick = runs_of([[1.0] * 20, [2.0] * 20] * 4)

    assert statistics.pstdev(slow_and_quick.residuals("f", "f")) < 0.1


def test_tasks_of_functions_never_measured_differ_as_usual() -> None:
    assert statistics.pstdev(Predictor().residuals("f", "f")) == pytest.approx(0.2, rel=0.1)


def test_residuals_are_ascending_and_as_many_whatever_was_seen() -> None:
    for runs in ([], [([1.0], 1.0)], [([3.0, 1.0, 2.0], 0.5), ([0.0, 5.0], 2.0)]):
        values = residuals(runs, 0.2)
        assert len(values) == RESIDUALS
        assert list(values) == sorted(values)
    assert len(equally_likely([(1.0, 1.0), (0.0, 2.0)], 0.2)) == RESIDUALS
