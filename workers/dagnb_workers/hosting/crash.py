"""The Python lines that led to a crash, parsed from what faulthandler wrote to stderr.

The crashed process cannot report anything itself, so its supervisor reads the file that was its
stderr. faulthandler writes the most recent call first:

    Fatal Python error: Segmentation fault

    Current thread 0x00007f... (most recent call first):
      File "/lib/numpy/core.py", line 9 in dot
      File "<cell>", line 3 in resize

After these come the lines of dagnb and a list of extension modules, which are left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from dataclasses import dataclass, replace

from dagnb.errors import DagnbError, Frame
from dagnb.graph.payload import Signer
from dagnb.protocol.invocation import Invocation
from dagnb.storage.interface import Store
from dagnb_workers.hosting.death_report import DeathFacts
from dagnb_workers.surroundings.output import TAIL_BYTES
from dagnb_workers.worker import exception, modules
from dagnb_workers.worker.library import Library

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
    folder = f"{modules.folder()}{os.sep}"
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
