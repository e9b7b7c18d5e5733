"""IPython's traceback of an error of a run: the line that started it, and the code that failed.

The frames in between, of dagnb and of installed packages, are left out: they say nothing about the
user's code. The error of a failed task holds the frames from its worker.

IPython calls the method `_render_traceback_` of an exception, if there is one. Errors of dagnb have
it; other exceptions that leave a `%%dag` cell or a `%dag` line get it from `ShortTraceback`.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import functools
import re
from collections.abc import Iterator
from dataclasses import replace
from types import TracebackType

from IPython.core.interactiveshell import InteractiveShell

from dagnb import sources
from dagnb.errors import DagnbError, Frame, TaskFailedError
from dagnb.failure import OWN_PACKAGES, headline
from dagnb.views.errors import StackLine, errors_lines, frame_lines
from dagnb.views.markup import plain
from dagnb_kernel_ext.cell import cell_label

HOOK = "_render_traceback_"
"""name of the method that IPython asks an exception for the lines of its traceback"""

MAX_ERRORS = 10
MAX_OUTPUT = 2_000
"""failed tasks, and characters of each of their outputs; `%dag errors` shows more"""

_WIDTH = 75
_COLOURS = {"error": "31", "current": "32", "place": "36", "carets": "31"}
_STRING = r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*\""""
_MAGIC = re.compile(rf"(?:await )?get_ipython\(\)\.run_(cell|line)_magic\('dag', ({_STRING}).*")


def render(error: BaseException, shell: InteractiveShell) -> list[str]:
    """The lines of `_render_traceback_`.

    They are the line that started the run, the message, and for failed tasks their code.
    """
    kind = type(error).__name__
    lines: list[StackLine] = []
    frames = [_as_typed(frame) for frame in _user_frames(error.__traceback__, shell)]
    code_lines = frame_lines(frames)
    if code_lines:
        header = f"{kind}{'Traceback (most recent call last)':>{_WIDTH - len(kind)}}"
        lines += [StackLine("-" * _WIDTH, "error"), StackLine(header, "error")]
        lines += [*code_lines, StackLine("")]
    first, *more = plain(str(error.args[0]) if error.args else "").split("\n")
    lines += [StackLine(headline(kind, first), "error"), *map(StackLine, more)]
    if isinstance(error, TaskFailedError):
        lines += [StackLine(""), *errors_lines(error.errors, most=MAX_ERRORS, n_output=MAX_OUTPUT)]
    if shell.colors.lower() == "nocolor":
        return [line.text for line in lines]
    return list(map(_coloured, lines))


def install(shell: InteractiveShell) -> None:
    """Give errors of dagnb the method that IPython calls for a traceback.

    IPython calls it on the outermost exception only.
    """

    def _render_traceback_(self: DagnbError) -> list[str]:
        return render(self, shell)

    setattr(DagnbError, HOOK, _render_traceback_)


def uninstall() -> None:
    """Let IPython render errors of dagnb as it does others."""
    if HOOK in vars(DagnbError):
        delattr(DagnbError, HOOK)


def _user_frames(trace: TracebackType | None, shell: InteractiveShell) -> list[Frame]:
    """The user's own frames on the way to dagnb: of cells, and of modules beside the notebook."""
    kept: TracebackType | None = None
    # From the innermost outwards: a traceback is built from its end.
    for part in reversed(list(_each(trace))):
        package = str(part.tb_frame.f_globals.get("__name__")).partition(".")[0]
        if package not in OWN_PACKAGES:
            kept = TracebackType(kept, part.tb_frame, part.tb_lasti, part.tb_lineno)
    frames = sources.frames(kept, lambda file: cell_label(shell, file) or file)
    return [frame for frame in frames if not frame.is_library]


def _each(trace: TracebackType | None) -> Iterator[TracebackType]:
    while trace is not None:
        yield trace
        trace = trace.tb_next


def _as_typed(frame: Frame) -> Frame:
    """The frame with `%dag` as it was typed, instead of the call that IPython makes of it."""
    call = _MAGIC.search(frame.source)
    if call is None:
        return frame
    sign = "%%" if call[1] == "cell" else "%"
    typed = f"{frame.source[: call.start()]}{sign}dag {ast.literal_eval(call[2])}".rstrip()
    # Columns are left out: those of the frame are of the call, not of the typed line.
    return replace(frame, source=typed, column=None, end_column=None)


def _coloured(line: StackLine) -> str:
    colour = _COLOURS.get(line.kind)
    if not colour or not line.text:
        return line.text
    return f"\x1b[{colour}m{line.text}\x1b[0m"


class ShortTraceback:
    """Gives exceptions raised inside a short traceback, unless they bring their own."""

    def __init__(self, shell: InteractiveShell) -> None:
        """Keep the shell, which shows the traceback."""
        self._shell = shell

    def __enter__(self) -> None:
        """Do nothing.

        This is a class rather than a generator, because contextlib would set `__traceback__` of the
        exception, which some exceptions forbid.
        """

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Add the method to an error, and let the error pass."""
        if error is not None and not hasattr(error, HOOK):
            with contextlib.suppress(AttributeError):  # a class may forbid it
                setattr(error, HOOK, functools.partial(_lines, error, self._shell))


def _lines(error: BaseException, shell: InteractiveShell) -> list[str]:
    """The lines of a traceback, from the user's own code on.

    Messages that dagnb raises on purpose are shown as errors of runs are.
    """
    if error.args and isinstance(error, DagnbError | KeyboardInterrupt | asyncio.CancelledError):
        return render(error, shell)
    own = _own(error.__traceback__)
    lines: list[str] = shell.InteractiveTB.structured_traceback(
        type(error), error, own or error.__traceback__, tb_offset=0 if own else None
    )
    return lines


def _own(trace: TracebackType | None) -> TracebackType | None:
    """The part of a traceback from the user's code on, below dagnb's frames; None without one."""
    while trace is not None and not _is_ours(trace):
        trace = trace.tb_next
    while trace is not None and _is_ours(trace):
        trace = trace.tb_next
    return trace


def _is_ours(trace: TracebackType) -> bool:
    return str(trace.tb_frame.f_globals.get("__name__")).partition(".")[0] in OWN_PACKAGES
