"""Faults that the exploration found, each by its shortest sequence of steps."""

from __future__ import annotations

from dataclasses import dataclass, field

from dagnb.protocol.machine import Machine
from dagnb.protocol.messages import Address, Commit, Failure, Reply, RunState, TaskState
from tests.model.configuration import Configuration


@dataclass
class Run:
    """A machine, instances i0 and i1, and the bytes in the store."""

    configuration: Configuration
    blobs: set[tuple[int, Address]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.machine = Machine(
            self.configuration.submission(),
            0.0,
            "f",
            lambda task, where: (task, where) in self.blobs,
        )

    def register(self, instance: str = "i0") -> Reply:
        return self.machine.register(instance, now=0.0, fresh="f", lease_s=1.0)

    def complete(self, task: int) -> Reply:
        address = Address(f"token-{task}", 1)
        self.blobs.add((task, address))
        return self.machine.complete("i0", [Commit(task=task, address=address)], now=0.0, fresh="f")

    def fail(self, task: int, instance: str = "i0") -> Reply:
        failure = Failure(task=task, attempt=self.machine.attempt(task), error="{}")
        return self.machine.fail(instance, failure, now=0.0, fresh="f")

    def lost(self, task: int, missing: int, instance: str = "i0") -> Reply:
        return self.machine.lost(instance, task, [missing], now=0.0, fresh="f")


def tasks_of(reply: Reply) -> list[int]:
    return [offer.task for offer in reply.offers]


def test_a_ready_task_whose_lost_input_then_fails_for_good_is_skipped_and_the_run_ends() -> None:
    """0 -> 1
    0 -> 2, the result of 0 vanishes while 1 and 2 are ready, and its second run raises.
    """
    run = Run(
        Configuration(
            name="fan-out",
            upstream=((), (0,), (0,)),
            queues=(1,),
            placement=(0, 0, 0),
            sinks=(1, 2),
            on_error="continue",
        )
    )
    run.register()
    assert tasks_of(run.complete(0)) == [1]
    run.blobs.clear()
    assert tasks_of(run.lost(1, missing=0)) == [0]
    assert tasks_of(run.fail(0)) == [2]

    run.lost(2, missing=0)

    assert run.machine.states == [TaskState.FAILED, TaskState.SKIPPED, TaskState.SKIPPED]
    assert run.machine.state is RunState.FAILED


def test_a_done_task_lost_after_its_input_failed_for_good_is_skipped_with_all_below() -> None:
    """0 -> 1 -> 3
    0 -> 2, 1 is done; then 0 is lost for 2 and fails; then 1 is lost for 3, and cannot be
    computed again.
    """
    run = Run(
        Configuration(
            name="tail",
            upstream=((), (0,), (0,), (1,)),
            queues=(2,),
            placement=(0, 0, 0, 0),
            sinks=(2, 3),
            on_error="continue",
        )
    )
    run.register()
    run.complete(0)
    assert tasks_of(run.register("i1")) == [2]
    assert tasks_of(run.complete(1)) == [3]
    run.blobs.clear()
    assert tasks_of(run.lost(2, missing=0, instance="i1")) == [0]
    run.fail(0, "i1")
    assert run.machine.states == [
        TaskState.FAILED,
        TaskState.DONE,
        TaskState.SKIPPED,
        TaskState.RUNNING,
    ]

    run.lost(3, missing=1)

    assert run.machine.states == [
        TaskState.FAILED,
        TaskState.SKIPPED,
        TaskState.SKIPPED,
        TaskState.SKIPPED,
    ]
    assert run.machine.state is RunState.FAILED


def test_a_sink_lost_at_the_end_whose_input_failed_for_good_is_skipped_and_the_run_ends() -> None:
    """0 -> 1 (sink)
    0 -> 2 (no sink), 3 (sink, apart): 0 is lost for 2 and fails, then 1 vanishes before 3 ends
    the run.
    """
    run = Run(
        Configuration(
            name="dead end",
            upstream=((), (0,), (0,), ()),
            queues=(1,),
            placement=(0, 0, 0, 0),
            sinks=(1, 3),
            on_error="continue",
        )
    )
    run.register()
    run.complete(0)
    assert tasks_of(run.complete(1)) == [2]
    run.blobs.clear()
    assert tasks_of(run.lost(2, missing=0)) == [0]
    assert tasks_of(run.fail(0)) == [3]

    run.complete(3)

    assert run.machine.states[1] is TaskState.SKIPPED
    assert run.machine.state is RunState.FAILED
