"""Equal calls: predicted from what they gave before, where sizes say nothing."""

from __future__ import annotations

import math
import random

import pytest

from dagnb.prediction import experts
from dagnb.prediction.experts import Calls, usual
from dagnb.prediction.function_model import FunctionModel
from dagnb.prediction.observation import Point, Sample, Target
from dagnb.prediction.predictor import Predictor
from dagnb.prediction.regression import FIXED
from dagnb.prediction.run_errors import TaskContribution

SECONDS = {"a": 0.2, "b": 1.0, "c": 5.0}


def sample(key: str, run_s: float, function: str = "f1", n_bytes: int = 1000) -> Sample:
    return Sample(
        function=function,
        name="f",
        input_bytes=n_bytes,
        output_bytes=10,
        load_s=1e-4,
        run_s=run_s,
        dump_s=1e-4,
        key=key,
    )


def taught(*runs: list[Sample]) -> Predictor:
    predictor = Predictor()
    for run in runs:
        predictor.learn(run)
    return predictor


def noisy(source: random.Random, sigma: float, function: str = "f1") -> list[Sample]:
    shared = math.exp(source.gauss(0, sigma))
    return [
        sample(key, s * shared * math.exp(source.gauss(0, 0.02)), function)
        for key, s in SECONDS.items()
    ]


def test_one_run_teaches_what_each_call_takes_though_all_read_as_much() -> None:
    known = taught(noisy(random.Random(1), 0.0))

    for key, seconds in SECONDS.items():
        estimate = known.predict(Target.RUN, "f1", "f", 1000, key=key)

        assert estimate.p50 == pytest.approx(seconds, rel=0.06)
        assert (estimate.is_same_call, estimate.is_known, estimate.source) == (
            True,
            True,
            "1 equal call",
        )
        assert estimate.p90 < 1.4 * estimate.p50


def test_a_call_never_seen_is_predicted_from_sizes() -> None:
    known = taught(*[noisy(random.Random(i), 0.0) for i in range(3)])

    estimate = known.predict(Target.RUN, "f1", "f", 1000, key="new")

    assert estimate == known.predict(Target.RUN, "f1", "f", 1000)
    assert not estimate.is_same_call
    assert estimate.spread > 2 * known.predict(Target.RUN, "f1", "f", 1000, key="a").spread


def test_every_quantity_is_known_by_call() -> None:
    known = taught([sample("a", 1.0), sample("b", 2.0)])

    for target in Target:
        assert known.predict(target, "f1", "f", 1000, key="a").is_same_call


def test_more_runs_tighten_the_spread_of_equal_calls() -> None:
    source = random.Random(3)
    spreads = []
    for n in (1, 6, 20):
        known = taught(*[noisy(source, 0.0) for _ in range(n)])
        spreads.append(known.predict(Target.RUN, "f1", "f", 1000, key="a").spread)

    assert spreads == sorted(spreads, reverse=True)
    assert spreads[-1] < 0.08


def test_the_misses_of_equal_calls_are_split_into_shared_and_own() -> None:
    source = random.Random(4)
    known = taught(*[noisy(source, 0.3) for _ in range(60)])

    estimate = known.batch_sigma("f1", "f", is_same_call=True)

    assert estimate.shared == pytest.approx(
        0.35, abs=0.1
    )  # of this run, and of those it is compared with
    assert estimate.own < 0.04


def test_keys_without_information_are_not_trusted_for_long() -> None:
    """The function takes any time whatever it is called with.

    What all calls take says more than the last of each.
    """
    source = random.Random(5)
    known = Predictor()
    for _ in range(12):
        known.learn([sample(f"k{i}", math.exp(source.gauss(0, 0.8))) for i in range(30)])

    assert not known.predict(Target.RUN, "f1", "f", 1000, key="k1").is_same_call


def test_calls_are_compared_on_those_calls_alone() -> None:
    """Unequal calls are predicted badly, which is no reason to trust equal ones more."""
    model = FunctionModel(Target.RUN)
    for i in range(8):
        fresh = [Point(1000, 3.0 * (j % 2), key=f"{i}/{j}") for j in range(10)]
        model = model.learnt([Point(1000, 1.0, key="same"), *fresh], float(i))

    assert model.calls.loss == pytest.approx(0.0)
    assert model.calls.other_loss < 8 * 1.0
    assert model.calls.is_trusted


