"""Instances of several kinds and one machine: staffing, hints, demand, charges."""

from __future__ import annotations

import pytest

from dagnb.protocol.machine import Machine
from dagnb.protocol.messages import (
    HELD,
    Address,
    Charge,
    Commit,
    Death,
    Demand,
    Failure,
    Reply,
    RunState,
    Status,
    TaskState,
)
from tests.model.catalogue import PINNED
from tests.model.configuration import Configuration

LEASE_S = 8.0


class Run:
    """Tasks of workers w0, w1, ... of these kinds, earlier ones more urgent; task i of wi."""

    def __init__(
        self,
        *kinds: str,
        upstream: tuple[tuple[int, ...], ...] | None = None,
        placement: tuple[int, ...] | None = None,
        retries: int = 0,
    ) -> None:
        upstream = upstream or ((),) * len(placement or kinds)
        submission = Configuration(
            name="kinds",
            upstream=upstream,
            queues=(PINNED,) * len(kinds),
            placement=placement or tuple(range(len(kinds))),
            sinks=tuple(range(len(upstream))),
            kinds=kinds,
            retries=retries,
            on_error="continue",
        ).submission()
        self.now = 0.0
        self.machine = Machine(submission, self.now, "f", lambda task, where: True)

    def register(
        self, instance: str, kind: str = "", want: int = 1, worker: tuple[str, str] | None = None
    ) -> Reply:
        return self.machine.register(
            instance, now=self.now, fresh="f", lease_s=LEASE_S, want=want, worker=worker, kind=kind
        )

    def dead(self, instance: str, task: int | None = None) -> bool:
        death = Death(instance=instance, task=task, charge=Charge.CRASH, error="{}", delay_s=0.0)
        return self.machine.dead(death, now=self.now, fresh="f")

    def complete(self, instance: str, task: int) -> Reply:
        commit = Commit(task=task, address=Address("t", 1))
        return self.machine.complete(instance, [commit], now=self.now, fresh="f")

    def fail(self, instance: str, task: int, delay_s: float | None) -> Reply:
        failure = Failure(
            task=task, attempt=self.machine.attempt(task), error="{}", delay_s=delay_s
        )
        return self.machine.fail(instance, failure, now=self.now, fresh="f")

    def demand(self) -> Demand:
        return self.machine.demand(now=self.now, fresh="f")

    def nonce(self, worker: str) -> tuple[str, str]:
        roster = self.machine.roster
        return next(
            (worker, nonce)
            for member, (_, nonce) in roster.invoked.items()
            if roster.name(member) == worker
        )


def tasks_of(reply: Reply) -> list[int]:
    return [offer.task for offer in reply.offers]


# ---- who may staff what ----


def test_an_instance_staffs_the_most_urgent_worker_of_its_kind_not_of_all() -> None:
    run = Run("", "a", "b", "a")

    assert tasks_of(run.register("i1", "a")) == [1]
    assert tasks_of(run.register("i2", "b")) == [2]
    assert tasks_of(run.register("i3")) == [0]
    assert run.register("i4", "c").status is Status.IDLE
    assert tasks_of(run.register("i5", "a")) == [3]


def test_an_instance_goes_on_with_another_worker_of_its_kind_only() -> None:
    run = Run("a", "b", "a", "b")
    run.register("i1", "b")

    assert tasks_of(run.fail("i1", 1, None)) == [3]
    assert run.fail("i1", 3, None).status is Status.IDLE


@pytest.mark.parametrize("kind", ["", "b"])
def test_who_was_started_for_one_worker_is_refused_when_it_is_of_another_kind(kind: str) -> None:
    run = Run("a")

    assert run.register("i1", kind, worker=run.nonce("w0")).status is Status.REFUSED

    assert (run.machine.leases, run.machine.roster.kinds) == ({}, {})
    assert tasks_of(run.register("i2", "a", worker=run.nonce("w0"))) == [0]


def test_an_instance_keeps_its_kind_until_its_lease_is_gone_and_gives_it_again() -> None:
    run = Run("a", "b")
    run.register("i1", "a")
    assert run.fail("i1", 0, None).status is Status.IDLE
    assert run.register("i1", "b").status is Status.IDLE

    run.now = LEASE_S + 1
    run.machine.reap(now=run.now, fresh="f")
    assert run.machine.complete("i1", [], now=run.now, fresh="f").status is Status.FENCED
    assert run.machine.roster.kinds == {}

    assert tasks_of(run.register("i1", "b")) == [1]
    assert run.demand().instances == {"i1": ("b", "w1")}


# ---- who is told ----


