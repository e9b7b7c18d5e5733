"""What IPython prints for an error of a run: the user's own lines, not the way through dagnb."""

from __future__ import annotations

from dagnb.errors import RunError, TaskFailedError
from dagnb.views.errors import errors_text
from dagnb.views.markup import plain
from dagnb_kernel_ext.moment import Label, labelled


def render(error: RunError, label: Label) -> list[str]:
    """Lines for `_render_traceback_`: what happened, and for failed tasks their code."""
    lines = [f"{type(error).__name__}: {plain(str(error.args[0]))}"]
    if isinstance(error, TaskFailedError):
        told = errors_text([labelled(each, label) for each in error.errors])
        lines += ["", *told.splitlines()]
    return lines


def install(label: Label) -> None:
    """Let every RunError show itself so. IPython asks the top exception only, and only by this name."""

    def _render_traceback_(self: RunError) -> list[str]:
        return render(self, label)

    setattr(RunError, _NAME, _render_traceback_)


def uninstall() -> None:
    """Let them show as other exceptions do."""
    if _NAME in vars(RunError):
        delattr(RunError, _NAME)


_NAME = "_render_traceback_"
