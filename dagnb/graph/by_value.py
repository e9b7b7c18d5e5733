"""Pickling by value: functions and classes that a worker could not import, as cloudpickle does it, with additions."""

from __future__ import annotations

from types import CodeType, FunctionType
from typing import Any

import cloudpickle

from dagnb.graph.reduction import reduction, without_hook
from dagnb.graph.slotted import with_slots
from dagnb.graph.stand_in import stand_in, with_names

_NO_FILE = "<no file>"
"""the file of code whose real file is pickled beside it"""


def _code_of_file(code: CodeType, file: str) -> CodeType:
    """The code as if it had been compiled from this file. Pickles of code call this when they are read."""
    return code.replace(co_filename=file)


class ByValuePickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Pickles as cloudpickle does, but code keeps its file; collects the files of the code that travels by value.

    cloudpickle 3.1.3 and newer write one and the same file name for all code, so tracebacks would have no source lines.
    The file is therefore pickled beside the code, which any release of cloudpickle then pickles in its own way.

    What cloudpickle cannot take is taken by its documented parts (reduction.py), and what belongs to the notebook's own
    process, such as the IPython shell, is replaced by what workers have instead (stand_in.py).
    """

    files: set[str]

    def reducer_override(self, item: Any) -> Any:
        """The reduction of code, of what is replaced, of what has one here; that of cloudpickle for all else."""
        if type(item) is CodeType:
            return self._code(item)
        found = stand_in(item) or reduction(item)
        if found is not None:
            return found
        found = super().reducer_override(item)
        if type(item) is FunctionType and isinstance(found, tuple):
            return with_names(item, found)
        if isinstance(item, type) and isinstance(found, tuple) and len(found) == 6:
            return without_hook(item, with_slots(item, found))
        return found

    def _code(self, code: CodeType) -> Any:
        if code.co_filename == _NO_FILE:
            return NotImplemented  # cloudpickle's own reduction, through its dispatch table
        self.files.add(code.co_filename)
        return _code_of_file, (code.replace(co_filename=_NO_FILE), code.co_filename)
