"""The report of a worker's death: its cause in words, its cure, and the budget it is charged to.

A crash is reported with the Python lines that led to it, as faulthandler wrote them to stderr.

The crashed process cannot report anything itself, so its supervisor reads the file that was its
stderr. faulthandler writes the most recent call first:

    Fatal Python error: Segmentation fault

    Current thread 0x00007f... (most recent call first):
      File "/lib/numpy/core.py", line 9 in dot
      File "<cell>", line 3 in resize

After these come the lines of dagnb and a list of extension modules, which are left out.

`report` is pure: facts in, a `Death` for the store out. `with_frames` adds the lines of a crash.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from dataclasses import dataclass, replace

from dagnb.errors import DagnbError
from dagnb.failure import TIME_LIMIT, WORKER_DIED, Frame, TaskError, class_names
from dagnb.graph.payload import Signer
from dagnb.protocol.invocation import Invocation
from dagnb.protocol.messages import Charge, Death
from dagnb.storage.interface import Store
from dagnb_workers.surroundings.output import TAIL_BYTES
from dagnb_workers.worker import exception, library
from dagnb_workers.worker.library import Library
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


# Signals for which faulthandler writes a report as the process ends.
SIGNALS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT}

# Bytes at the end of stderr that are searched: a report may have a hundred lines for each thread.
MAX_BYTES = 1 << 20

# Characters that the frames may take in the shown text of stderr: messages show 2,000 in all.
_SHOWN_CHARACTERS = 1_500

# Seconds for which a death report waits for the store to send the text of cells.
_CELLS_S = 5.0

_FATAL = re.compile(r"^Fatal Python error: (.*)$", re.MULTILINE)
_THREAD = re.compile(
    r"^(?:Current thread|Thread) 0x[0-9a-f]+.*\(most recent call first\):\n", re.MULTILINE
)
_LINE = re.compile(r'  File "(.*)", line (\d+) in (.*)')
_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8}))")


@dataclass(frozen=True, slots=True, kw_only=True)
class CrashReport:
    """A parsed report. printed: all text before it. lines: (file, line, function), latest first."""

    printed: str
    reason: str
    lines: tuple[tuple[str, int, str], ...]


def parse_report(stderr: str) -> CrashReport | None:
    """Returns the last report in this text, with the lines of the thread that crashed."""
    threads = list(_THREAD.finditer(stderr))
    if not threads:
        return None

    # The crashed thread is called "Current thread". If no thread held the GIL, none is called so:
    # then the last one, the main thread, is taken.
    current = [thread for thread in threads if thread[0].startswith("Current")]
    crashed = (current or threads)[-1]

    lines: list[tuple[str, int, str]] = []
    for text in stderr[crashed.end() :].split("\n"):
        match = _LINE.match(text)
        if match is None:
            break
        lines.append((_unescaped(match[1]), int(match[2]), _unescaped(match[3])))

    # A task may have printed an older report: only the last fatal line before the thread counts.
    fatal = list(_FATAL.finditer(stderr, 0, crashed.start()))
    begin, reason = threads[0].start(), ""
    if fatal:
        begin, reason = fatal[-1].start(), fatal[-1][1]
    return CrashReport(
        printed=stderr[:begin],
        reason=reason,
        lines=tuple(lines),
    )


def _unescaped(text: str) -> str:
    """Restores characters that faulthandler, which writes ASCII alone, has replaced."""
    return _ESCAPE.sub(lambda match: chr(int(match[1] or match[2] or match[3], 16)), text)


async def with_frames(facts: DeathFacts, invocation: Invocation, store: Store) -> DeathFacts:
    """Returns the facts of a death with the user's frames, and their lines at the end of stderr."""
    stdout, stderr = facts.printed
    crash_report = parse_report(stderr)
    if crash_report is None:
        return replace(facts, printed=(stdout[-TAIL_BYTES:], stderr[-TAIL_BYTES:]))

    library = Library(store, Signer(invocation.key), invocation.header, unpacks=False)
    # Without the text of cells, the frames have no source lines.
    with contextlib.suppress(DagnbError, TimeoutError):
        async with asyncio.timeout(_CELLS_S):
            await library.open()
    library.show_cells()

    def label(file: str) -> str:
        return _without_folder(library.label(file))

    frames = exception.crash_frames(crash_report.lines, label)
    printed = library.labelled(crash_report.printed)[-TAIL_BYTES:]
    stderr = printed + _text(crash_report.reason, frames)
    return replace(facts, printed=(stdout[-TAIL_BYTES:], stderr), frames=tuple(frames))


def _without_folder(file: str) -> str:
    """Returns the path of a user's module without the folder that it was unpacked to."""
    folder = f"{library.folder()}{os.sep}"
    if not file.startswith(folder):
        return file
    return file.removeprefix(folder).partition(os.sep)[2]


def _text(reason: str, frames: list[Frame]) -> str:
    """Returns a report as faulthandler writes it, with the user's frames alone."""
    lines = [f"Fatal Python error: {reason}\n"] if reason else []
    lines.append("Most recent call first:\n")
    n_left = _SHOWN_CHARACTERS
    for n_shown, frame in enumerate(reversed(frames)):
        line = f'  File "{frame.file}", line {frame.line} in {frame.function}\n'
        if frame.times > 1:
            line += f"  ... {frame.times - 1} more times\n"
        n_left -= len(line)
        if n_left < 0:
            lines.append(f"  ... {len(frames) - n_shown} more\n")
            break
        lines.append(line)
    return "".join(lines)
