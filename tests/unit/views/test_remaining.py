"""The time left as a view asks for it: what it reads of a snapshot, and when it asks anew."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dagnb.forecast.time_left import RestOfRun
from dagnb.graph.dag import Dag
from dagnb.planning.plan import Plan, Step
from dagnb.planning.planner import Basis, Costs, Pool, Problem, Uncertainty
from dagnb.trace.trace import Phase
from dagnb.views.remaining import Remaining
from dagnb.views.snapshot import Snapshot
from tests import graphs
from tests.unit.views.samples import description_of, floating, run, snapped

CHAIN = graphs.chain(3)
PROBLEM = Problem(
    dag=CHAIN,
    costs=Costs(
        run_s={0: 2.0, 1: 6.0, 2: 2.0},
        basis=dict.fromkeys(range(3), Basis("4 samples")),
        uncertainty=Uncertainty(default_run=0.1, batch=0.4),
    ),
    pool=Pool(cap=1),
)


def planned(problem: Problem) -> Plan:
    """A plan of this problem, a step a task."""
    return replace(floating(problem.dag), problem=problem)


def moment(states: str, elapsed_s: float, **started: float) -> Snapshot:
    """A chain of three. started: a, b, c -> seconds after submission."""
    now = snapped(CHAIN, states, now=1_000.0 + elapsed_s)
    return replace(
        now, started={"abc".index(task): (1_000.0 + at, "w0") for task, at in started.items()}
    )


def remaining() -> Remaining:
    return Remaining(description_of(CHAIN), planned(PROBLEM))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of tasks done at each look at the rest of the run."""
    seen: list[int] = []
    left = RestOfRun.left

    def counted(self, progress, ran_s):  # type: ignore[no-untyped-def]
        seen.append(len(progress.done))
        return left(self, progress, ran_s)

    monkeypatch.setattr(RestOfRun, "left", counted)
    return seen


def p50(states: str, elapsed_s: float, **started: float) -> float:
    left = remaining().left(moment(states, elapsed_s, **started))
    assert left is not None
    return left.p50_s


def test_what_is_done_is_no_longer_left_however_late_it_was() -> None:
    assert p50("RWW", 0) == pytest.approx(10.0, rel=0.2)
    assert p50("DRW", 2) == pytest.approx(8.0, rel=0.2)
    assert p50("DRW", 9) == pytest.approx(8.0, rel=0.2)
    assert p50("DDR", 9) == pytest.approx(2.0, rel=0.2)


def test_a_running_task_is_left_for_the_part_that_it_has_not_run() -> None:
    assert p50("DXW", 5, b=2) == pytest.approx(5.0, rel=0.25)


def test_a_task_that_takes_longer_than_ever_is_not_about_to_end() -> None:
    assert p50("DDX", 60, c=10) > 5.0


def test_tasks_that_ended_twice_as_late_make_the_rest_longer() -> None:
    slow = replace(moment("DRW", 4), spans=(run(0, "w0", 0, 4), run(0, "w0", 4, 4, Phase.DUMP)))
    failed = replace(moment("DRW", 4), spans=(run(0, "w0", 0, 4),))
    usual = remaining().left(moment("DRW", 4))

    left, after_failure = remaining().left(slow), remaining().left(failed)

    assert left is not None
    assert usual is not None
    assert left.p50_s > 1.1 * usual.p50_s
    assert after_failure == usual


def test_it_is_asked_for_when_tasks_have_ended_or_a_part_of_the_time_has_passed(
    asked: list[int],
) -> None:
    known = remaining()

    first = known.left(moment("RWW", 0.0))
    soon = known.left(moment("RWW", 0.25))
    known.left(moment("RWW", 2.5))
    known.left(moment("DRW", 4.0))
    known.left(moment("DRW", 4.25))
    known.left(moment("DRW", 4.375))

    assert asked == [0, 0, 1]
    assert first is not None
    assert soon == first.later(0.25)


def test_a_wide_run_is_not_asked_for_at_each_task(asked: list[int]) -> None:
    wide = graphs.fan_out(999)
    basis = dict.fromkeys(range(1_000), Basis("4 samples"))
    costs = Costs(default_run_s=1e4, basis=basis)
    plan = planned(Problem(dag=wide, costs=costs, pool=Pool(cap=1)))
    known = Remaining(description_of(wide), plan)
    for n_done in range(200):
        states = "D" * n_done + "R" * (1_000 - n_done)
        known.left(snapped(wide, states, now=1_000.0 + 2 * n_done))

    assert asked == [0, 67, 134]  # each task has a function of its own, so looks take long


def test_a_view_of_many_functions_asks_seldom(asked: list[int]) -> None:
    names = [f"f{i}-0" for i in range(100)]
    dag = Dag.from_edges(names, [], functions=[name[:-2] for name in names])
    known = Remaining(description_of(dag))
    for n_done in range(60):
        states = "D" * n_done + "R" * (100 - n_done)
        known.left(snapped(dag, states, now=1_000.0 + n_done))

    assert len(asked) <= 60 // 13 + 1


def test_a_function_that_has_been_measured_is_unknown_no_more() -> None:
    """One task of a known function takes long, so the bound is far away when the other is known."""
    names = ["slow-0", *[f"draw-{i}" for i in range(99)]]
    dag = Dag.from_edges(names, [], functions=["slow", *["draw"] * 99])
    costs = Costs(run_s={0: 1_000.0}, basis={0: Basis("4 samples")})
    known = Remaining(description_of(dag), planned(Problem(dag=dag, costs=costs, pool=Pool(cap=4))))
    before = known.left(snapped(dag, "X" + "R" * 99, now=1_000.0))
    spans = (run(1, "w0", 0, 3), run(1, "w0", 3, 3, Phase.DUMP))
    now = snapped(dag, "XD" + "R" * 98, now=1_004.0)

    after = known.left(replace(now, spans=spans))

    assert before is not None
    assert after is not None
    assert (before.unknown, after.unknown) == (("draw",), ())


def test_costs_are_those_of_the_task_of_each_step_whatever_the_order_of_the_steps() -> None:
    dag = Dag.from_edges(["slow-0", "fast-0"], [], functions=["slow", "fast"])
    basis = dict.fromkeys(range(2), Basis("4 samples"))
    uncertainty = Uncertainty(default_run=0.1, batch=0.1)
    costs = Costs(run_s={0: 100.0, 1: 1.0}, basis=basis, uncertainty=uncertainty)
    steps = (Step(task=1, upstream=(), priority=0), Step(task=0, upstream=(), priority=1))
    problem = Problem(dag=dag, costs=costs, pool=Pool(cap=1))
    plan = Plan(dag=dag, steps=steps, planner="mine", problem=problem)
    fast_is_done = snapped(dag, "DR", now=1_001.0)

    left = Remaining(fast_is_done.description, plan).left(fast_is_done)

    assert left is not None
    assert left.p50_s == pytest.approx(100.0, rel=0.2)


def test_a_run_that_is_over_has_nothing_left() -> None:
    now = moment("DDD", 9)

    assert remaining().left(replace(now, seen=replace(now.seen, state="ok"))) is None