def test_the_usual_value_is_neither_a_cold_first_nor_one_odd_run() -> None:
    slow_first = [Point(1, 3.0), Point(1, 1.0), Point(1, 1.1)]
    odd = [Point(1, 1.0), Point(1, 1.1), Point(1, 3.0)]

    assert usual(slow_first[:2], FIXED) == 1.0
    assert usual(slow_first, FIXED) == 1.1
    assert usual(odd, FIXED) == 1.1


def test_a_lasting_change_is_followed() -> None:
    known = taught(*[[sample("a", 1.0)]] * 4, *[[sample("a", 4.0)]] * 2)

    assert known.predict(Target.RUN, "f1", "f", 1000, key="a").p50 == pytest.approx(4.0)


def test_a_call_made_often_in_one_run_counts_once() -> None:
    estimate = Calls().learnt([Point(1, float(y), key="a") for y in range(9)])

    assert [p.y for p in estimate.of("a")] == [4.0]


def test_memory_is_bounded_and_drops_what_was_called_longest_ago(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(experts, "KEYS", 5)
    estimate = Calls()
    for i in range(20):
        estimate = estimate.learnt(
            [Point(1, float(i), key="always"), Point(1, 0.0, key=f"once {i}")]
        )

    assert set(estimate.seen) == {"always", "once 16", "once 17", "once 18", "once 19"}
    assert [p.y for p in estimate.of("always")] == [16.0, 17.0, 18.0, 19.0]


def test_changed_code_keeps_its_calls_with_more_uncertainty() -> None:
    known = taught(*[noisy(random.Random(i), 0.0) for i in range(5)])

    before = known.predict(Target.RUN, "f1", "f", 1000, key="c")
    after = known.predict(Target.RUN, "f2", "f", 1000, key="c")

    assert after.p50 == before.p50
    assert after.spread > before.spread + 0.2
    assert after.is_same_call
    assert after.source == "4 equal calls, of earlier code"


def test_changed_code_that_takes_as_long_goes_on_and_other_code_begins_anew() -> None:
    runs = [noisy(random.Random(i), 0.0) for i in range(5)]
    alike = taught(*runs, [sample("a", SECONDS["a"], "f2")])
    slower = taught(*runs, [sample("a", 9 * SECONDS["a"], "f2")])

    assert alike.predict(Target.RUN, "f2", "f", 1000, key="c").p50 == pytest.approx(
        SECONDS["c"], rel=0.06
    )
    assert slower.predict(Target.RUN, "f2", "f", 1000, key="a").p50 == pytest.approx(
        9 * SECONDS["a"]
    )
    assert not slower.predict(Target.RUN, "f2", "f", 1000, key="c").is_same_call


def test_equal_runs_teach_equal_calls_and_equal_totals() -> None:
    known, again = (taught(*[noisy(random.Random(i), 0.1) for i in range(5)]) for _ in range(2))

    for key in ("a", "new", ""):
        assert again.predict(Target.RUN, "f1", "f", 7, key=key) == known.predict(
            Target.RUN, "f1", "f", 7, key=key
        )
    tasks = [TaskContribution("f", 1.0, 0.1, True)]
    assert again.past_errors(tasks) == known.past_errors(tasks)


def test_calls_that_take_now_this_long_and_now_that_are_predicted_from_all_tasks() -> None:
    """Three in ten miss a cache, other ones in each run: a call's last times say nothing."""
    runs = []
    for number in range(10):
        source = random.Random(number)
        times = {f"k{i}": 20.0 if source.random() < 0.3 else 1.0 for i in range(40)}
        runs.append([sample(key, seconds) for key, seconds in times.items()])

    estimate = taught(*runs).predict(Target.RUN, "f1", "f", 1000, key="k7")

    assert not estimate.is_same_call
    assert estimate.p50 == pytest.approx(1.0)
