"""Whole runs: how far they were off, put together from the functions a plan has."""

from __future__ import annotations

import math
import random
import statistics

import pytest

from dagnb.prediction.observation import Batch, Point
from dagnb.prediction.run_errors import (
    FUNCTIONS,
    TaskContribution,
    Total,
    past_errors,
    run_totals,
)


def contributions(
    n: int = 4, own: float = 0.0, *, is_same_call: bool = False
) -> list[TaskContribution]:
    return [TaskContribution(f"f{i}", 1.0, own, is_same_call) for i in range(n)]


def sigma_of(runs: list[dict[str, Total]], tasks: list[TaskContribution]) -> float:
    """The weighted standard deviation of the mean errors, with the noise beside them."""
    past, noise = past_errors(runs, tasks)
    total = sum(errors.weight for errors in past)
    square = sum(errors.weight * errors.mean**2 for errors in past) / total
    return math.hypot(math.sqrt(square), noise)


def squares_of(sigma: float, *, are_together: bool) -> float:
    """The mean of what histories of 40 runs leave in doubt, as a standard deviation."""
    source, squares = random.Random(1), []
    for _ in range(30):
        runs = []
        for _ in range(40):
            day = source.gauss(0, sigma)
            errors = [day if are_together else source.gauss(0, sigma) for _ in range(4)]
            runs.append({f"f{i}": Total(error, None) for i, error in enumerate(errors)})
        squares.append(sigma_of(runs, contributions()) ** 2)
    return math.sqrt(statistics.fmean(squares))


def test_functions_that_are_slow_together_leave_the_whole_uncertainty() -> None:
    # The largest of these errors are forgotten sooner than others, and the kernel adds as much.
    assert squares_of(0.4, are_together=True) == pytest.approx(0.4, abs=0.04)


def test_functions_that_are_slow_apart_even_each_other_out() -> None:
    assert squares_of(0.4, are_together=False) == pytest.approx(0.2, abs=0.05)


def test_what_tasks_miss_by_themselves_is_not_counted_twice() -> None:
    source = random.Random(3)
    runs = [{f"f{i}": Total(source.gauss(0, 0.4), None) for i in range(4)} for _ in range(40)]

    past, _ = past_errors(runs, contributions(own=0.5))

    # 0.5 / sqrt(40 runs) is left: the level that was learnt is off by so much.
    means = [errors.mean for errors in past if errors.by_function]
    assert statistics.pstdev(means) == pytest.approx(0.5 / math.sqrt(4 * 40), rel=0.2)


def test_a_drawn_run_keeps_the_errors_that_its_functions_had_together() -> None:
    runs = [{"f0": Total(0.5, None), "f1": Total(-0.5, None)}]

    (errors, *_), _ = past_errors(runs, contributions(4))

    assert (errors.of("f0"), errors.of("f1"), errors.of("another")) == (0.5, -0.5, 0.0)


def test_equal_calls_are_judged_by_what_equal_calls_missed() -> None:
    runs = [{f"f{i}": Total(1.0, 0.05) for i in range(4)}] * 40

    by_calls, _ = past_errors(runs, contributions(is_same_call=True))
    by_sizes, _ = past_errors(runs, contributions())

    assert (by_calls[0].mean, by_sizes[0].mean) == (pytest.approx(0.05), pytest.approx(1.0))


def test_runs_of_other_functions_say_nothing() -> None:
    runs = [{"other": Total(2.0, 2.0)}] * 40

    assert past_errors(runs, contributions()) == past_errors([], contributions())
    assert sigma_of([], contributions()) > 1.5 * sigma_of([], contributions(is_same_call=True))
    assert past_errors(runs, []) == ((), 0.0)


def test_a_jump_is_forgotten_within_four_runs_and_slow_days_are_not() -> None:
    """A band of eight in ten leaves out what has less than a tenth of the weight."""

    def share(size: float, of: list[float]) -> float:
        past, _ = past_errors([{"f0": Total(error, None)} for error in of], contributions(1))
        slow = sum(errors.weight for errors in past if errors.mean > size / 2)
        return slow / sum(errors.weight for errors in past)

    calm = [0.01, -0.01] * 4
    assert share(2.3, [*calm, 2.3]) > 0.1
    assert share(2.3, [*calm, 2.3, 1.8, 0.01, -0.01]) < 0.1
    assert share(0.5, [*calm, 0.5, 0.01, -0.01, 0.5, 0.01, -0.01, 0.01]) > 0.12


def test_a_total_is_the_mean_error_of_its_batch() -> None:
    known = Batch((Point(1, 0.0),), 7, size_error=0.25)

    assert run_totals({"f": known}) == {"f": Total(0.25, None, 7)}
    assert run_totals({"f": Batch((Point(1, 0.0),), 1)}) == {}


def test_of_a_run_of_many_functions_the_longest_are_kept() -> None:
    run = {f"f{i}": Batch((Point(1, float(i) / 50),), 1, size_error=0.1) for i in range(300)}

    assert set(run_totals(run)) == {f"f{i}" for i in range(300 - FUNCTIONS, 300)}
