"""What IPython prints for an error of a run: where it was asked for, and the user's own lines, not the way between."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from types import TracebackType

from IPython.core.interactiveshell import InteractiveShell

from dagnb import sources
from dagnb.errors import DagnbError, Frame, TaskFailedError
from dagnb.failure import OWN_PACKAGES, headline
from dagnb.views.errors import errors_lines
from dagnb.views.markup import plain
from dagnb.views.stack import StackLine, frame_lines
from dagnb_kernel_ext.output import labels

MAX_ERRORS = 10
MAX_OUTPUT = 2_000
"""what is printed at most: failed tasks, characters of each of their outputs; `%dag errors` shows more"""

_WIDTH = 75
_COLOURS = {"error": "31", "current": "32", "place": "36", "carets": "31"}
_MAGIC = re.compile(
    r"""(?:await )?get_ipython\(\)\.run_(cell|line)_magic\('dag', ('(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*").*"""
)


def render(error: BaseException, shell: InteractiveShell) -> list[str]:
    """Lines for `_render_traceback_`: where it was asked for, what happened, and for failed tasks their code."""
    kind = type(error).__name__
    asked = frame_lines([_as_typed(frame) for frame in _asked(error.__traceback__, shell)])
    header = f"{kind}{'Traceback (most recent call last)':>{_WIDTH - len(kind)}}"
    lines = (
        [StackLine("-" * _WIDTH, "error"), StackLine(header, "error"), *asked, StackLine("")]
        if asked
        else []
    )
    first, *more = plain(str(error.args[0]) if error.args else "").split("\n")
    lines += [StackLine(headline(kind, first), "error"), *map(StackLine, more)]
    if isinstance(error, TaskFailedError):
        lines += [StackLine(""), *errors_lines(error.errors, most=MAX_ERRORS, n_output=MAX_OUTPUT)]
    return (
        [_coloured(line) for line in lines]
        if shell.colors.lower() != "nocolor"
        else [line.text for line in lines]
    )


def install(shell: InteractiveShell) -> None:
    """Let every error of ours show itself so. IPython asks the top exception only, and only by this name."""

    def _render_traceback_(self: DagnbError) -> list[str]:
        return render(self, shell)

    setattr(DagnbError, _NAME, _render_traceback_)


def uninstall() -> None:
    """Let them show as other exceptions do."""
    if _NAME in vars(DagnbError):
        delattr(DagnbError, _NAME)


_NAME = "_render_traceback_"


def _asked(trace: TracebackType | None, shell: InteractiveShell) -> list[Frame]:
    """The user's own frames on the way to dagnb: of cells, and of modules beside the notebook."""
    kept: TracebackType | None = None
    for one in reversed(list(_each(trace))):
        if str(one.tb_frame.f_globals.get("__name__")).partition(".")[0] not in OWN_PACKAGES:
            kept = TracebackType(kept, one.tb_frame, one.tb_lasti, one.tb_lineno)
    return [frame for frame in sources.frames(kept, labels(shell)) if not frame.is_library]


def _each(trace: TracebackType | None) -> Iterator[TracebackType]:
    while trace is not None:
        yield trace
        trace = trace.tb_next


def _as_typed(frame: Frame) -> Frame:
    """With the magic itself in the place of what IPython makes of it."""
    found = _MAGIC.search(frame.source)
    if found is None:
        return frame
    sign = "%%" if found[1] == "cell" else "%"
    typed = f"{frame.source[: found.start()]}{sign}dag {ast.literal_eval(found[2])}".rstrip()
    return replace(frame, source=typed, column=None, end_column=None)


def _coloured(line: StackLine) -> str:
    colour = _COLOURS.get(line.kind)
    return f"\x1b[{colour}m{line.text}\x1b[0m" if colour and line.text else line.text
