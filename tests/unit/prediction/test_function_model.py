"""Function models: which expert predicts, how wide, and what is forgotten."""

from __future__ import annotations

import math
import random

import pytest

from dagnb.prediction.estimate import Estimate, error_sigma
from dagnb.prediction.function_model import FunctionModel
from dagnb.prediction.observation import POINTS, Point, Target, appended, thinned
from dagnb.prediction.regression import Prior

DAY_S = 86_400.0


def run(pairs: list[tuple[int, float]]) -> list[Point]:
    return [Point(n_bytes, math.log(value)) for n_bytes, value in pairs]


def taught(*runs: list[tuple[int, float]], model: FunctionModel | None = None) -> FunctionModel:
    result = model or FunctionModel(Target.RUN)
    for pairs in runs:
        result = result.learnt(run(pairs), 0.0)
    return result


def at(model: FunctionModel, n_bytes: int) -> Estimate:
    return model.estimate(n_bytes, None, None)


def sizes(seed: int, low: float = 3, high: float = 6, n: int = 20) -> list[int]:
    source = random.Random(seed)
    return [int(10 ** source.uniform(low, high)) for _ in range(n)]


def law(value: float, exponent: float, bend: float = 0.0) -> FunctionModel:
    """Five runs that obey value * (bytes + bend) ** exponent, with 2 % noise."""
    source = random.Random(1)
    return taught(
        *(
            [
                (s, value * (s + bend) ** exponent * math.exp(source.gauss(0, 0.02)))
                for s in sizes(k)
            ]
            for k in range(5)
        )
    )


def test_constant_times_give_a_tight_estimate() -> None:
    model = taught(*[[(1000, 2.0)] * 20 for _ in range(10)])

    assert at(model, 1000).p50 == pytest.approx(2.0)
    assert at(model, 1000).p90 == pytest.approx(2.0, rel=0.05)


def test_constant_times_of_single_tasks_become_tight_too() -> None:
    model = taught(*[[(1000, 2.0)] for _ in range(60)])

    assert at(model, 1000).p90 == pytest.approx(2.0, rel=0.2)


def test_the_more_runs_the_tighter() -> None:
    spreads = [at(taught(*[[(1000, 2.0)] * 20 for _ in range(n)]), 1000).spread for n in (1, 3, 10)]

    assert spreads == sorted(spreads, reverse=True)
    assert spreads[0] > 0.2


@pytest.mark.parametrize(
    ("exponent", "value"), [(1.0, 1e-5), (0.0, 3.0), (0.5, 1e-3), (2.0, 1e-10)]
)
def test_laws_of_growth_are_found_and_hold_beyond_the_sizes_seen(
    exponent: float, value: float
) -> None:
    model = law(value, exponent)

    estimate = at(model, 10**8)

    assert estimate.p50 == pytest.approx(value * 1e8**exponent, rel=0.25)
    assert at(model, 10**5).p50 == pytest.approx(value * 1e5**exponent, rel=0.15)


def test_an_affine_law_is_flat_for_small_and_linear_for_large_sizes() -> None:
    source = random.Random(2)
    model = taught(
        *(
            [(s, 1e-6 * (s + 1e6) * math.exp(source.gauss(0, 0.02))) for s in sizes(k, 3, 8)]
            for k in range(5)
        )
    )

    assert at(model, 10).p50 == pytest.approx(1.0, rel=0.15)
    assert at(model, 10**9).p50 == pytest.approx(1000.0, rel=0.3)


def test_sizes_never_seen_widen_the_estimate() -> None:
    model = law(1e-5, 1.0)

    assert at(model, 10**9).spread > at(model, 10**7).spread > at(model, 10**5).spread


def test_what_happened_last_counts_most() -> None:
    model = taught(*[[(1000, 1.0)] * 20] * 6, *[[(1000, 8.0)] * 20] * 2)

    assert at(model, 1000).p50 == pytest.approx(8.0, rel=0.05)


def test_a_jump_of_the_past_stays_in_the_spread() -> None:
    jumped = taught(*[[(1000, 1.0)] * 20] * 3, *[[(1000, 8.0)] * 20] * 3)
    steady = taught(*[[(1000, 8.0)] * 20] * 6)

    assert at(jumped, 1000).p90 > 1.5 * at(steady, 1000).p90


def test_old_runs_count_less_by_time_too() -> None:
    """A level that wanders is averaged.

    Of two equal histories the one with an older past believes it less.
    """
    pairs = [[(1000, value)] for value in (1.0, 1.0, 1.0, 1.0, 4.0)]
    models = []
    for pause_s in (0.0, 200 * DAY_S):
        model = FunctionModel(Target.RUN)
        for i, one in enumerate(pairs):
            model = model.learnt(run(one), i * pause_s)
        models.append(model.fit.experts[-1].at(1000))

    assert math.exp(models[0]) < 2.0
    assert math.exp(models[1]) > 3.5


