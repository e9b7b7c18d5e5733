"""The predictor: functions, names, hints, and what is unknown."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagnb.graph.options import TaskOptions
from dagnb.graph.resources import Resources
from dagnb.prediction.learnt import VERSIONS, Learnt
from dagnb.prediction.observation import Sample, Target
from dagnb.prediction.predictor import Predictor
from dagnb.prediction.run_errors import TaskContribution


def sample(
    function: str = "f1", run_s: float = 2.0, n_bytes: int = 1000, name: str = "", cpus: float = 0
) -> Sample:
    return Sample(
        function=function,
        name=name or function,
        resources=Resources(cpus=cpus) if cpus else Resources(),
        input_bytes=n_bytes,
        output_bytes=2 * n_bytes,
        load_s=n_bytes * 1e-8,
        run_s=run_s,
        dump_s=n_bytes * 2e-8,
    )


def taught(*runs: list[Sample]) -> Predictor:
    predictor = Predictor()
    for run in runs:
        predictor.learn(run)
    return predictor


random_samples = st.builds(
    sample,
    st.sampled_from(["f1", "f2", "f3"]),
    st.floats(0, 1e5),
    st.integers(0, 10**10),
    st.sampled_from(["f", "g"]),
    st.sampled_from([0.0, 1.0, 4.0]),
)
random_runs = st.lists(st.lists(random_samples, max_size=8), max_size=4)


def test_every_quantity_is_predicted_from_the_bytes_it_depends_on() -> None:
    known = taught(*[[sample(n_bytes=n) for n in (10**4, 10**5, 10**6)]] * 4)

    assert known.predict(Target.RUN, "f1", "f1", 10**5).p50 == pytest.approx(2.0)
    assert known.predict(Target.OUTPUT, "f1", "f1", 10**5).p50 == pytest.approx(2 * 10**5, rel=0.01)
    assert known.predict(Target.LOAD, "f1", "f1", 10**5).p50 == pytest.approx(1e-3, rel=0.01)
    assert known.predict(Target.DUMP, "f1", "f1", 2 * 10**5).p50 == pytest.approx(2e-3, rel=0.01)


def test_an_estimate_says_what_it_rests_on() -> None:
    estimate = taught([sample()] * 20, [sample()] * 11).predict(Target.RUN, "f1", "f1", 1000)

    assert estimate.is_known
    assert estimate.source == "31 samples, nearest sizes"
    assert 10 < estimate.n_samples < 31


def test_nothing_known_is_said_to_be_unknown_and_is_wide() -> None:
    estimate = Predictor().predict(Target.RUN, "f1", "f1", 1000)

    assert not estimate.is_known
    assert estimate.source == "unknown"
    assert estimate.p90 > 10 * estimate.p50 > 0


def test_an_unknown_function_leans_on_the_others_and_stays_unknown() -> None:
    others = [sample(f"g{i}", 100.0) for i in range(20)]

    estimate = taught(others).predict(Target.RUN, "f1", "f1", 1000)

    assert not estimate.is_known
    assert estimate.source == "unknown; as 20 other functions"
    assert estimate.p50 == pytest.approx(100.0, rel=0.3)
    assert estimate.spread < Predictor().predict(Target.RUN, "f1", "f1", 1000).spread


def test_a_hint_speaks_until_there_are_samples() -> None:
    options = TaskOptions(time_s=30.0, output_bytes=5000)

    estimate = Predictor().predict(Target.RUN, "f1", "f1", 1000, options=options)

    assert (estimate.p50, estimate.source, estimate.is_known, estimate.n_samples) == (
        pytest.approx(30.0),
        "hint of @task",
        True,
        5.0,
    )
    assert Predictor().predict(
        Target.OUTPUT, "f1", "f1", 1000, options=options
    ).p50 == pytest.approx(5000.0)
    assert not Predictor().predict(Target.LOAD, "f1", "f1", 1000, options=options).is_known


def test_samples_overrule_a_wrong_hint() -> None:
    options = TaskOptions(time_s=30.0, io="linear")
    known = taught(*[[sample(run_s=1.0)] * 10] * 4)

    assert known.predict(Target.RUN, "f1", "f1", 1000, options=options).p50 == pytest.approx(
        1.0, rel=0.1
    )


def test_a_hint_of_the_relation_extrapolates() -> None:
    known = taught([sample(run_s=1.0, n_bytes=10**4)] * 5)

    linear = known.predict(Target.RUN, "f1", "f1", 10**6, options=TaskOptions(io="linear")).p50
    constant = known.predict(Target.RUN, "f1", "f1", 10**6, options=TaskOptions(io="constant")).p50

    assert linear > 20 * constant


def test_changed_code_keeps_the_mean_with_a_wider_spread() -> None:
    known = taught(*[[sample("old", 3.0, name="work")] * 20] * 5)

    before = known.predict(Target.RUN, "old", "work", 1000)
    after = known.predict(Target.RUN, "new", "work", 1000)

    assert after.p50 == before.p50
    assert after.spread > before.spread + 0.2
    assert after.is_known
    assert after.source.endswith("of earlier code")


def test_changed_code_that_takes_as_long_inherits_its_history() -> None:
    known = taught(*[[sample("old", 3.0, name="work")] * 20] * 5, [sample("new", 3.0, name="work")])

    estimate = known.predict(Target.RUN, "new", "work", 1000)

    assert estimate.source.startswith("101 samples")
    assert estimate.p90 < 4.0


def test_changed_code_that_takes_much_longer_starts_anew() -> None:
    known = taught(
        *[[sample("old", 3.0, name="work")] * 20] * 5, [sample("new", 90.0, name="work")] * 3
    )

    estimate = known.predict(Target.RUN, "new", "work", 1000)

    assert estimate.p50 == pytest.approx(90.0)
    assert estimate.source.startswith("3 samples")
    assert known.predict(Target.RUN, "old", "work", 1000).p50 == pytest.approx(3.0)


def test_more_cpus_help_parallel_code_and_not_sequential_code() -> None:
    run = [sample("par", 8.0 / c, cpus=c) for c in (1, 2, 4)] + [
        sample("seq", 8.0, cpus=c) for c in (1, 2, 4)
    ]
    known = taught(*[run] * 4)

    def at(function: str, cpus: float) -> float:
        return known.predict(Target.RUN, function, function, 1000, Resources(cpus=cpus)).p50

    assert at("par", 1) == pytest.approx(8.0, rel=0.1)
    assert at("par", 8) == pytest.approx(1.0, rel=0.3)
    assert at("seq", 8) == pytest.approx(8.0, rel=0.2)


def test_sizes_of_results_do_not_depend_on_cpus() -> None:
    known = taught([sample(cpus=1)] * 5)

    one, many = (known.predict(Target.OUTPUT, "f1", "f1", 1000, Resources(cpus=c)) for c in (1, 16))

    assert one == many


def test_learning_changes_predictions_made_before() -> None:
    known = taught([sample(run_s=1.0)] * 10)
    assert known.predict(Target.RUN, "f1", "f1", 1000).p50 == pytest.approx(1.0)

    known.learn([sample(run_s=9.0)] * 10)
    known.learn([sample(run_s=9.0)] * 10)

    assert known.predict(Target.RUN, "f1", "f1", 1000).p50 == pytest.approx(9.0)


def test_acts_without_a_span_teach_nothing() -> None:
    known = taught([Sample(function="f1", name="f1", input_bytes=10, output_bytes=10, run_s=1.0)])

    assert known.predict(Target.RUN, "f1", "f1", 10).is_known
    assert not known.predict(Target.LOAD, "f1", "f1", 10).is_known


def test_the_shared_part_of_the_uncertainty_is_learnt() -> None:
    runs = [
        [sample(run_s=level * (1 + 0.001 * i)) for i in range(10)]
        for level in (1.0, 2.0, 0.7, 1.6, 1.0, 2.2)
    ]

    estimate = taught(*runs).batch_sigma("f1", "f1")

    assert estimate.shared > 2 * estimate.own
    assert Predictor().batch_sigma("f1", "f1").shared > 0


@settings(max_examples=25, deadline=None)
@given(random_runs)
def test_equal_runs_teach_equal_predictions_whatever_was_asked_in_between(
    runs: list[list[Sample]],
) -> None:
    known, again = taught(*runs), Predictor()
    for run in runs:
        again.predict(Target.RUN, "f1", "f", 10)
        again.learn(run)

    for function, name, n_bytes in (
        ("f1", "f", 10),
        ("f2", "g", 10**6),
        ("new", "g", 0),
        ("new", "new", 5),
    ):
        for target in Target:
            assert again.predict(target, function, name, n_bytes) == known.predict(
                target, function, name, n_bytes
            )


@settings(max_examples=25, deadline=None)
@given(random_runs, st.integers(0, 10**12), st.sampled_from(list(Target)))
def test_whatever_was_learnt_estimates_are_finite_and_ascend(
    runs: list[list[Sample]], n_bytes: int, target: Target
) -> None:
    estimate = taught(*runs).predict(target, "f1", "f", n_bytes, Resources(cpus=2, memory_mb=512))

    quantiles = [estimate.quantile(p) for p in (0.01, 0.1, 0.5, 0.9, 0.99)]

    assert all(0 <= low <= high * (1 + 1e-9) for low, high in pairwise(quantiles))
    assert quantiles[-1] < float("inf")


@settings(max_examples=20, deadline=None)
@given(random_runs, st.randoms(use_true_random=False))
def test_the_order_of_samples_in_a_run_does_not_matter(
    runs: list[list[Sample]], source: random.Random
) -> None:
    mixed = [source.sample(run, len(run)) for run in runs]
    one, other = taught(*runs), taught(*mixed)

    for function in ("f1", "f2", "f3"):
        estimate = one.predict(Target.RUN, function, function, 77).p90
        assert estimate == pytest.approx(other.predict(Target.RUN, function, function, 77).p90)


def test_a_hint_stays_until_another_is_given() -> None:
    known = taught([sample(run_s=1.0, n_bytes=10**4)] * 5)
    plain = known.predict(Target.RUN, "f1", "f1", 10**6)

    hinted = known.predict(Target.RUN, "f1", "f1", 10**6, options=TaskOptions(io="linear"))

    assert hinted.p50 > plain.p50
    assert known.predict(Target.RUN, "f1", "f1", 10**6, options=TaskOptions()) == plain


def test_an_estimate_names_the_expert_that_made_it() -> None:
    known = taught([sample()] * 3)

    assert known.predict(Target.RUN, "f1", "f1", 1000).basis.expert == "nearest sizes"
    assert known.predict(Target.RUN, "new", "new", 1000).basis.expert == ""


@settings(max_examples=25, deadline=None)
@given(random_runs, random_runs)
def test_a_predictor_goes_on_from_what_another_one_has_packed(
    runs: list[list[Sample]], later: list[list[Sample]]
) -> None:
    known, other = taught(*runs), Predictor()
    for name in ("f", "g"):
        other.put(name, Learnt.unpack(known.known(name).pack()))

    assert [other.known(name) for name in "fg"] == [known.known(name) for name in "fg"]
    for number, run in enumerate(later, len(runs) + 1):
        known.learn(run, number=number)
        other.learn(run, number=number)
    assert [other.known(name) for name in "fg"] == [known.known(name) for name in "fg"]
    for target in Target:
        assert other.predict(target, "f1", "f", 10) == known.predict(target, "f1", "f", 10)


def test_errors_of_a_run_are_joined_whenever_its_functions_are_learnt() -> None:
    runs = [[sample("f1", 2.0**i, name="f"), sample("g1", 3.0**i, name="g")] for i in range(6)]
    together, apart = Predictor(), Predictor()
    for number, run in enumerate(runs):
        together.learn(run, f"r{number}", number)
    for one in (0, 1):
        for number, run in enumerate(runs):
            apart.learn([run[one]], f"r{number}", number)
    both = [TaskContribution("f", 1.0, 0.1, False), TaskContribution("g", 2.0, 0.1, False)]

    assert apart.past_errors(both) == together.past_errors(both)
    assert {len(past.by_function) for past in apart.past_errors(both)[0]} == {0, 2}


def test_of_old_versions_of_a_function_only_the_last_ones_stay_known() -> None:
    known = taught(*[[sample(f"version {i}", name="f")] for i in range(VERSIONS + 5)])

    functions = {function for _, function in known.known("f").models}

    assert functions == {f"version {i}" for i in range(5, VERSIONS + 5)}


def test_a_function_that_was_renamed_is_known_by_its_code() -> None:
    known = taught([sample("f1", 7.0, name="before")])

    assert known.predict(Target.RUN, "f1", "after", 1000).p50 == pytest.approx(7.0)