def test_hints_lie_where_instances_of_the_kind_look() -> None:
    machine = Run("a", "", "b", "a").machine

    assert machine.needs()
    assert machine.take_hints() == {"": ["w1"], "a": ["w0", "w3"], "b": ["w2"]}
    assert (machine.take_hints(), machine.needs()) == ({}, False)


def test_whoever_starts_instances_is_told_of_whom_nobody_staffs_by_the_end_of_the_step() -> None:
    """0 -> 1, 0 -> 2, 0 and 1 of kind a, 2 of kind b"""
    run = Run("a", "a", "b", upstream=((), (0,), (0,)))
    run.register("i1", "a")
    run.machine.take_hints()

    assert tasks_of(run.complete("i1", 0)) == [1]

    assert run.machine.needs()
    assert run.machine.take_hints() == {"a": ["w1"], "b": ["w2"]}


def test_whoever_starts_instances_is_not_told_of_a_worker_that_is_staffed_in_the_same_step() -> (
    None
):
    """0 -> 1"""
    run = Run("a", "a", upstream=((), (0,)))
    run.register("i1", "a")
    run.machine.take_hints()

    assert tasks_of(run.complete("i1", 0)) == [1]

    assert run.machine.kind_hints == {"a": ["w1"]}
    assert not run.machine.needs()


def test_whoever_starts_instances_is_not_told_of_workers_that_are_all_alike() -> None:
    run = Run("a", "")
    run.register("i1")
    run.machine.take_hints()

    run.dead("i1")

    assert run.machine.hints == ["w1"]
    assert not run.machine.needs()


def test_at_the_end_everybody_is_told_to_leave_where_it_looks() -> None:
    run = Run("a", "b")
    for instance, kind in (("i1", "a"), ("i2", ""), ("i3", "a"), ("i4", "c")):
        run.register(instance, kind)
    run.machine.take_hints()

    run.machine.cancel("enough", now=0.0)

    assert run.machine.needs()
    assert run.machine.take_hints() == {"": ["stop"], "a": ["stop", "stop"], "c": ["stop"]}
    assert run.machine.roster.kinds == {}


def test_the_end_of_a_run_without_kinds_is_no_news_for_whoever_starts_instances() -> None:
    run = Run("", "")

    run.machine.cancel("enough", now=0.0)

    assert not run.machine.needs()


# ---- who is wanted ----


def test_demand_counts_members_that_nobody_staffs_and_tells_who_is_here() -> None:
    run = Run("", "a", "a", "b")
    run.register("i1", "a")
    run.register("i2", "c")

    demand = run.demand()

    assert demand == Demand(
        state=RunState.RUNNING,
        wanted={"": 1, "a": 1, "b": 1},
        instances={"i1": ("a", "w1"), "i2": ("c", "")},
        now=0.0,
    )


def test_demand_sees_back_offs_that_ended_and_leases_that_ran_out() -> None:
    run = Run("a", "b", retries=1)
    run.register("i1", "a")
    run.fail("i1", 0, 2.0)
    run.register("i2", "b")
    assert run.demand().wanted == {}

    run.now = 2.0
    assert run.demand().wanted == {"a": 1}
    run.now = LEASE_S + 1
    assert (run.demand().wanted, run.demand().instances) == ({"a": 1, "b": 1}, {})


def test_demand_ends_a_run_whose_time_is_over_and_wants_nobody_then() -> None:
    run = Run("a", "b")
    run.register("i1", "a")
    run.machine.deadline_at = 5.0
    run.now = 5.0

    assert run.demand() == Demand(state=RunState.DEADLINE, wanted={}, instances={}, now=5.0)


# ---- who is charged ----


def test_who_dies_holding_all_it_knew_is_charged_for_all_that_it_ran() -> None:
    run = Run("a", placement=(0, 0))
    assert tasks_of(run.register("i1", "a", want=2)) == [0, 1]

    assert run.dead("i1", HELD)

    assert sorted(run.machine.errors) == [(0, 1), (1, 1)]
    assert {task: spent[Charge.CRASH] for task, spent in run.machine.spent.items()} == {0: 1, 1: 1}
    assert run.machine.states == [TaskState.READY, TaskState.READY]


def test_who_dies_at_one_task_is_charged_for_that_one() -> None:
    run = Run("a", placement=(0, 0))
    run.register("i1", "a", want=2)

    assert run.dead("i1", 1)

    assert sorted(run.machine.errors) == [(1, 1)]


def test_who_dies_holding_nothing_is_charged_with_nothing() -> None:
    run = Run("a")
    run.register("i1", "b")

    assert run.dead("i1", HELD)

    assert run.machine.errors == {}
