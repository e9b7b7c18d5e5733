"""Pickling by value: functions and classes that a worker could not import.

cloudpickle does it, with additions: files of code, slots, hooks of subclasses, objects of the
shell.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any, TypeVar

import cloudpickle

from dagnb.graph.pickling.reduction import (
    keeping_own,
    reduction,
    with_slots,
    without_hook,
)
from dagnb.graph.pickling.stand_in import stand_in, with_names

T = TypeVar("T")

# File name given to code while its real file name is pickled beside it.
_NO_FILE = "<no file>"

# Length of cloudpickle's reduction of a function or class by value; the last part sets the state.
_N_PARTS = 6


def plain_or_by_value(dump: Callable[[bool], T], body: Callable[[T], bytes]) -> T:
    """Pickle plainly, which is ten times faster; by value where that fails or names `__main__`.

    dump: pickles, by value if its argument is True. body: gives the pickle in what dump returned.
    """
    try:
        dumped = dump(False)
    except (pickle.PicklingError, TypeError, AttributeError):
        return dump(True)
    # Plain pickle names a class of the notebook, which a worker would not find. A string that
    # contains `__main__` is pickled a second time, without other harm.
    return dumped if b"__main__" not in body(dumped) else dump(True)


# Pickles name this function, so its name stays.
def _code_of_file(code: CodeType, file: str) -> CodeType:
    """Returns the code as if it had been compiled from this file."""
    return code.replace(co_filename=file)


class ByValuePickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Pickles as cloudpickle does, but code keeps its file.

    cloudpickle 3.1.3 and newer write one file name for all code, so tracebacks would have no source
    lines. Therefore the file is pickled beside the code, which any release of cloudpickle then
    pickles in its own way.

    Objects that cloudpickle refuses are built again from their documented parts (reduction.py).
    Objects of the notebook's own process, such as the IPython shell, are replaced by what workers
    have (stand_in.py).

    files: set by the caller; collects the source files of the code that is pickled by value.
    """

    files: set[str]

    def reducer_override(self, item: Any) -> Any:
        """Returns how to make the object again; cloudpickle's own way for most.

        pickle asks for every object that is not of a built-in type.
        """
        if type(item) is CodeType:
            return self._code(item)
        own = stand_in(item) or reduction(item)
        if own is not None:
            return own

        reduced = super().reducer_override(item)
        if not isinstance(reduced, tuple) or len(reduced) != _N_PARTS:
            return reduced  # it is importable, or has a reduction of its own
        if type(item) is FunctionType:
            return with_names(item, reduced)
        if isinstance(item, type):
            return keeping_own(item, without_hook(item, with_slots(item, reduced)))
        return reduced

    def _code(self, code: CodeType) -> Any:
        if code.co_filename == _NO_FILE:
            return NotImplemented  # cloudpickle's own reduction, through its dispatch table
        self.files.add(code.co_filename)
        return _code_of_file, (
            code.replace(co_filename=_NO_FILE),
            code.co_filename,
        )
