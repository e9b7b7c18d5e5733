"""Where a pinned worker stops: what `check` computes, against all executions of small plans and
many of larger ones.
"""

from __future__ import annotations

import random

from hypothesis import given, note, settings
from hypothesis import strategies as st

from dagnb.planning.plan import Plan, stops
from tests import strategies

Stop = tuple[str, tuple[int, ...]]
"""a worker, and the first steps after the stop"""
State = tuple[frozenset[int], frozenset[int]]
"""steps done, steps running"""


class Executions:
    """All timings of a plan: the graph of states from nothing done to everything done, one event an
    edge.

    A step may begin when its upstream is done and its worker runs nothing, and need not; what runs
    may end.
    """

    def __init__(self, plan: Plan) -> None:
        self.steps = plan.steps
        self.mine: dict[str, set[int]] = {}
        for position, step in enumerate(plan.steps):
            if step.worker is not None:
                self.mine.setdefault(step.worker, set()).add(position)

    def ready(self, step: int, done: frozenset[int]) -> bool:
        return done.issuperset(self.steps[step].upstream)

    def following(self, state: State) -> list[State]:
        done, running = state
        busy = {self.steps[s].worker for s in running} - {None}
        fresh = [
            s for s in range(len(self.steps)) if s not in done | running and self.ready(s, done)
        ]
        begun = [(done, running | {s}) for s in fresh if self.steps[s].worker not in busy]
        return begun + [(done | {s}, running - {s}) for s in running]

    def stopped(self, worker: str, state: State) -> frozenset[int]:
        """The steps the worker has run, if it is out of work and not for good; else nothing."""
        done, running = state
        mine = self.mine[worker]
        has_work = mine & running or any(self.ready(s, done) for s in mine - done)
        return frozenset() if has_work or mine <= done else frozenset(mine & done)

    def reach_the_end(
        self, worker: str = "", without: frozenset[int] = frozenset()
    ) -> set[frozenset[int]] | None:
        """All stops of the worker met on the way if an execution avoids the stop `without`; else
        None.
        """
        start: State = (frozenset(), frozenset())
        seen, stack, met = {start}, [start], set()
        while stack:
            for state in self.following(stack.pop()):
                here = self.stopped(worker, state)
                met.add(here)
                if state not in seen and not (here and here == without):
                    seen.add(state)
                    stack.append(state)
        return met if any(len(done) == len(self.steps) for done, _ in seen) else None

    def certain_stops(self) -> set[Stop]:
        """The stops that no execution avoids."""
        found = set()
        for worker, mine in self.mine.items():
            for run in (self.reach_the_end(worker) or set()) - {frozenset()}:
                if self.reach_the_end(worker, without=run) is None:
                    after = mine - run
                    found.add(
                        (worker, tuple(sorted(s for s in after if not self.above(s) & after)))
                    )
        return found

    def above(self, step: int) -> set[int]:
        found = set(self.steps[step].upstream)
        for u in self.steps[step].upstream:
            found |= self.above(u)
        return found


@given(strategies.planned(max_tasks=6, max_workers=2))
@settings(max_examples=120)
def test_the_stops_of_a_plan_are_those_that_no_execution_avoids(plan: Plan) -> None:
    assert set(stops(plan)) == Executions(plan).certain_stops()


@given(
    strategies.planned(max_tasks=4, max_workers=2, copies=True).filter(
        lambda plan: len(plan.steps) <= 7
    )
)
@settings(max_examples=60)
def test_the_stops_of_a_plan_with_copies_are_those_that_no_execution_avoids(plan: Plan) -> None:
    assert set(stops(plan)) == Executions(plan).certain_stops()


@st.composite
def by_turns(draw: st.DrawFn) -> Plan:
    """Plans that stop often: few edges skipped, one or two pinned workers."""
    dag = draw(strategies.dags(7, max_upstream=2))
    return draw(strategies.plans(dag, max_workers=1))


@given(by_turns())
@settings(max_examples=100)
def test_the_stops_of_a_plan_of_one_named_worker_are_those_that_no_execution_avoids(
    plan: Plan,
) -> None:
    assert set(stops(plan)) == Executions(plan).certain_stops()


def leavings(plan: Plan, seed: int) -> set[tuple[str, frozenset[int]]]:
    """One execution by the workers' own rule: the ready step of the smallest priority, and leave
    when there is none.

    Durations are random. Returns each worker and what it had run whenever it left, not yet done for
    good.
    """
    rng = random.Random(seed)
    mine: dict[str, set[int]] = {}
    for position, step in enumerate(plan.steps):
        mine.setdefault(step.worker or f"floating {position}", set()).add(position)
    done: set[int] = set()
    running: dict[str, int] = {}
    ends: dict[int, float] = {}
    left = set()
    now = 0.0
    while len(done) < len(plan.steps):
        for worker, steps in mine.items():
            if worker not in running:
                ready = [s for s in steps - done if done.issuperset(plan.steps[s].upstream)]
                if ready:
                    running[worker] = min(ready, key=lambda s: (plan.steps[s].priority, s))
                    ends[running[worker]] = now + rng.choice((0.01, 1.0, 5.0)) * rng.uniform(
                        0.5, 1.5
                    )
                elif steps & done and steps - done:
                    left.add((worker, frozenset(steps & done)))
        ending = min(running, key=lambda worker: ends[running[worker]])
        now = ends[running[ending]]
        done.add(running.pop(ending))
    return left


@given(strategies.planned(max_tasks=14, copies=True), st.integers(0, 10**6))
@settings(max_examples=120)
def test_every_stop_is_met_by_workers_that_keep_the_priorities_whatever_the_durations(
    plan: Plan, seed: int
) -> None:
    executions = Executions(plan)

    left = leavings(plan, seed)

    for worker, firsts in stops(plan):
        ran = frozenset(set.union(*(executions.above(s) for s in firsts)) & executions.mine[worker])
        note(f"{worker} should leave after {sorted(ran)}")
        assert (worker, ran) in left
