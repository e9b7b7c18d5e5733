"""Pickling by value: functions and classes that a worker could not import, as cloudpickle does it, with additions."""

from __future__ import annotations

from types import CodeType
from typing import Any

import cloudpickle

from dagnb.graph.slotted import with_slots

_NO_FILE = "<no file>"
"""the file of code whose real file is pickled beside it"""


def _code_of_file(code: CodeType, file: str) -> CodeType:
    """The code as if it had been compiled from this file. Pickles of code call this when they are read."""
    return code.replace(co_filename=file)


class ByValuePickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Pickles as cloudpickle does, but code keeps its file; collects the files of the code that travels by value.

    cloudpickle 3.1.3 and newer write one and the same file name for all code, so tracebacks would have no source lines.
    The file is therefore pickled beside the code, which any release of cloudpickle then pickles in its own way.
    """

    files: set[str]

    def reducer_override(self, item: Any) -> Any:
        """The reduction of code and of classes with slots; that of cloudpickle for all else."""
        if isinstance(item, type):
            return with_slots(item, super().reducer_override(item))
        if type(item) is not CodeType:
            return super().reducer_override(item)
        if item.co_filename == _NO_FILE:
            return NotImplemented  # cloudpickle's own reduction, through its dispatch table
        self.files.add(item.co_filename)
        return _code_of_file, (item.replace(co_filename=_NO_FILE), item.co_filename)
