"""The chain rule of `plan.check(strict=True)`, against every order in which steps may end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, combinations, product

from dagnb_planners.one_pass import OnePass
from hypothesis import event, given, settings
from hypothesis import strategies as st

from dagnb.errors import ChainRuleError
from dagnb.graph.dag import Dag
from dagnb.planning.plan import Plan, Step
from dagnb.planning.planner import Problem
from tests import strategies

Part = dict[int, tuple[str | None, frozenset[int]]]
"""some steps of a plan: step -> its worker, and those of its upstream steps that are in the part"""


def part_of(plan: Plan, steps: frozenset[int]) -> Part:
    """These steps and the edges between them, as if the plan had no others."""
    part: Part = {}
    for step in sorted(steps):
        part[step] = (plan.steps[step].worker, steps.intersection(plan.steps[step].upstream))
    return part


def orders(part: Part, done: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    """Every order in which the steps may end."""
    if len(done) == len(part):
        yield done
    for step, (_, upstream) in part.items():
        if step not in done and upstream <= set(done):
            yield from orders(part, (*done, step))


def keeps_the_rule(part: Part) -> bool:
    """Plainly: whatever the order, all branches of a worker open at one moment."""
    for order in orders(part):
        moments: dict[str, set[int]] = {}
        for worker, upstream in part.values():
            if worker is None or any(part[u][0] == worker for u in upstream):
                continue  # floats, or goes on where its worker is
            moment = max((order.index(u) + 1 for u in upstream), default=0)
            moments.setdefault(worker, set()).add(moment)
        if any(len(different) > 1 for different in moments.values()):
            return False
    return True


def is_accepted(plan: Plan) -> bool:
    try:
        plan.check(strict=True)
    except ChainRuleError:
        return False
    return True


@st.composite
def small_plans(draw: st.DrawFn) -> Plan:
    """Plans of six steps at most, with copies, of one to three workers."""
    plan = draw(strategies.planned(max_tasks=6, max_workers=3) | COPIED)
    event("keeps the rule" if is_accepted(plan) else "breaks the rule")
    return plan


COPIED = strategies.planned(max_tasks=4, max_workers=2, copies=True).filter(
    lambda plan: len(plan.steps) <= 6
)


@given(small_plans())
@settings(max_examples=300)
def test_strict_accepts_exactly_the_plans_whose_branches_always_begin_together(plan: Plan) -> None:
    everything = part_of(plan, frozenset(range(len(plan.steps))))

    assert is_accepted(plan) == keeps_the_rule(everything)


def test_strict_accepts_exactly_the_same_of_all_plans_of_four_tasks() -> None:
    """Each of 64 graphs, each task on one of two workers or floating: 5,184 plans."""
    possible = list(combinations(range(4), 2))
    n_kept = 0
    for edges in chain.from_iterable(combinations(possible, n) for n in range(7)):
        names = "abcd"
        dag = Dag.from_edges(names, [(names[i], names[j]) for i, j in edges])
        for workers in product((None, "w0", "w1"), repeat=4):
            steps = [
                Step(task=task, upstream=call.upstream, worker=worker)
                for task, (call, worker) in enumerate(zip(dag.calls, workers, strict=True))
            ]
            plan = Plan(dag=dag, steps=tuple(steps), planner="any")
            keeps = keeps_the_rule(part_of(plan, frozenset(range(4))))
            assert is_accepted(plan) == keeps, (edges, workers)
            n_kept += keeps
    assert 0 < n_kept < 5_184


@given(small_plans().filter(lambda plan: not is_accepted(plan)))
@settings(max_examples=150)
def test_a_counter_example_breaks_the_rule_alone_and_no_smaller_part_of_it_does(plan: Plan) -> None:
    broken = plan.chain_break
    assert broken is not None
    named = frozenset(broken.steps)

    assert not keeps_the_rule(part_of(plan, named))
    for size in range(len(named)):
        for fewer in combinations(sorted(named), size):
            assert keeps_the_rule(part_of(plan, frozenset(fewer)))


@given(small_plans())
@settings(max_examples=60)
def test_no_two_steps_of_any_plan_break_the_rule_so_three_are_the_fewest(plan: Plan) -> None:
    for pair in combinations(range(len(plan.steps)), 2):
        assert keeps_the_rule(part_of(plan, frozenset(pair)))


@given(strategies.planned(max_tasks=12).filter(lambda plan: not is_accepted(plan)))
@settings(max_examples=150)
def test_what_a_counter_example_says_is_true_of_the_whole_plan(plan: Plan) -> None:
    broken = plan.chain_break
    assert broken is not None
    begin, *_, outside, opened = broken.path if len(broken.path) > 2 else (-1, *broken.path)
    mine = [step for step in broken.steps if plan.steps[step].worker == broken.worker]

    for before, after in zip(broken.path, broken.path[1:], strict=False):
        assert before in plan.steps[after].upstream
    assert set(broken.steps) == {*mine, outside}
    assert opened in mine
    assert begin in {-1, *mine}
    assert all(plan.steps[u].worker != broken.worker for u in plan.steps[opened].upstream)
    assert set(broken.tasks) == {plan.names[step] for step in broken.steps}
    assert all(f"'{task}'" in broken.text for task in broken.tasks)


@given(strategies.problems())
@settings(max_examples=100)
def test_the_planner_of_the_notes_keeps_their_rule_where_workers_have_no_cap(
    problem: Problem,
) -> None:
    """At a cap it gives a worker of another origin more branches."""
    uncapped = replace(problem, pool=replace(problem.pool, cap=None))

    OnePass().plan(uncapped).check(strict=True)