def test_tasks_of_a_large_run_count_like_ten_at_most() -> None:
    assert thinned(run([(1, 1.0)]), 0.0).weight == 1
    assert thinned(run([(1, 1.0)] * 250), 0.0).weight == pytest.approx(9.65, abs=0.01)
    assert thinned(run([(1, 1.0)] * 10**5), 0.0).weight < 10


def test_memory_is_bounded_and_keeps_the_newest() -> None:
    model = FunctionModel(Target.RUN)
    for i in range(100):
        model = model.learnt(run([(k, 1.0 + k) for k in range(100)]), float(i))

    assert len(model.batches) <= 10
    assert model.batches[-1].ended_at == 99
    assert all(len(batch.points) <= POINTS for batch in model.batches)


def test_two_runs_are_always_kept() -> None:
    large = thinned(run([(1, 1.0)] * 10**4), 0.0)
    kept = (large,)

    for _ in range(20):
        kept = appended(kept, large)

    assert len(kept) >= 2


def test_the_order_of_tasks_in_a_run_does_not_matter() -> None:
    pairs = [(s, 1e-5 * s) for s in sizes(3, n=100)]
    mixed = random.Random(4).sample(pairs, len(pairs))

    assert taught(pairs, pairs) == taught(mixed, mixed)


def test_equal_sizes_give_their_median_however_many_there_are() -> None:
    values = [float(value) for value in range(1, 102)]

    model = taught([(1000, value) for value in values])

    assert at(model, 1000).p50 == pytest.approx(51.0, rel=0.15)


@pytest.mark.parametrize("tasks", [1, 30])
def test_quantiles_cover_what_they_say_on_runs_that_differ(tasks: int) -> None:
    source = random.Random(7)
    below = {0.1: 0, 0.5: 0, 0.9: 0}
    scored, model = 0, FunctionModel(Target.RUN)
    for i in range(160):
        level = source.gauss(0, 0.3)
        pairs = [
            (s, 1e-3 * s**0.6 * math.exp(level + source.gauss(0, 0.2))) for s in sizes(i, n=tasks)
        ]
        if i >= 20:
            for n_bytes, value in pairs:
                estimate = at(model, n_bytes)
                below = {p: hits + (value <= estimate.quantile(p)) for p, hits in below.items()}
                scored += 1
        model = model.learnt(run(pairs), 0.0)

    assert below[0.9] / scored == pytest.approx(0.9, abs=0.05)
    assert below[0.5] / scored == pytest.approx(0.5, abs=0.08)
    assert below[0.1] / scored == pytest.approx(0.1, abs=0.06)


def test_misses_are_split_into_what_a_run_shares_and_what_is_each_tasks_own() -> None:
    source = random.Random(9)
    model = FunctionModel(Target.RUN)
    for _ in range(40):
        level = source.gauss(0, 0.5)
        model = model.learnt(
            run([(1000, math.exp(level + source.gauss(0, 0.1))) for _ in range(100)]), 0.0
        )

    result = error_sigma(model.batches)

    assert result.own == pytest.approx(0.1, rel=0.2)
    assert result.shared > 0.3
    assert result.correlation > 0.9


def test_a_hint_of_the_relation_decides_where_data_cannot() -> None:
    seen = [[(10**4, 1.0)] * 5]

    linear, constant = (
        taught(*seen, model=FunctionModel(Target.RUN, Prior(r, s, 0.1)))
        for r, s in (("linear", 1.0), ("constant", 0.0))
    )

    assert at(linear, 10**6).p50 > 40
    assert at(constant, 10**6).p50 < 2


def test_a_hint_of_the_exponent_is_followed() -> None:
    model = taught([(10**4, 1.0)] * 5, model=FunctionModel(Target.RUN, Prior("power", 2.0, 0.1)))

    assert at(model, 10**5).p50 == pytest.approx(100.0, rel=0.4)


def test_data_overrule_a_wrong_hint() -> None:
    runs = [[(s, 1e-5 * s) for s in sizes(k)] for k in range(4)]

    model = taught(
        *runs,
        model=FunctionModel(
            Target.RUN, Prior("constant", 0.0, 0.1, level=math.log(100.0), count=5.0)
        ),
    )

    assert at(model, 10**4).p50 == pytest.approx(0.1, rel=0.1)
    assert at(model, 10**7).p50 == pytest.approx(100.0, rel=0.1)


def test_sizes_of_zero_are_predicted_as_zero() -> None:
    model = FunctionModel(Target.OUTPUT)
    for _ in range(5):
        model = model.learnt([Point(0, math.log(0 + 1))] * 10, 0.0)

    assert at(model, 0).p50 == 0.0
    assert at(model, 0).p90 == pytest.approx(0.0, abs=0.2)
