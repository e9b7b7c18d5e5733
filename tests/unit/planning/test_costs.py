"""The price list."""

from __future__ import annotations

import pytest

from dagnb.graph.dag import Call, Dag
from dagnb.graph.task import TaskOptions
from dagnb.planning.costs import Costs


def test_what_is_not_known_costs_the_default() -> None:
    costs = Costs(run_s={1: 2.0}, output_bytes={0: 0}, default_run_s=0.5, default_output_bytes=7)

    assert (costs.run(0), costs.run(1)) == (0.5, 2.0)
    assert (costs.output(0), costs.output(1)) == (0, 7)


def test_a_transfer_costs_its_latency_and_its_bytes() -> None:
    costs = Costs(latency_s=0.5, bytes_per_s=100)

    assert costs.transfer(0) == 0.5
    assert costs.transfer(200) == pytest.approx(2.5)


def test_hints_of_the_decorator_are_prices_and_zero_is_a_hint() -> None:
    """a -> b -> c     a has both hints, b that it takes no time, c none"""
    hints = (TaskOptions(time_s=3.0, output_bytes=50), TaskOptions(time_s=0.0), TaskOptions())
    calls = tuple(
        Call(name=name, function=name, upstream=(i - 1,) if i else (), options=options)
        for i, (name, options) in enumerate(zip("abc", hints, strict=True))
    )

    costs = Costs.hinted(Dag(calls, (2,)), default_run_s=9.0, latency_s=0.25)

    assert [costs.run(i) for i in range(3)] == [3.0, 0.0, 9.0]
    assert [costs.output(i) for i in range(3)] == [50, 1_000, 1_000]
    assert costs.latency_s == 0.25
