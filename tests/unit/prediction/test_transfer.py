"""Transfers: latency and speed from pairs of bytes and seconds."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagnb.prediction.platform_model import USUAL_S_PER_BYTE, Transfer, transfer

pairs = st.lists(st.tuples(st.integers(0, 10**10), st.floats(0, 1e4)), max_size=30)


def line(
    latency_s: float, speed: float, n: int = 60, noise: float = 0.0
) -> list[tuple[int, float]]:
    source = random.Random(5)
    sizes = [int(10 ** source.uniform(2, 8)) for _ in range(n)]
    return [(size, (latency_s + size / speed) * math.exp(source.gauss(0, noise))) for size in sizes]


def test_an_exact_line_is_found() -> None:
    fitted = transfer(line(0.002, 100e6))

    assert fitted.latency_s == pytest.approx(0.002, rel=0.03)
    assert fitted.s_per_byte == pytest.approx(1e-8, rel=0.03)


def test_noise_and_outliers_do_not_move_it_far() -> None:
    seen = line(0.002, 100e6, 200, 0.2)
    seen = [(size, seconds * (50 if i % 10 == 0 else 1)) for i, (size, seconds) in enumerate(seen)]

    fitted = transfer(seen)

    assert fitted.latency_s == pytest.approx(0.002, rel=0.25)
    assert fitted.s_per_byte == pytest.approx(1e-8, rel=0.25)


def test_the_cautious_transfer_is_the_longer_one() -> None:
    fitted = transfer(line(0.002, 100e6, 200, 0.4))

    cautious = fitted.seconds(10**6).p90

    assert cautious / fitted.seconds(10**6).p50 == pytest.approx(math.exp(0.4 * 1.28), rel=0.15)


def test_nothing_seen_is_unknown_and_wide() -> None:
    fitted = transfer([])

    assert fitted == Transfer()
    assert not fitted.seconds(1000).is_known
    assert fitted.spread > 1


def test_one_transfer_is_reproduced_and_split_between_latency_and_bytes() -> None:
    fitted = transfer([(150_000, 0.01)])

    assert fitted.seconds(150_000).p50 == pytest.approx(0.01)
    assert fitted.latency_s == pytest.approx(0.005, rel=0.1)
    assert fitted.seconds(150_000).is_known


def test_equal_sizes_give_their_median_time() -> None:
    fitted = transfer([(1000, 0.001), (1000, 0.002), (1000, 0.02)])

    assert fitted.seconds(1000).p50 == pytest.approx(0.002)


def test_time_without_bytes_is_latency() -> None:
    fitted = transfer([(0, 0.004), (0, 0.004), (0, 0.004)])

    assert fitted.latency_s == pytest.approx(0.004)


def test_small_values_tell_the_latency_and_nothing_of_the_speed() -> None:
    """Larger ones of these took longer by chance: at their speed, 1 GB would take an hour."""
    seen = [(size, 0.003 + size * 4e-6) for size in (100, 150, 200, 900, 1_000)]

    fitted = transfer(seen)

    assert fitted.s_per_byte == USUAL_S_PER_BYTE
    assert fitted.seconds(200).p50 == pytest.approx(0.0038, rel=0.01)
    assert fitted.seconds(10**9).p50 == pytest.approx(2.0, rel=0.01)
    assert transfer(seen, 1e-10).seconds(10**9).p50 == pytest.approx(0.1, rel=0.05)


def test_one_large_value_among_small_ones_tells_the_speed() -> None:
    fitted = transfer([*[(100, 0.001)] * 9, *[(50_000_000, 1.0)] * 3])

    assert fitted.seconds(10**8).p50 == pytest.approx(2.0, rel=0.05)
    assert fitted.latency_s == pytest.approx(0.001, rel=0.05)


def test_more_transfers_say_the_spread_better() -> None:
    few, many = transfer(line(0.002, 1e8, 3)), transfer(line(0.002, 1e8, 300))

    assert many.spread < few.spread < transfer([]).spread


@given(pairs)
def test_it_is_never_negative_and_never_shorter_for_more_bytes(
    seen: list[tuple[int, float]],
) -> None:
    fitted = transfer(seen)

    assert fitted.latency_s > 0
    assert fitted.s_per_byte > 0
    assert fitted.seconds(0).p90 <= fitted.seconds(1000).p90 < math.inf


@given(pairs, st.randoms(use_true_random=False))
def test_the_order_of_transfers_does_not_matter(
    seen: list[tuple[int, float]], source: random.Random
) -> None:
    mixed = list(seen)
    source.shuffle(mixed)

    assert transfer(mixed) == transfer(seen)
