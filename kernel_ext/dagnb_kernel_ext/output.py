"""Outputs of cells: shows one, changes it later; and names of cells' files for tracebacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from IPython.core.interactiveshell import InteractiveShell
from IPython.display import display, update_display

from dagnb.views.markup import plain


def put(bundle: Mapping[str, object], *, output: str = "") -> None:
    """Show a MIME bundle under the running cell. output: an id, by which `change` finds it."""
    if output:
        display(dict(bundle), raw=True, display_id=output)  # type: ignore[no-untyped-call]
    else:
        display(dict(bundle), raw=True)  # type: ignore[no-untyped-call]  # IPython's


def change(output: str, bundle: Mapping[str, object]) -> None:
    """Show another bundle in an output, on all pages that show it; from any thread."""
    update_display(dict(bundle), raw=True, display_id=output)  # type: ignore[no-untyped-call]


def say(text: str) -> None:
    """Show text under the running cell."""
    put({"text/plain": plain(text)})


def cell_label(shell: InteractiveShell, file: str) -> str | None:
    """The name of a cell in tracebacks, 'Cell In[3]'; None for a file that is no cell here."""
    known = shell.compile.format_code_name(file)
    return " ".join(known) if known is not None else None


def labels(shell: InteractiveShell) -> Callable[[str], str]:
    """A function from a file to its name in tracebacks."""
    return lambda file: cell_label(shell, file) or file
