"""Why a worker process ended, in words a user can act on. Pure: facts in, the error of the errors key out."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from dagnb.catchable import class_names
from dagnb.failure import TIME_LIMIT, WORKER_DIED, Frame, TaskError
from dagnb.protocol.messages import Charge, Death
from dagnb_workers.worker.shared_status import Running


@dataclass(frozen=True, slots=True, kw_only=True)
class DeathFacts:
    """What the supervisor knows. worker: whom the process staffed, '' for nobody yet.

    code: exit code, or minus the signal. memory_bytes: what its container may use, None for no container.
    printed: tails of stdout and stderr. frames: the user's, of a crash or of a task that hung, outermost first.
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


def death(facts: DeathFacts) -> Death:
    """What is told to the store: who died, of what, and which budget it is charged to."""
    late = facts.was_overtime and facts.running is not None
    stdout, stderr = facts.printed
    error = TaskError(
        worker=facts.worker or facts.instance,
        type=TIME_LIMIT if late else WORKER_DIED,
        message=_overtime(facts) if late else cause(facts),
        mro=tuple(class_names(TimeoutError)) if late else (),
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
        charge=Charge.EXCEPTION if late else Charge.CRASH,
        error=error.to_json(),
        delay_s=0.0,
    )


def leave(facts: DeathFacts) -> Death:
    """It was ended because it had nothing to do: nobody is charged."""
    return Death(instance=facts.instance, task=None, charge=Charge.LOSS, error="{}")


def cause(facts: DeathFacts) -> str:
    """One sentence or two."""
    when = "while running this task" if facts.running is not None else "between tasks"
    if facts.code >= 0:
        return (
            f"the worker process ended itself with exit code {facts.code} {when}: os._exit, or a library that exits. "
            "Return a value or raise an exception instead"
        )
    return f"the worker process was killed by {_signal_name(-facts.code)} {when}{_hint(facts)}"


def _overtime(facts: DeathFacts) -> str:
    assert facts.running is not None
    return (
        f"the task was still running after its time limit of {facts.running.limit_s:g} s, did not stop when it was "
        f"interrupted, and was killed. Give it longer with @task(timeout_s=...)"
    )


def _hint(facts: DeathFacts) -> str:
    number = -facts.code
    if facts.ran_out_of_memory and number == signal.SIGKILL:
        what = "the machine ran out of memory"
        if facts.memory_bytes is not None:
            what = f"out of memory, its container may use {facts.memory_bytes / 2**20:.0f} MB"
        return f": {what}. Give it more with resources=Resources(memory_mb=...)"
    if number == signal.SIGKILL:
        return ": by somebody, or by the system when memory ran out"
    if number in {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE}:
        return f": a crash in compiled code{_called_from(facts)}"
    if number == signal.SIGABRT:
        return f": compiled code gave up (abort){_called_from(facts)}"
    return ""


def _called_from(facts: DeathFacts) -> str:
    own = [frame for frame in facts.frames if not frame.is_library]
    if not own:
        return "; see the end of stderr"
    return f", called from {own[-1].function} at {own[-1].file}, line {own[-1].line}"


def _signal_name(number: int) -> str:
    try:
        return f"{signal.Signals(number).name} ({number})"
    except ValueError:
        return f"signal {number}"
