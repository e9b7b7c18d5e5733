"""The report of a worker's death: its cause in words, its cure, and the budget it is charged to.

Pure: facts in, a `Death` for the store out. `crash.py` adds the user's lines to the facts of a
crash.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass

from dagnb.catchable import class_names
from dagnb.failure import TIME_LIMIT, WORKER_DIED, Frame, TaskError
from dagnb.protocol.messages import Charge, Death
from dagnb_workers.worker.shared_status import Running


@dataclass(frozen=True, slots=True, kw_only=True)
class DeathFacts:
    """Facts about the death of a worker process, collected by its supervisor.

    worker: its name in the plan, '' before it had one. code: exit code, or minus the signal.
    running: the attempt it ran, None between tasks. was_overtime: whether that attempt exceeded its
    time limit. ran_out_of_memory: whether the kernel killed a process for want of memory meanwhile.
    memory_bytes: limit of its container, None for no container. printed: tails of stdout and
    stderr. at: epoch seconds. frames: the user's frames of a crash or of a task that hung,
    outermost first.
    """

    instance: str
    worker: str
    code: int
    running: Running | None
    was_overtime: bool
    ran_out_of_memory: bool
    memory_bytes: int | None
    printed: tuple[str, str]
    at: float
    frames: tuple[Frame, ...] = ()


def report(facts: DeathFacts) -> Death:
    """Returns the death of a worker as the store takes it.

    A task that ran into its time limit is charged like an exception of the user's, and its error
    can be caught as TimeoutError; any other death is charged to the budget for crashes.
    """
    timed_out = facts.was_overtime and facts.running is not None
    stdout, stderr = facts.printed
    error = TaskError(
        worker=facts.worker or facts.instance,
        type=TIME_LIMIT if timed_out else WORKER_DIED,
        message=_overtime(facts) if timed_out else cause(facts),
        mro=tuple(class_names(TimeoutError)) if timed_out else (),
        frames=facts.frames,
        exit_code=facts.code if facts.code >= 0 else None,
        signal=-facts.code if facts.code < 0 else None,
        stderr_tail=stderr,
        stdout_tail=stdout,
        at=facts.at,
    )
    return Death(
        instance=facts.instance,
        task=None if facts.running is None else facts.running.task,
        charge=Charge.EXCEPTION if timed_out else Charge.CRASH,
        error=error.to_json(),
        delay_s=0.0,
    )


def loss(instance: str) -> Death:
    """Returns a death that charges no task: the process was ended, or its end was not seen."""
    return Death(
        instance=instance,
        task=None,
        charge=Charge.LOSS,
        error="{}",
    )


def cause(facts: DeathFacts) -> str:
    """Returns the cause of a death in one sentence or two, with the cure where there is one."""
    when = "while running this task" if facts.running is not None else "between tasks"
    if facts.code >= 0:
        return (
            f"the worker process ended itself with exit code {facts.code} {when}: os._exit, "
            "or a library that exits. Return a value or raise an exception instead"
        )
    name = _signal_name(-facts.code)
    return f"the worker process was killed by {name} {when}{_signal_cause(facts)}"


def _overtime(facts: DeathFacts) -> str:
    assert facts.running is not None
    return (
        f"the task was still running after its time limit of {facts.running.limit_s:g} s, "
        "did not stop when it was interrupted, and was killed. "
        "Give it longer with @task(timeout_s=...)"
    )


def _signal_cause(facts: DeathFacts) -> str:
    number = -facts.code
    # The kernel counts its kills for want of memory, but does not say which process it killed. So
    # the count is evidence only if this process was killed by SIGKILL.
    if facts.ran_out_of_memory and number == signal.SIGKILL:
        reason = "the machine ran out of memory"
        if facts.memory_bytes is not None:
            limit_mb = facts.memory_bytes / 2**20
            reason = f"out of memory, its container may use {limit_mb:.0f} MB"
        return f": {reason}. Give it more with resources=Resources(memory_mb=...)"

    if number == signal.SIGKILL:
        return ": by another process, or by the system when memory ran out"
    if number in {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE}:
        return f": a crash in compiled code{_called_from(facts)}"
    if number == signal.SIGABRT:
        return f": compiled code gave up (abort){_called_from(facts)}"
    return ""


def _called_from(facts: DeathFacts) -> str:
    # The innermost frame of the user's code: all frames inside it are of libraries.
    own = [frame for frame in facts.frames if not frame.is_library]
    if not own:
        return "; see the end of stderr"
    return f", called from {own[-1].function} at {own[-1].file}, line {own[-1].line}"


def _signal_name(number: int) -> str:
    try:
        return f"{signal.Signals(number).name} ({number})"
    except ValueError:
        return f"signal {number}"
