"""The time left of a run: what its own tasks say, tasks that still run, and unknown functions."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Mapping

import pytest

from dagnb.forecast.time_left import LARGE_STEPS, FunctionFactor, RestOfRun, TimeLeft
from dagnb.graph.dag import Dag
from dagnb.planning.planner import Basis, Costs, Pool, Uncertainty
from dagnb.simulation.list_schedule import ListSchedule, RunProgress
from tests.unit.forecast.past_runs import floating

MEASURED = Basis("4 samples")
CERTAIN = (-0.01, 0.0, 0.01)


def wide(n: int) -> Dag:
    """n independent tasks of one function."""
    names = [f"work-{i}" for i in range(n)]
    return Dag.from_edges(names, [], functions=["work"] * n)


def left(
    n: int,
    *,
    done: int = 0,
    ran_s: float = 1.0,
    running: Mapping[int, float] | None = None,
    is_known: bool = True,
    n_workers: int = 4,
) -> TimeLeft:
    """The time left of n tasks of a second each, of which the first ones are done."""
    basis = dict.fromkeys(range(n), MEASURED) if is_known else {}
    costs = Costs(
        default_run_s=1.0,
        basis=basis,
        uncertainty=Uncertainty(default_run=0.1, batch=0.3),
    )
    rest = RestOfRun(floating(wide(n)), costs, Pool(cap=n_workers))
    progress = RunProgress(done=set(range(done)), running=running or {}, n_workers=n_workers)
    return rest.left(progress, dict.fromkeys(range(done), ran_s))


@pytest.mark.parametrize("n", [40, 2 * LARGE_STEPS])
def test_the_rest_is_the_work_that_is_left_over_the_workers(n: int) -> None:
    half = left(n, done=n // 2)

    assert half.p50_s == pytest.approx(n / 8, rel=0.12)
    assert half.p10_s < half.p50_s < half.p90_s
    assert half.unknown == ()


@pytest.mark.parametrize("n", [40, 2 * LARGE_STEPS])
def test_tasks_that_took_three_times_as_long_make_the_rest_three_times_as_long(n: int) -> None:
    usual, slow = left(n, done=n // 2), left(n, done=n // 2, ran_s=3.0)

    assert slow.p50_s == pytest.approx(3 * usual.p50_s, rel=0.15)


def test_a_function_that_the_history_does_not_know_is_known_after_its_first_tasks() -> None:
    before, after = left(80, is_known=False), left(80, done=8, ran_s=5.0, is_known=False)

    assert before.unknown == ("work",)
    assert (before.p50_s, before.p90_s) == (math.inf, math.inf)
    assert before.p10_s < 0.5
    assert after.unknown == ()
    assert after.p50_s == pytest.approx(5.0 * 72 / 4, rel=0.2)


def test_without_the_tasks_of_unknown_functions_the_rest_is_a_lower_bound() -> None:
    names = ["known-0", "new-0"]
    dag = Dag.from_edges(names, [("known-0", "new-0")], functions=["known", "new"])
    costs = Costs(
        run_s={0: 8.0},
        basis={0: MEASURED},
        uncertainty=Uncertainty(default_run=0.1, batch=0.1),
    )
    rest = RestOfRun(floating(dag), costs, Pool(cap=1))

    bound = rest.left(RunProgress(done=set(), running={}, n_workers=1), {})

    assert bound.unknown == ("new",)
    assert 5.0 < bound.p10_s < 8.0


def test_a_task_that_has_run_for_longer_than_all_others_has_no_end_in_sight() -> None:
    late = left(8, done=7, running={7: 30.0})

    assert late.p50_s > 3.0


def test_the_first_tasks_to_end_do_not_stand_for_those_that_still_run() -> None:
    """Four of ten have ended, the quick ones; the others have run for twice as long already."""
    source = random.Random(5)
    own = sorted(source.gauss(0.0, 0.8) for _ in range(32))
    ended_only, both = (
        FunctionFactor(is_known=True, mean=0.0, sigma=1.0, own=own, ended=[-0.9, -0.7, -0.6, -0.5])
        for _ in range(2)
    )
    both.so_far = [0.1] * 6

    ended_only.learn()
    both.learn()

    assert both.mean > ended_only.mean + 0.3


def test_the_factor_is_surer_the_more_tasks_have_ended() -> None:
    sigmas = []
    for n in (1, 8, 64):
        factor = FunctionFactor(is_known=True, mean=0.0, sigma=0.5, own=CERTAIN, ended=[0.7] * n)
        factor.learn()
        assert factor.mean == pytest.approx(0.7, abs=0.1)
        sigmas.append(factor.sigma)

    assert sigmas == sorted(sigmas, reverse=True)


def test_what_a_running_task_still_takes_is_drawn_from_the_times_that_are_longer() -> None:
    """Of two modes, 1 s and 10 s, a task that has run for 2 s can only be in the second."""
    own = [0.0] * 16 + [math.log(10.0)] * 16
    factor = FunctionFactor(is_known=True, mean=0.0, sigma=0.001, own=own)
    chance = random.Random(1)

    early = [factor.left_s(0.5, 1.0, chance) for _ in range(400)]
    late = [factor.left_s(2.0, 1.0, chance) for _ in range(400)]

    assert statistics.fmean(seconds > 5.0 for seconds in early) == pytest.approx(0.5, abs=0.1)
    assert min(late) > 7.5
    assert max(late) < 8.5


def test_the_time_left_some_seconds_later_is_shorter_by_these_and_never_negative() -> None:
    assert TimeLeft(p10_s=1.0, p50_s=3.0, p90_s=math.inf, unknown=("f",)).later(2.0) == TimeLeft(
        p10_s=0.0, p50_s=1.0, p90_s=math.inf, unknown=("f",)
    )


def test_a_step_that_is_done_is_not_run_again_when_its_input_is() -> None:
    """c reads a and b; the bytes of a are lost after b, which takes long, is done."""
    names = ["a-0", "b-0", "c-0"]
    edges = [("a-0", "b-0"), ("a-0", "c-0"), ("b-0", "c-0")]
    dag = Dag.from_edges(names, edges, functions=["a", "b", "c"])
    costs = Costs(run_s={0: 1.0, 1: 100.0, 2: 1.0})
    schedule = ListSchedule(floating(dag), costs, Pool(cap=1))

    rest_s = schedule.rest_s(costs, RunProgress(done={1}, running={}, n_workers=1))

    assert rest_s == pytest.approx(2.0, abs=0.1)


def test_tasks_that_all_still_run_say_that_a_known_function_is_slow() -> None:
    """None of the first four tasks, of a second each, has ended after a minute."""
    slow = left(104, running=dict.fromkeys(range(4), 60.0))
    usual = left(104, running=dict.fromkeys(range(4), 0.1))

    assert usual.p50_s == pytest.approx(26.0, rel=0.2)
    assert slow.p50_s > 10 * usual.p50_s


def test_a_function_that_was_predicted_to_take_no_time_is_measured_all_the_same() -> None:
    costs = Costs(default_run_s=0.0, basis=dict.fromkeys(range(20), MEASURED))
    rest = RestOfRun(floating(wide(20)), costs, Pool(cap=4))

    after = rest.left(
        RunProgress(done=set(range(4)), running={}, n_workers=4), dict.fromkeys(range(4), 5.0)
    )

    assert after.p50_s > 5.0
