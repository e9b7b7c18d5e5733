"""The price list."""

from __future__ import annotations

import pytest

from dagnb.graph.dag import Call, Dag
from dagnb.graph.options import TaskOptions
from dagnb.planning.planner import Costs, LinearCost, StartCost


def test_what_is_not_known_costs_the_default() -> None:
    costs = Costs(run_s={1: 2.0}, output_bytes={0: 0}, default_run_s=0.5, default_output_bytes=7)

    assert (costs.run(0), costs.run(1)) == (0.5, 2.0)
    assert (costs.output(0), costs.output(1)) == (0, 7)


def test_a_transfer_costs_its_latency_and_its_bytes_and_a_small_value_nothing() -> None:
    costs = Costs(
        fetch=LinearCost(0.5, 0.01),
        store=LinearCost(0.25, 0.01),
        inline_bytes=100,
        output_bytes={0: 200, 1: 100},
    )

    assert costs.fetching(2, [150, 200]) == pytest.approx(2.5)
    assert costs.fetching(2, [100]) == 0.0
    assert (costs.storing(0), costs.storing(1)) == (pytest.approx(2.25), 0.0)


def test_what_is_better_known_than_by_a_law_goes_first() -> None:
    known = {(0, "fetch"): 1.0, (0, "load"): 2.0, (0, "dump"): 3.0, (0, "store"): 4.0}
    costs = Costs(known_s=known, output_bytes={0: 10**6})

    assert (
        costs.fetching(0, [10**6]),
        costs.loading(0, 5),
        costs.dumping(0),
        costs.storing(0),
    ) == (1.0, 2.0, 3.0, 4.0)


def test_an_edge_may_carry_less_than_the_value() -> None:
    costs = Costs(output_bytes={0: 100}, edge_bytes={(0, 1): 30})

    assert (costs.edge(0, 1), costs.edge(0, 2)) == (30, 100)


def test_run_time_falls_with_resources_as_learnt() -> None:
    costs = Costs(run_s={0: 8.0, 1: 8.0}, scaling={0: (0.5, 1.0)})

    assert costs.run(0, (4.0, 2.0)) == pytest.approx(2.0)
    assert costs.run(1, (4.0, 2.0)) == 8.0


def test_a_start_is_the_sum_of_its_acts() -> None:
    start = StartCost(invoke_s=1.0, create_s=2.0, boot_s=3.0, import_s=4.0, register_s=5.0)

    assert start.total_s == 15.0
    assert start.times(2.0).total_s == 30.0


def test_hints_of_the_decorator_are_prices_and_zero_is_a_hint() -> None:
    """a -> b -> c     a has both hints, b that it takes no time, c none"""
    hints = (TaskOptions(time_s=3.0, output_bytes=50), TaskOptions(time_s=0.0), TaskOptions())
    calls = tuple(
        Call(name=name, function=name, upstream=(i - 1,) if i else (), options=options)
        for i, (name, options) in enumerate(zip("abc", hints, strict=True))
    )

    costs = Costs.hinted(Dag(calls, (2,)), default_run_s=9.0, commit_s=0.25)

    assert [costs.run(i) for i in range(3)] == [3.0, 0.0, 9.0]
    assert [costs.output(i) for i in range(3)] == [50, 1_000, 1_000]
    assert costs.commit_s == 0.25
    assert [costs.basis[i].text for i in range(3)] == ["hint of @task", "hint of @task", "unknown"]
