"""Whole runs: how far they were off, put together from the functions a plan has."""

from __future__ import annotations

import math
import random

import pytest

from dagnb.prediction.estimate import FUNCTIONS, TaskContribution, Total, run_sigma, run_totals
from dagnb.prediction.observation import Batch, Point


def contributions(
    n: int = 4, own: float = 0.0, *, is_same_call: bool = False
) -> list[TaskContribution]:
    return [TaskContribution(f"f{i}", 1.0, own, is_same_call) for i in range(n)]


def test_functions_that_are_slow_together_leave_the_whole_uncertainty() -> None:
    source = random.Random(1)
    days = [source.gauss(0, 0.4) for _ in range(40)]
    runs = [{f"f{i}": Total(day, None) for i in range(4)} for day in days]

    assert run_sigma(runs, contributions()) == pytest.approx(0.4, abs=0.08)


def test_functions_that_are_slow_apart_even_each_other_out() -> None:
    source = random.Random(2)
    runs = [{f"f{i}": Total(source.gauss(0, 0.4), None) for i in range(4)} for _ in range(40)]

    assert run_sigma(runs, contributions()) == pytest.approx(0.2, abs=0.06)


def test_what_tasks_miss_by_themselves_is_not_counted_twice() -> None:
    source = random.Random(3)
    runs = [{f"f{i}": Total(source.gauss(0, 0.4), None) for i in range(4)} for _ in range(40)]

    assert run_sigma(runs, contributions(own=0.4)) < 0.1


def test_equal_calls_are_judged_by_what_equal_calls_missed() -> None:
    runs = [{f"f{i}": Total(1.0, 0.05) for i in range(4)}] * 40

    assert run_sigma(runs, contributions(is_same_call=True)) == pytest.approx(0.055, abs=0.005)
    assert run_sigma(runs, contributions()) > 0.9


def test_runs_of_other_functions_say_nothing() -> None:
    runs = [{"other": Total(2.0, 2.0)}] * 40

    assert run_sigma(runs, contributions()) == pytest.approx(0.3)
    assert run_sigma([], contributions(is_same_call=True)) == pytest.approx(0.15)
    assert run_sigma(runs, []) == pytest.approx(0.3)


def test_a_total_is_of_seconds_not_of_tasks() -> None:
    points = (
        Point(1, math.log(100.0), size_error=0.0),
        Point(1, math.log(1.0), size_error=math.log(2.0)),
    )

    result = run_totals({"f": Batch(points, 2)})

    assert result["f"].by_size == pytest.approx(math.log(101 / 100.5))
    assert result["f"].by_call is None
    assert run_totals({"f": Batch((Point(1, 0.0),), 1)}) == {}


def test_of_a_run_of_many_functions_the_longest_are_kept() -> None:
    run = {f"f{i}": Batch((Point(1, float(i) / 50, size_error=0.1),), 1) for i in range(300)}

    assert set(run_totals(run)) == {f"f{i}" for i in range(300 - FUNCTIONS, 300)}
