"""Modules that were made in memory: no file holds them, so they travel by value, and are imported from what travelled.

Each is pickled by itself. One that cannot be pickled travels as the reason, which whoever imports it is told.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import io
import pickle
from collections.abc import Iterable, Mapping, Sequence
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any

import msgpack

from dagnb.failure import reason_of
from dagnb.graph.pickling.by_value import ByValuePickler
from dagnb.graph.pickling.reduction import taken_by_value

LIMIT_BYTES = 16_000_000

_OF_THE_IMPORT = ("__builtins__", "__loader__", "__spec__", "__cached__")
"""names in a module that each import sets anew"""

_GLOBALS, _MODULE = "globals", "module"


class _Buffer(io.BytesIO):
    """Refuses to hold more than may travel."""

    def write(self, data: Any) -> int:
        """Raises ValueError."""
        if self.tell() + memoryview(data).nbytes > LIMIT_BYTES:
            raise ValueError(f"it comes to more than {LIMIT_BYTES // 1_000_000} MB")
        return super().write(data)


class _Pickler(ByValuePickler):
    """Pickles what is in one module. Its functions keep the module's own globals, also when they come back."""

    module: ModuleType

    def persistent_id(self, item: object) -> str | None:
        """Stands for the module, and for its globals."""
        if item is vars(self.module):
            return _GLOBALS
        return _MODULE if item is self.module else None

    def reducer_override(self, item: Any) -> Any:
        """The reduction of a function that was defined in the module; else as ByValuePickler does."""
        if type(item) is not FunctionType or item.__globals__ is not vars(self.module):
            return super().reducer_override(item)
        cells = item.__closure__ or ()
        made = (item.__code__, vars(self.module), item.__name__, len(cells))
        named = (
            "__defaults__",
            "__kwdefaults__",
            "__annotations__",
            "__qualname__",
            "__doc__",
            "__module__",
        )
        state = ({name: getattr(item, name) for name in named}, dict(vars(item)), cells)
        return _function, made, state, None, None, _completed


def _function(code: CodeType, space: dict[str, Any], name: str, n_cells: int) -> FunctionType:
    """A function without what it may refer to itself by. Pickles call this when they are read."""
    return FunctionType(code, space, name, None, tuple(CellType() for _ in range(n_cells)))


def _completed(
    function: FunctionType, state: tuple[dict[str, Any], dict[str, Any], Sequence[CellType]]
) -> None:
    """Give a function the rest. Pickles call this when they are read."""
    attributes, more, cells = state
    for name, value in attributes.items():
        setattr(function, name, value)
    vars(function).update(more)
    for own, told in zip(function.__closure__ or (), cells, strict=True):
        try:
            own.cell_contents = told.cell_contents
        except ValueError:  # nothing was in it
            continue


class _Unpickler(pickle.Unpickler):
    module: ModuleType

    def persistent_load(self, reference: Any) -> Any:
        """Returns the module or its globals, for which persistent_id stood."""
        return vars(self.module) if reference == _GLOBALS else self.module


def pack_modules(modules: Mapping[str, ModuleType]) -> bytes:
    """The modules by the names they are imported by; b'' for none."""
    if not modules:
        return b""
    told = [(name, *_packed(name, module)) for name, module in sorted(modules.items())]
    packed: bytes = msgpack.packb(told)
    return packed


def _packed(name: str, module: ModuleType) -> tuple[bytes, str]:
    """Its bytes, or why there are none."""
    content = {key: value for key, value in vars(module).items() if key not in _OF_THE_IMPORT}
    buffer = _Buffer()
    pickler = _Pickler(buffer, protocol=5)
    pickler.files, pickler.module = set(), module
    try:
        with taken_by_value(module):
            pickler.dump(content)
    except Exception as error:  # noqa: BLE001  # pickling runs the user's code: it may raise anything
        return b"", reason_of(error)
    return buffer.getvalue(), ""


class MadeModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds and loads what pack_modules gave."""

    def __init__(self, packed: bytes) -> None:
        """Nothing is unpickled before it is imported."""
        self._known: dict[str, tuple[bytes, str]] = {
            name: (data, why) for name, data, why in msgpack.unpackb(packed)
        }

    @property
    def names(self) -> Iterable[str]:
        """The names under which modules can be imported."""
        return self._known.keys()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """See importlib.abc.MetaPathFinder."""
        if fullname not in self._known:
            return None
        is_package = any(name.startswith(f"{fullname}.") for name in self._known)
        return importlib.machinery.ModuleSpec(fullname, self, is_package=is_package)

    def exec_module(self, module: ModuleType) -> None:
        """Fill the module. Raises ImportError when it could not travel."""
        data, why = self._known[module.__name__]
        if why:
            raise ImportError(
                f"the module '{module.__name__}' was made in memory, and what is in it cannot be pickled: {why}. "
                "Write it to a file that can be imported, or make it inside the task.",
                name=module.__name__,
            )
        unpickler = _Unpickler(io.BytesIO(data))
        unpickler.module = module
        own = {
            name: value
            for name, value in vars(module).items()
            if name in {*_OF_THE_IMPORT, "__path__"}
        }
        vars(module).update({**unpickler.load(), **own})
