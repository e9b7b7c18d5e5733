"""The Bayesian line: closed form against what it must give."""

from __future__ import annotations

import math

import pytest

from dagnb.prediction.regression import line, moments


def test_a_free_slope_is_found_and_a_fixed_one_is_kept() -> None:
    xs = [float(x) for x in range(20)]
    seen = moments(xs, [3 + 0.37 * x for x in xs], [1.0] * 20)

    free, fixed = line(seen, 0.5, 0.36), line(seen, 1.0, math.inf)

    assert free.slope == pytest.approx(0.37, abs=0.001)
    assert free.at(100) == pytest.approx(40.0, abs=0.1)
    assert (fixed.slope, fixed.slope_sd) == (1.0, 0.0)


def test_the_evidence_prefers_the_line_that_made_the_points() -> None:
    xs = [float(x) for x in range(20)]
    rising = moments(xs, [3 + x for x in xs], [1.0] * 20)
    flat = moments(xs, [3 + 0.1 * (-1) ** x for x in range(20)], [1.0] * 20)

    assert line(rising, 1.0, math.inf).log_evidence > line(rising, 0.0, math.inf).log_evidence
    assert line(flat, 0.0, math.inf).log_evidence > line(flat, 1.0, math.inf).log_evidence


def test_one_point_leaves_the_slope_to_the_prior() -> None:
    fitted = line(moments([2.0], [5.0], [1.0]), 0.5, 0.36)

    assert fitted.slope == pytest.approx(0.5)
    assert fitted.at(2.0) == pytest.approx(5.0)


def test_a_prior_level_counts_as_so_many_samples_where_samples_are_as_inexact() -> None:
    seen = moments([1.0] * 6, [1.0, 3.0] * 3, [1.0] * 6)

    fitted = line(seen, 0.0, math.inf, level=0.0, count=6.0)

    assert fitted.at(1.0) == pytest.approx(1.0, abs=0.001)


def test_a_prior_level_yields_to_exact_samples() -> None:
    fitted = line(moments([1.0] * 20, [2.0] * 20, [1.0] * 20), 0.0, math.inf, level=0.0, count=5.0)

    assert fitted.at(1.0) == pytest.approx(2.0, abs=0.02)


def test_weights_are_worth_repetitions() -> None:
    twice = line(moments([1.0, 2.0], [1.0, 3.0], [2.0, 1.0]), 0.5, 0.36)
    listed = line(moments([1.0, 1.0, 2.0], [1.0, 1.0, 3.0], [1.0] * 3), 0.5, 0.36)

    assert twice.slope == pytest.approx(listed.slope)
    assert twice.sigma == pytest.approx(listed.sigma)
