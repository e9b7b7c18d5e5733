"""Tracebacks of a `%%dag` cell or a `%dag` line without frames of dagnb: the user's lines only.

IPython calls the method `_render_traceback_` of an exception, if there is one. Errors of dagnb have
it (see tracebacks.py); other exceptions that leave the cell get it in this file.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from types import TracebackType

from IPython.core.interactiveshell import InteractiveShell

from dagnb.errors import DagnbError
from dagnb.failure import OWN_PACKAGES
from dagnb_kernel_ext.tracebacks import HOOK, render


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
