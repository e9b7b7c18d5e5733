"""Failures of attempts: how likely they are, and for how long they run."""

from __future__ import annotations

import random
import statistics
from dataclasses import replace

import pytest

from dagnb.graph.resources import Resources
from dagnb.planning.failure_law import FailureLaw
from dagnb.prediction.failures import FailureModel
from dagnb.prediction.learnt import Learnt
from dagnb.prediction.observation import Sample, samples
from dagnb.prediction.predictor import Predictor
from dagnb.trace.trace import Phase, Span, Trace

OK = Sample(function="f1", name="f", input_bytes=10, output_bytes=10, run_s=2.0)


def failed(*run_s: float, back_off_s: float = 0.5, last_s: float = 2.0) -> Sample:
    return replace(OK, run_s=last_s, failed=tuple((seconds, back_off_s) for seconds in run_s))


def taught(*runs: list[Sample]) -> FailureModel:
    model = FailureModel()
    for run in runs:
        model = model.learnt(run)
    return model


def law_of(model: FailureModel) -> FailureLaw:
    law = model.law()
    assert law is not None
    return law


def test_a_function_that_never_failed_has_no_law() -> None:
    assert taught(*[[OK] * 8] * 5).law() is None
    assert FailureModel().law() is None


def test_a_task_without_retries_has_no_law() -> None:
    assert taught([failed(1.0)]).law(0) is None


def test_many_attempts_give_the_share_of_failures() -> None:
    """One attempt in ten fails, in each of eight runs of 400 attempts."""
    chances = taught(*[[OK] * 320 + [failed(1.0)] * 40] * 8).chances

    assert statistics.fmean(chances) == pytest.approx(0.1, abs=0.005)
    assert chances[0] > 0.05
    assert chances[-1] < 0.16


def test_few_attempts_are_shrunk_towards_the_prior() -> None:
    """One failure in two attempts is no evidence that half of them fail."""
    assert statistics.fmean(taught([failed(1.0)]).chances) == pytest.approx(1.5 / 12, abs=0.01)


def test_runs_that_differ_make_the_next_one_less_sure() -> None:
    """Attempts fail by the dozen on a day when a service is down, or in each run some."""
    alike = taught(*[[OK] * 38 + [failed(1.0)] * 2] * 8)
    apart = taught(*[[OK] * 40] * 7, [OK] * 24 + [failed(1.0)] * 16)

    assert statistics.fmean(alike.chances) == pytest.approx(
        statistics.fmean(apart.chances), abs=0.05
    )
    assert statistics.pstdev(apart.chances) > 2 * statistics.pstdev(alike.chances)


def test_failures_that_stopped_are_forgotten() -> None:
    bad = [[failed(1.0)] * 4] * 4
    since = [[OK] * 4] * 30

    few, many = taught(*bad, *since[:2]), taught(*bad, *since)

    assert statistics.fmean(many.chances) < 0.3 * statistics.fmean(few.chances)
    assert taught(*bad, *since, *since).law() is None


def test_a_time_limit_ends_attempts_after_as_long_whatever_they_compute() -> None:
    law = law_of(taught([failed(3.0, last_s=last_s) for last_s in (0.5, 1.0, 2.0)]))

    assert not law.is_share
    assert law.usual(1, run_s=100.0) == ((pytest.approx(3.0), 0.5),)


def test_attempts_that_fail_half_way_take_longer_where_the_task_does() -> None:
    law = law_of(taught([failed(last_s / 2, last_s=last_s) for last_s in (0.5, 4.0, 20.0)]))

    assert law.is_share
    assert law.usual(1, run_s=100.0) == ((pytest.approx(50.0), 0.5),)


def test_code_that_changed_is_expected_to_fail_as_before_but_less_surely() -> None:
    known = Predictor()
    for _ in range(4):
        known.learn([OK] * 36 + [failed(1.0)] * 4)

    before, after = known.failure_model("f1", "f"), known.failure_model("f2", "f")

    assert statistics.fmean(after.chances) == pytest.approx(
        statistics.fmean(before.chances), abs=0.01
    )
    assert statistics.pstdev(after.chances) > 1.2 * statistics.pstdev(before.chances)
    assert known.failure_model("f2", "g").law() is None


