"""Starts of workers: what is rare leans on what is frequent."""

from __future__ import annotations

import math
import random

import pytest

from dagnb.graph.resources import Resources
from dagnb.prediction.platform_model import MeasuredStart, Starts, starts

SMALL, LARGE, OTHER = Resources(cpus=1), Resources(cpus=8), Resources(cpus=2)


def seen(
    resources: Resources, seconds: float, n: int, noise: float = 0.1, cold: bool = True
) -> list[MeasuredStart]:
    source = random.Random(3)
    return [
        MeasuredStart(resources, cold, seconds * math.exp(source.gauss(0, noise))) for _ in range(n)
    ]


def test_nothing_seen_is_unknown_and_cold_is_longer_than_warm() -> None:
    cold, warm = (Starts().seconds(SMALL, is_cold=is_cold) for is_cold in (True, False))

    assert not cold.is_known
    assert not warm.is_known
    assert cold.p50 > warm.p50


def test_many_starts_speak_for_themselves() -> None:
    known = starts(seen(SMALL, 0.5, 40) + seen(LARGE, 5.0, 40))

    assert known.seconds(SMALL, is_cold=True).p50 == pytest.approx(0.5, rel=0.1)
    assert known.seconds(LARGE, is_cold=True).p50 == pytest.approx(5.0, rel=0.1)


def test_a_single_start_leans_on_the_other_resources() -> None:
    one = MeasuredStart(LARGE, True, 3.0)

    alone = starts([one]).seconds(LARGE, is_cold=True)
    pooled = starts([*seen(SMALL, 1.0, 20), *seen(OTHER, 1.0, 20), one]).seconds(
        LARGE, is_cold=True
    )

    assert alone.p50 == pytest.approx(3.0)
    assert 1.0 < pooled.p50 < 3.0
    assert pooled.source == "1 starts"


def test_resources_never_started_take_the_level_of_all_with_more_uncertainty() -> None:
    known = starts(seen(SMALL, 1.0, 30))

    new, old = known.seconds(LARGE, is_cold=True), known.seconds(SMALL, is_cold=True)

    assert new.p50 == pytest.approx(old.p50, rel=0.05)
    assert new.spread > old.spread
    assert new.is_known


def test_cold_and_warm_are_distinguished() -> None:
    known = starts(seen(SMALL, 1.0, 20) + seen(SMALL, 0.01, 20, cold=False))

    assert known.seconds(SMALL, is_cold=False).p50 == pytest.approx(0.01, rel=0.1)
    assert not starts(seen(SMALL, 1.0, 5)).seconds(SMALL, is_cold=False).is_known


def test_the_spread_is_that_of_the_starts() -> None:
    known = starts(seen(SMALL, 1.0, 300, noise=0.4))

    assert known.seconds(SMALL, is_cold=True).spread == pytest.approx(0.4, rel=0.15)
