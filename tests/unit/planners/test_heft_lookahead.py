"""HEFT with a look at what comes below."""

from __future__ import annotations

import pytest
from dagnb_planners.heft import Heft
from dagnb_planners.heft_lookahead import HeftLookahead

from dagnb.errors import ConfigError
from dagnb.planning.planner import LinearCost
from dagnb.simulation.simulate import outcome
from tests import graphs
from tests.unit.planners.prices import placed, problem


def test_a_task_waits_for_a_busy_worker_if_what_is_below_ends_sooner() -> None:
    """b (3 s) -> c (1 s)     fetching takes 4 s
    a (2 s) --/            HEFT: b on w0, a beside it on w1; c fetches a until 7 s, ends at 8 s
    a ------> x (1 s)      looking ahead: a after b on w0, c ends at 6 s, x at 7 s
    """
    asked = problem(
        graphs.drawn("a x", "b c", "a c"), 2, {"a": 2.0, "b": 3.0}, fetch=LinearCost(4.0)
    )

    ahead, plain = HeftLookahead(n_workers=2), Heft(n_workers=2)

    assert placed(plain, asked) == {"w0": "b c", "w1": "a x"}
    assert placed(ahead, asked) == {"w0": "b a x c"}
    assert outcome(plain.plan(asked), asked.costs, asked.pool).makespan_s == 8.0
    assert outcome(ahead.plan(asked), asked.costs, asked.pool).makespan_s == 7.0


def test_where_nothing_is_below_it_is_heft() -> None:
    asked = problem(
        graphs.fan_out(6), 3, {f"b{i}": float(i + 1) for i in range(6)}, fetch=LinearCost(1.0)
    )

    assert placed(HeftLookahead(n_workers=3), asked) == placed(Heft(n_workers=3), asked)


def test_no_workers_at_all_are_refused() -> None:
    with pytest.raises(ConfigError, match="n_workers=0"):
        HeftLookahead(n_workers=0)
