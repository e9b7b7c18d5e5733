"""`plan.check(strict=True)`: unbroken branches that begin together, and the least counter-example."""

from __future__ import annotations

import pytest

from dagnb.errors import ChainRuleError, InvalidPlanError
from dagnb.planning.plan import Plan
from tests import graphs
from tests.unit.planning.test_check import changed, pinned

THREE_BRANCHES = pinned(
    graphs.drawn(*(f"split left-{i} away-{i} back-{i} join" for i in range(3))),
    "split:w0 left-0:w0 left-1:w0 left-2:w0 away-0:w1 away-1:w2 away-2:w3 "
    "back-0:w0 back-1:w0 back-2:w0 join:w0",
)
"""split:w0 -> left-i:w0 -> away-i:w1.. -> back-i:w0 -> join:w0, three times"""


def broken(plan: Plan) -> ChainRuleError:
    with pytest.raises(ChainRuleError) as caught:
        plan.check(strict=True)
    return caught.value


def test_a_reopened_branch_is_refused_with_the_three_tasks_that_show_it_and_the_cure() -> None:
    error = broken(THREE_BRANCHES)

    assert error.worker == "w0"
    assert error.tasks == ("left-0", "away-0", "back-0")
    assert error.n_more == 2
    assert str(error) == (
        "the plan of 'by hand' breaks the chain rule: worker 'w0' leaves its branch after 'left-0' "
        "and opens it again at 'back-0', which needs 'away-0' from elsewhere. Pin 'away-0' to 'w0' "
        "as well, or 'back-0' to another worker, or let 'back-0' float. "
        "2 more branches break the rule. "
        "`plan.chain_break` shows it on the picture of the plan."
    )


def test_a_plan_that_breaks_the_rule_is_an_invalid_plan_only_where_strict_is_asked_for() -> None:
    assert [advice.worker for advice in THREE_BRANCHES.check()] == []
    with pytest.raises(InvalidPlanError):
        THREE_BRANCHES.check(strict=True)


@pytest.mark.parametrize(
    "cure",
    [
        "split:w0 left-0:w0 away-0:w0 back-0:w0 join:w0",  # what lies between is pinned, too
        "split:w0 left-0:w0 away-0:w1 back-0:w2 join:w2",  # another worker
        "split:w0 left-0:w0 away-0:w1",  # floating
    ],
)
def test_each_cure_that_the_error_names_cures(cure: str) -> None:
    pinned(graphs.drawn("split left-0 away-0 back-0 join"), cure).check(strict=True)


def test_a_long_way_round_names_all_that_would_have_to_be_pinned_and_shows_three() -> None:
    """a:w0 -> x -> y:w1 -> z -> b:w0"""
    error = broken(pinned(graphs.drawn("a x y z b"), "a:w0 y:w1 b:w0"))

    assert error.tasks == ("a", "z", "b")
    assert "Pin 'x', 'y' and 'z' to 'w0' as well" in str(error)


def test_branches_of_two_origins_are_refused() -> None:
    """x:w1 -> p:w0     q:w0 needs nothing"""
    error = broken(pinned(graphs.drawn("x p", "q"), "x:w1 p:w0 q:w0"))

    assert error.tasks == ("x", "p", "q")
    assert error.n_more == 0
    assert (
        "the branches of worker 'w0' have different origins: 'p' waits for 'x', and 'q' does not."
        " Pin 'p' to another worker, or let it float." in str(error)
    )


def test_a_reopened_branch_is_shown_rather_than_a_second_origin_before_it() -> None:
    """x:w1 -> p:w0     q:w0 -> y:w1 -> r:w0"""
    plan = pinned(graphs.drawn("q y r", "x p"), "x:w1 p:w0 q:w0 y:w1 r:w0")

    assert broken(plan).tasks == ("q", "y", "r")


def test_branches_of_one_fan_out_may_share_a_worker() -> None:
    """a:w1 -> b:w0, c:w0, d:w1; b and c open together, d continues a"""
    pinned(graphs.drawn("a b", "a c", "a d"), "a:w1 b:w0 c:w0 d:w1").check(strict=True)


def test_origins_are_equal_if_one_waits_for_more_that_ends_before_all_the_same() -> None:
    """x -> y -> p:w0, q:w0, and x -> p: both wait for y alone, in every execution"""
    pinned(graphs.drawn("x y p", "y q", "x p"), "p:w0 q:w0").check(strict=True)


def test_sources_begin_together() -> None:
    pinned(graphs.drawn("a", "b", "c"), "a:w0 b:w0 c:w0").check(strict=True)


def test_a_fan_in_continues_the_chain_of_any_of_its_inputs() -> None:
    """a:w0 -> b:w0 -> d:w0, a -> c:w1 -> d"""
    pinned(graphs.diamond(), "a:w0 b:w0 c:w1 d:w0").check(strict=True)


def test_a_plan_that_does_not_fit_its_graph_is_refused_for_that_alone() -> None:
    with pytest.raises(InvalidPlanError, match="does not fit its graph") as caught:
        changed(THREE_BRANCHES, 0, task=99).check(strict=True)

    assert not isinstance(caught.value, ChainRuleError)


def test_a_deep_plan_is_checked_without_recursion() -> None:
    """t0 ... t2999 by turns on w0 and w1: 2,998 steps open a branch again"""
    plan = pinned(graphs.chain(3_000), " ".join(f"t{i}:w{i % 2}" for i in range(3_000)))

    assert broken(plan).tasks == ("t0", "t1", "t2")
    assert broken(plan).n_more == 2_997
