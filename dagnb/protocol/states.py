"""The theory of a run: its states, what moves them, and what holds after every step.

A run is four small state machines that move together. `machine.py` has the steps (what callers
may do), `tasks.py` the moves of tasks, `roster.py` those of queues and members. The Lua files in
dagnb/storage/scripts have the same names and the same verbs in the same order, and the tests
compare the two after every step.

A task
======

    WAITING ----> READY ----> RUNNING ----> DONE
       ^            ^         |  |  |        |
       |            +---------+  |  |        |      given back, or tried again at once
       |            |            v  |        |
       |            +---- RETRYING  |        |      tried again after a delay
       |                            v        |
       |                          FAILED     |      the budget is spent
       +-------------------------------------+      its bytes, or those of its inputs, are gone

    | from              | to        | by                                                         |
    |-------------------|-----------|------------------------------------------------------------|
    | -                 | READY     | submit: tasks without upstream; all others are WAITING     |
    | WAITING           | READY     | complete of the upstream task that sets the last bit       |
    | WAITING           | SKIPPED   | an ancestor failed, with on_error="continue"               |
    | READY             | RUNNING   | register, complete, fail, lost: the reply that offers it   |
    | RUNNING           | DONE      | complete                                                   |
    | RUNNING           | RETRYING  | fail, dead: charged, the budget lasts, delay > 0           |
    | RUNNING           | READY     | the same without delay; reap; dead, if another task was to |
    |                   |           | blame; give_back, behind a task that takes long            |
    | RUNNING           | FAILED    | fail, dead, reap: the budget is spent, or no retry wanted  |
    | RUNNING           | WAITING   | lost: inputs of it are gone                                |
    | RETRYING          | READY     | a later step, once the moment has passed (`promote`)       |
    | W, R, RETRYING    | DONE      | complete by an instance whose lease had run out: the first |
    |                   |           | commit wins                                                |
    | DONE              | WAITING   | lost, or the last check of the sinks: its bytes are gone   |
    | all before DONE   | CANCELLED | the end of the run                                         |

A run
=====

    RUNNING --> OK         all that it waits for is done, and the bytes of its sinks are there
            --> FAILED     a task failed; with on_error="continue" once nothing is left to run
            --> CANCELLED  cancel, or no one took part before `start_by`
            --> DEADLINE   the first step after `deadline_at`

A member of a queue (one worker), and an instance (one process)
===============================================================

    FREE --route--> INVOKED --adopt--> ACTIVE --release--> FREE

    unknown --register--> leased --adopt--> staffs a member --release--> leased
    leased --reap, dead--> unknown

`route` asks for a member where ready tasks outnumber members that were asked for. No step has to
know whether a worker is already on its way: the counts say it. An instance without tasks leaves
its member in the same step and adopts another one, so any plan runs on a single process.

After every step
================

1. A task is READY or RUNNING only when all its upstream tasks are DONE, or were found lost since.
2. READY tasks, and only those, are in the queue of their worker or pool, once.
3. A queue has as many invoked members as ready tasks, or as many members as its cap allows.
4. A RUNNING task has one owner, which has a lease and staffs the queue of the task.
5. FAILED, SKIPPED and CANCELLED never change; a run that is over never changes.
6. `unsettled` counts the tasks that the run still waits for. At 0 the run ends in the same step.
7. An instance that takes several tasks takes none that was charged before: if its process dies, at
   most one of them has died with it twice.

tests/model checks these in every reachable state of small runs with crashes, and shows that
seeded faults break them.
"""

from __future__ import annotations

from enum import StrEnum


class TaskState(StrEnum):
    """State of a task; the value is the byte that stands for it in the store."""

    WAITING = "W"
    READY = "R"
    RUNNING = "X"
    RETRYING = "B"
    DONE = "D"
    FAILED = "F"
    SKIPPED = "S"
    CANCELLED = "C"

    @property
    def word(self) -> str:
        """The word people see: 'waiting', 'running', ..."""
        return self.name.lower()


class RunState(StrEnum):
    """State of a run; all but RUNNING are final."""

    RUNNING = "running"
    OK = "ok"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DEADLINE = "deadline"


class Status(StrEnum):
    """Tells an instance what to do next.

    TASKS: run the offers. IDLE: nothing is ready; wait for a hint and register again.
    STOP: the run is over, leave. FENCED: the lease was taken away; register again.
    REFUSED: another instance staffs that worker.
    NO_BLOB: store the named results again, then complete again.
    """

    TASKS = "tasks"
    IDLE = "idle"
    STOP = "stop"
    FENCED = "fenced"
    REFUSED = "refused"
    NO_BLOB = "noblob"


class Charge(StrEnum):
    """The budget an ended attempt is charged to: the user's retries, crashes, or lost leases.

    The order is that of the numbers in the hash `a` of the store: see dagnb.storage.keys.
    """

    EXCEPTION = "exception"
    CRASH = "crash"
    LOSS = "loss"