def test_failures_are_known_again_from_the_packed_state() -> None:
    known = Learnt().learnt([OK] * 3 + [failed(1.0, 2.5)], "r1", 1)

    again = Learnt.unpack(known.pack())

    assert again == known
    assert again.failure_model("f1").runs == ((6, 2, 1.0),)
    assert again.failure_model("f1").law() == known.failure_model("f1").law()


@pytest.mark.parametrize(("is_reported", "failed"), [(True, ((1.0, 1.5),)), (False, ())])
def test_an_attempt_counts_where_its_worker_reported_it_and_not_where_that_died(
    is_reported: bool, failed: tuple[tuple[float, float], ...]
) -> None:
    spans = [
        Span(0, "w0", Phase.RUN, 0.0, 1.0),
        Span(0, "w1", Phase.QUEUE, 3.0, 3.1, attempt=2),
        Span(0, "w1", Phase.RUN, 3.1, 5.0, attempt=2),
        Span(0, "w1", Phase.DUMP, 5.0, 5.1, attempt=2),
        Span(0, "w1", Phase.COMMIT, 5.1, 5.6, attempt=2),
    ]
    if is_reported:
        spans.append(Span(0, "w0", Phase.COMMIT, 1.0, 1.5, detail="failed"))
    trace = Trace.of(spans, ["f-0"], submitted_s=0.0, finished_s=5.6)

    (sample,) = samples(trace, ["f1"], ["f"], [Resources()], [])

    assert list(sample.failed) == [pytest.approx(attempt) for attempt in failed]


def test_the_failures_of_a_task_are_as_many_as_the_law_expects_and_at_most_its_retries() -> None:
    law = FailureLaw(
        chances=(0.4, 0.6), seconds=(1.0, 3.0), is_share=False, back_offs=((1.0,), (2.0,)), most=2
    )
    source = random.Random(1)

    drawn = [law.drawn(chance, 9.0, source) for chance in law.chances for _ in range(4_000)]

    assert law.mean_failures == pytest.approx((0.4 + 0.16 + 0.6 + 0.36) / 2)
    assert statistics.fmean(map(len, drawn)) == pytest.approx(law.mean_failures, rel=0.03)
    assert {len(task) for task in drawn} == {0, 1, 2}
    assert {seconds for task in drawn for seconds, _ in task} == {1.0, 3.0}
    assert {task[1][1] for task in drawn if len(task) == 2} == {2.0}


@pytest.mark.parametrize("n_ok", [20, 1_000])
@pytest.mark.parametrize("last", [[failed(1.0)], [OK] * 9 + [failed(1.0)], [failed(*[1.0] * 5)]])
def test_a_small_run_that_failed_does_not_make_all_attempts_alike(
    n_ok: int, last: list[Sample]
) -> None:
    law = law_of(taught([OK] * n_ok, last))

    assert statistics.fmean(law.chances) < 0.2
    assert law.mean_failures < 0.6


def test_runs_that_failed_as_a_whole_still_leave_a_law() -> None:
    law = law_of(taught(*[[OK] * 100, [failed(*[1.0] * 100)]] * 5))

    assert 0.0 < min(law.chances) < max(law.chances) < 1.0


def test_any_history_of_rare_failures_has_a_law() -> None:
    source = random.Random(3)
    for _ in range(200):
        runs = []
        for _ in range(source.randint(1, 20)):
            n = source.choice([1, 2, 10, 100, 1_000])
            tasks = [failed(1.0) if source.random() < 0.005 else OK for _ in range(n)]
            runs.append(tasks)
        law = taught(*runs).law()
        assert law is None or 0.0 < statistics.fmean(law.chances) < 0.5


def test_no_policy_lets_a_plan_count_on_more_than_ten_failures_of_a_task() -> None:
    law = taught([OK] * 20, [failed(*[1.0] * 5)]).law(1_000, [[1.0]])

    assert law is not None
    assert law.most == 10
