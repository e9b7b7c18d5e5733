"""A run of the past as a problem to plan again: which tasks it has, and at what prices."""

from __future__ import annotations

from pathlib import Path

import pytest

from dagnb.errors import ConfigError
from dagnb.forecast.knowledge import Knowledge
from dagnb.forecast.past import MEASURED, Past, changed
from dagnb.graph.resources import DEFAULT, Resources
from dagnb.planning.planner import UNKNOWN, Costs, LinearCost, Pool, Problem, StartCost, Uncertainty
from dagnb.protocol.messages import RunState
from dagnb.protocol.run_description import RunDescription
from dagnb.run_history.history import History
from dagnb.simulation.simulate import simulate
from tests import graphs

POOL = Pool(cap=2)
PRICES = Costs(run_s={0: 1.0, 1: 2.0, 2: 3.0}, output_bytes={0: 50_000, 1: 50_000, 2: 7})


@pytest.fixture
def nothing(tmp_path: Path) -> Knowledge:
    """An empty history."""
    return Knowledge(History(tmp_path / "history.sqlite"))


@pytest.fixture
def copied() -> Past:
    """a -> b read from a copy of a, which took longer; a' -> b"""
    description = RunDescription(
        name="copied",
        planner="somebody",
        names=("a-0", "a-0'", "b-0"),
        functions=("a", "a", "b"),
        upstream=((), (), (1,)),
        sinks=(2,),
        is_single=True,
        platform="inline",
        pool=POOL,
    )
    return Past(
        run="r",
        description=description,
        state=RunState.OK,
        trace=simulate(description.plan, PRICES, POOL),
    )


def test_copies_that_a_plan_made_are_not_planned_again(copied: Past) -> None:
    """a -> b"""
    assert [call.name for call in copied.dag.calls] == ["a-0", "b-0"]
    assert [call.upstream for call in copied.dag.calls] == [(), (0,)]
    assert copied.dag.sinks == (1,)


def test_each_task_costs_what_its_first_step_did(copied: Past, nothing: Knowledge) -> None:
    costs = copied.measured(nothing).costs

    assert dict(costs.run_s) == pytest.approx({0: 1.0, 1: 3.0})
    assert dict(costs.output_bytes) == {0: 50_000, 1: 7}
    assert dict(costs.basis) == {0: MEASURED, 1: MEASURED}
    assert costs.uncertainty.is_certain


def test_the_pool_is_the_one_that_was_planned_for(copied: Past, nothing: Knowledge) -> None:
    assert copied.measured(nothing).pool == copied.predicted(nothing).pool == POOL


def test_where_nothing_is_known_what_is_predicted_is_said_to_be_unknown(
    copied: Past, nothing: Knowledge
) -> None:
    costs = copied.predicted(nothing).costs

    assert dict(costs.basis) == {0: UNKNOWN, 1: UNKNOWN}
    assert not costs.uncertainty.is_certain


def test_arguments_are_what_was_unpickled_beside_the_values_of_others(
    copied: Past, nothing: Knowledge
) -> None:
    assert dict(copied.predicted(nothing).costs.argument_bytes) == {0: 0, 1: 0}


# ---- what if ----

BIG = Resources(memory_mb=512)
PROBLEM = Problem(
    dag=graphs.chain(2),
    costs=Costs(
        known_s={(0, "fetch"): 1.0, (0, "load"): 2.0, (0, "store"): 3.0},
        fetch=LinearCost(0.5, 0.1),
        store=LinearCost(0.25, 0.1),
        starts={(BIG, True): StartCost(invoke_s=1.0), (BIG, False): StartCost(invoke_s=5.0)},
        start_series=(StartCost(invoke_s=9.0),),
        uncertainty=Uncertainty(batch=0.3),
    ),
    pool=Pool(cap=4, eager=False),
)


def test_nothing_changes_that_was_not_asked_for() -> None:
    assert changed(PROBLEM) == PROBLEM


def test_another_cap_is_that_of_the_pool() -> None:
    result = changed(PROBLEM, cap=7)

    assert (result.pool, result.costs) == (Pool(cap=7, eager=False), PROBLEM.costs)


def test_other_cold_starts_are_so_long_for_all_resources_and_leave_warm_ones() -> None:
    costs = changed(PROBLEM, cold_s=2.5).costs

    assert [costs.start(r, is_warm=False).total_s for r in (BIG, DEFAULT)] == [2.5, 2.5]
    assert costs.start(BIG, is_warm=True).total_s == 1.0
    assert costs.start_series == ()


def test_other_transfers_keep_their_latency_and_forget_what_was_measured() -> None:
    costs = changed(PROBLEM, bytes_per_s=1_000.0).costs

    assert (costs.fetch, costs.store) == (LinearCost(0.5, 0.001), LinearCost(0.25, 0.001))
    assert dict(costs.known_s) == {(0, "load"): 2.0}


@pytest.mark.parametrize(
    ("changes", "least"), [({"cap": 0}, 1), ({"cold_s": -0.1}, 0), ({"bytes_per_s": 0.5}, 1)]
)
def test_what_cannot_be_is_refused(changes: dict[str, float], least: int) -> None:
    with pytest.raises(ConfigError, match=f"must be {least} or more"):
        changed(PROBLEM, **changes)  # type: ignore[arg-type]  # the wrong values are the test
