"""Pickling by value: functions and classes that a worker could not import, as cloudpickle does it, with additions."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any, TypeVar

import cloudpickle

from dagnb.graph.pickling.reduction import keeping_own, reduction, with_slots, without_hook
from dagnb.graph.pickling.stand_in import stand_in, with_names

T = TypeVar("T")

_NO_FILE = "<no file>"
"""the file of code whose real file is pickled beside it"""

_N_PARTS = 6
"""of the reduction of a function or class that travels by value, the last of which fills it"""


def plain_or_by_value(dump: Callable[[bool], T], body: Callable[[T], bytes]) -> T:
    """Pickle plainly, which is ten times faster, and by value only where that fails or names `__main__`.

    dump: is told whether to pickle by value. body: the pickle in what it gives.
    """
    try:
        dumped = dump(False)
    except (pickle.PicklingError, TypeError, AttributeError):
        return dump(True)
    return dumped if b"__main__" not in body(dumped) else dump(True)


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
        if not isinstance(found, tuple) or len(found) != _N_PARTS:
            return found
        if type(item) is FunctionType:
            return with_names(item, found)
        if isinstance(item, type):
            return keeping_own(item, without_hook(item, with_slots(item, found)))
        return found

    def _code(self, code: CodeType) -> Any:
        if code.co_filename == _NO_FILE:
            return NotImplemented  # cloudpickle's own reduction, through its dispatch table
        self.files.add(code.co_filename)
        return _code_of_file, (code.replace(co_filename=_NO_FILE), code.co_filename)
