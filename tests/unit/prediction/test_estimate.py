"""Estimates: quantiles of a distribution on the log scale."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagnb.prediction.estimate import PROBABILITIES, Estimate, normal, widened

probabilities = st.floats(0.0001, 0.9999)
shapes = st.lists(st.floats(0, 3), min_size=13, max_size=13).map(
    lambda steps: tuple(sum(steps[: i + 1]) - sum(steps[:7]) for i in range(13))
)
estimates = st.builds(Estimate, st.floats(0, 1e9), shapes, plus=st.sampled_from([0.0, 1.0]))


@given(estimates, probabilities, probabilities)
def test_quantiles_ascend_in_p_and_are_never_negative(
    estimate: Estimate, p: float, q: float
) -> None:
    low, high = estimate.quantile(min(p, q)), estimate.quantile(max(p, q))

    assert 0 <= low <= high * (1 + 1e-9)


@given(estimates)
def test_the_middle_quantile_is_the_median(estimate: Estimate) -> None:
    assert estimate.quantile(0.5) == pytest.approx(estimate.p50, abs=1e-6)


def test_quantiles_of_a_lognormal_law_are_exact_between_and_beyond_the_known_ones() -> None:
    estimate = Estimate(2.0, normal(0.3))

    assert estimate.p90 == pytest.approx(2 * math.exp(0.3 * 1.2815515655))
    assert estimate.quantile(0.75) == pytest.approx(2 * math.exp(0.3 * 0.6744897502))
    assert estimate.quantile(0.999) == pytest.approx(2 * math.exp(0.3 * 3.0902323062))


def test_spread_is_the_sigma_of_a_lognormal_law() -> None:
    assert Estimate(1.0, normal(0.4)).spread == pytest.approx(0.4)


def test_a_size_may_be_predicted_as_zero() -> None:
    estimate = Estimate(0.0, normal(0.2), plus=1.0)

    assert estimate.quantile(0.1) == 0.0
    assert estimate.p90 == pytest.approx(math.exp(0.2 * 1.2815515655) - 1)


@given(shapes, st.floats(0, 3))
def test_uncertainty_moves_every_quantile_outwards(shape: tuple[float, ...], sigma: float) -> None:
    wider = widened(shape, sigma)

    for p, before, after in zip(PROBABILITIES, shape, wider, strict=True):
        assert after >= before - 1e-12 if p > 0.5 else after <= before + 1e-12


def test_doubts_add_as_variances() -> None:
    assert Estimate(1.0, widened(normal(0.3), 0.4)).spread == pytest.approx(0.5)
    assert widened(normal(0.3), 0.0) == normal(0.3)


def test_an_estimate_is_unknown_unless_it_says_otherwise() -> None:
    estimate = Estimate(1.0, normal(2.0))

    assert not estimate.is_known
    assert estimate.source == "unknown"
