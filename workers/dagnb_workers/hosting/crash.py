"""The Python lines that led to a crash, read back from what faulthandler wrote to stderr as the process died.

It writes the most recent call first, so the front of its text is what people need: the user's own lines. Behind them
come the lines of dagnb and a list of extension modules.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from dataclasses import dataclass, replace
from itertools import takewhile

from dagnb.errors import DagnbError, Frame
from dagnb.graph.payload import Signer
from dagnb.protocol.invocation import Invocation
from dagnb.storage.interface import Store
from dagnb_workers.hosting.death_report import DeathFacts
from dagnb_workers.surroundings.output import TAIL_BYTES
from dagnb_workers.worker import exception, modules
from dagnb_workers.worker.library import Library

SIGNALS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT}
"""faulthandler writes when one of these ends the process"""

MOST_BYTES = 1 << 20
"""so much of stderr is searched: every thread may have a hundred lines in it"""

_SHOWN_CHARACTERS = 1_500
"""of the lines in the text of stderr, of which messages show 2,000 characters"""

_CELLS_S = 5.0
"""so long a death waits for the text of cells from the store"""

_FATAL = re.compile(r"^Fatal Python error: (.*)$", re.MULTILINE)
_THREAD = re.compile(
    r"^(?:Current thread|Thread) 0x[0-9a-f]+.*\(most recent call first\):\n", re.MULTILINE
)
_LINE = re.compile(r'  File "(.*)", line (\d+) in (.*)')
_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8}))")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What faulthandler wrote. printed: all that came before it. lines: (file, line, function), most recent first."""

    printed: str
    reason: str
    lines: tuple[tuple[str, int, str], ...]


def report(stderr: str) -> Report | None:
    """The last report in this text, the lines of the thread that crashed; None when there is none."""
    threads = list(_THREAD.finditer(stderr))
    if not threads:
        return None
    current = next((one for one in reversed(threads) if one[0].startswith("Current")), threads[-1])
    fatal = list(_FATAL.finditer(stderr, 0, current.start()))
    begin = fatal[-1].start() if fatal else threads[0].start()
    found = takewhile(bool, map(_LINE.match, stderr[current.end() :].split("\n")))
    lines = tuple((_unescaped(one[1]), int(one[2]), _unescaped(one[3])) for one in found if one)
    return Report(printed=stderr[:begin], reason=fatal[-1][1] if fatal else "", lines=lines)


def _unescaped(text: str) -> str:
    """With the characters that faulthandler, which writes ASCII alone, has replaced."""
    return _ESCAPE.sub(lambda found: chr(int(found[1] or found[2] or found[3], 16)), text)


async def explained(facts: DeathFacts, invocation: Invocation, store: Store) -> DeathFacts:
    """The facts of a death with the user's frames in them, and at the end of stderr their lines, most recent first."""
    stdout, stderr = facts.printed
    found = report(stderr)
    if found is None:
        return replace(facts, printed=(stdout[-TAIL_BYTES:], stderr[-TAIL_BYTES:]))
    library = Library(store, Signer(invocation.key), invocation.header, unpacks=False)
    with contextlib.suppress(
        DagnbError, TimeoutError
    ):  # without the text of cells there are lines without source
        async with asyncio.timeout(_CELLS_S):
            await library.open()
    library.show_cells()

    def label(file: str) -> str:
        return _without_folder(library.label(file))

    frames = exception.crash_frames(found.lines, label)
    last_words = library.labelled(found.printed)[-TAIL_BYTES:] + _text(found.reason, frames)
    return replace(facts, printed=(stdout[-TAIL_BYTES:], last_words), frames=tuple(frames))


def _without_folder(file: str) -> str:
    """A module of the user's without the folder that it was unpacked to."""
    folder = f"{modules.folder()}{os.sep}"
    return file.removeprefix(folder).partition(os.sep)[2] if file.startswith(folder) else file


def _text(reason: str, frames: list[Frame]) -> str:
    """As faulthandler writes it, the user's frames alone."""
    lines = [f"Fatal Python error: {reason}\n"] if reason else []
    lines.append("Most recent call first:\n")
    room = _SHOWN_CHARACTERS
    for n_shown, frame in enumerate(reversed(frames)):
        line = f'  File "{frame.file}", line {frame.line} in {frame.function}\n'
        if frame.times > 1:
            line += f"  ... {frame.times - 1} more times\n"
        room -= len(line)
        if room < 0:
            lines.append(f"  ... {len(frames) - n_shown} more\n")
            break
        lines.append(line)
    return "".join(lines)
