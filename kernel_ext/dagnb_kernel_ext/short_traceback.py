"""How IPython shows what goes wrong in a `%%dag` cell or a `%dag` line: the user's own lines, none of ours."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from types import TracebackType

from IPython.core.interactiveshell import InteractiveShell

from dagnb.errors import DagnbError
from dagnb.failure import OWN_PACKAGES
from dagnb_kernel_ext.tracebacks import render

_HOOK = "_render_traceback_"
"""IPython asks an exception by this name how it is shown"""


class ShortTraceback:
    """Lets what is raised inside be shown without our frames; what knows how to show itself stays as it is."""

    def __init__(self, shell: InteractiveShell) -> None:
        """In this shell."""
        self._shell = shell

    def __enter__(self) -> None:
        """Begin. (contextlib would set __traceback__ on the way out, which some exceptions forbid.)"""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Never swallows the error."""
        if error is not None and not hasattr(error, _HOOK):
            with contextlib.suppress(AttributeError):  # a class may forbid it
                setattr(error, _HOOK, functools.partial(_lines, error, self._shell))


def _lines(error: BaseException, shell: InteractiveShell) -> list[str]:
    """What we say on purpose as errors of runs are shown; the rest as in any cell, from the user's own code on."""
    if error.args and isinstance(error, DagnbError | KeyboardInterrupt | asyncio.CancelledError):
        return render(error, shell)
    own = _own(error.__traceback__)
    lines: list[str] = shell.InteractiveTB.structured_traceback(
        type(error), error, own or error.__traceback__, tb_offset=0 if own else None
    )
    return lines


def _own(trace: TracebackType | None) -> TracebackType | None:
    """From where we called the user's code; None when we did not."""
    while trace is not None and not _is_ours(trace):
        trace = trace.tb_next
    while trace is not None and _is_ours(trace):
        trace = trace.tb_next
    return trace


def _is_ours(trace: TracebackType) -> bool:
    return str(trace.tb_frame.f_globals.get("__name__")).partition(".")[0] in OWN_PACKAGES
