"""The input transformer of `%%dag` cells: refuses wrong code, and awaits code that awaits.

IPython turns the cell into a call of the magic, and a magic cannot await. So for a cell that
awaits, the magic returns a coroutine, and the transformer puts an `await` before the call. The
`await` also makes IPython run the cell on its event loop.
"""

from __future__ import annotations

import warnings

from IPython.core.error import UsageError
from IPython.core.inputtransformer2 import cell_magic
from IPython.core.interactiveshell import InteractiveShell

from dagnb_kernel_ext.cell import awaits, checked
from dagnb_kernel_ext.flags import HELP, parse


class CellTransformer:
    """An input transformer of one shell: the lines of a cell -> the lines that IPython runs."""

    # IPython skips transformers with side effects when it only asks whether a cell is complete.
    has_side_effects = True

    def __init__(self, shell: InteractiveShell) -> None:
        """Transform the cells of this shell."""
        self._shell = shell

    def __call__(self, lines: list[str]) -> list[str]:
        """Transform a cell; cells without `%%dag` stay as they are.

        Raises UsageError for a cell without a body, SyntaxError for one that is not Python.
        """
        magic, _, line = lines[0].rstrip().partition(" ") if lines else ("", "", "")
        if magic != "%%dag":
            return lines
        if HELP & set(line.split()):  # IPython refuses `%%dag -h` without a body
            return ["%dag -h\n"]
        cell = "".join(lines[1:])
        if not cell.strip():
            parse(line)  # an error in the line is reported first
            raise UsageError("%%dag: the cell is empty below its first line. `%%dag -h` explains.")
        if self._awaits(line, cell):
            (call,) = cell_magic(lines)  # type: ignore[no-untyped-call]  # IPython's
            return [f"await {call}"]
        return lines

    def _awaits(self, line: str, cell: str) -> bool:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are shown when the cell is compiled to be run
            return awaits(checked(self._shell, line, cell))
