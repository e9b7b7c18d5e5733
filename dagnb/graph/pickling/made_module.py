"""Modules that were made in memory: no file holds them, so they are pickled.

Workers import them from the pickles. Each module is pickled by itself. If one cannot be pickled,
the reason is sent in its place, and its import on a worker fails with that reason.
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
"""limit of one pickled module, and of all files of modules together"""

# Names in a module that each import sets anew.
_OF_THE_IMPORT = ("__builtins__", "__loader__", "__spec__", "__cached__")

_GLOBALS, _MODULE = "globals", "module"


class _Buffer(io.BytesIO):
    """Refuses to hold more than LIMIT_BYTES, so that pickling stops early."""

    def write(self, data: Any) -> int:
        """Returns the number of bytes written. Raises ValueError beyond the limit."""
        if self.tell() + memoryview(data).nbytes > LIMIT_BYTES:
            raise ValueError(f"it is larger than {LIMIT_BYTES // 1_000_000} MB")
        return super().write(data)


# Attributes of a function that are pickled beside its code and its globals.
_ATTRIBUTES = (
    "__defaults__",
    "__kwdefaults__",
    "__annotations__",
    "__qualname__",
    "__doc__",
    "__module__",
)


class _Pickler(ByValuePickler):
    """Pickles the content of one module.

    Its functions keep the module's own globals: cloudpickle would give each a copy, and a function
    that sets a global would set it for itself alone.
    """

    module: ModuleType

    def persistent_id(self, item: object) -> str | None:
        """Returns a name for the module, and one for its globals; None for all else."""
        if item is vars(self.module):
            return _GLOBALS
        return _MODULE if item is self.module else None

    def reducer_override(self, item: Any) -> Any:
        """Returns the reduction of a function of the module; else as ByValuePickler does."""
        if type(item) is not FunctionType or item.__globals__ is not vars(self.module):
            return super().reducer_override(item)
        cells = item.__closure__ or ()
        arguments = (item.__code__, vars(self.module), item.__name__, len(cells))
        # Filled after it is made, because each of these may refer to the function itself.
        attributes = {name: getattr(item, name) for name in _ATTRIBUTES}
        state = (attributes, dict(vars(item)), cells)
        return _function, arguments, state, None, None, _completed


# Pickles name these two functions, so their names stay.
def _function(code: CodeType, space: dict[str, Any], name: str, n_cells: int) -> FunctionType:
    """Returns a function without attributes, and with empty cells."""
    return FunctionType(code, space, name, None, tuple(CellType() for _ in range(n_cells)))


def _completed(
    function: FunctionType,
    state: tuple[dict[str, Any], dict[str, Any], Sequence[CellType]],
) -> None:
    """Give a function its attributes, and its cells their content."""
    attributes, more, cells = state
    for name, value in attributes.items():
        setattr(function, name, value)
    vars(function).update(more)
    for own, given in zip(function.__closure__ or (), cells, strict=True):
        try:
            own.cell_contents = given.cell_contents
        except ValueError:  # nothing was in it
            continue


class _Unpickler(pickle.Unpickler):
    module: ModuleType

    def persistent_load(self, reference: Any) -> Any:
        """Returns the module or its globals, which persistent_id has replaced."""
        return vars(self.module) if reference == _GLOBALS else self.module


def pack_modules(modules: Mapping[str, ModuleType]) -> bytes:
    """Pickle modules, given by the names under which they are imported; b'' for none.

    Returns a MessagePack array of [name, pickle, reason why there is none].
    """
    if not modules:
        return b""
    lines = [(name, *_packed(name, module)) for name, module in sorted(modules.items())]
    packed: bytes = msgpack.packb(lines)
    return packed


def _packed(name: str, module: ModuleType) -> tuple[bytes, str]:
    """Returns the pickle of a module and "", or b"" and the reason."""
    content = {key: value for key, value in vars(module).items() if key not in _OF_THE_IMPORT}
    buffer = _Buffer()
    pickler = _Pickler(buffer, protocol=5)
    pickler.files, pickler.module = set(), module
    try:
        with taken_by_value(module):
            pickler.dump(content)
    # Pickling runs the user's code, which may raise anything.
    except Exception as error:  # noqa: BLE001  # as above
        return b"", reason_of(error)
    return buffer.getvalue(), ""


class MadeModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds and loads the modules that pack_modules packed, each unpickled when it is imported."""

    def __init__(self, packed: bytes) -> None:
        self._known: dict[str, tuple[bytes, str]] = {}
        for name, data, reason in msgpack.unpackb(packed):
            self._known[name] = (data, reason)

    @property
    def names(self) -> Iterable[str]:
        """The names under which modules can be imported."""
        return self._known.keys()

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        """See importlib.abc.MetaPathFinder."""
        if fullname not in self._known:
            return None
        is_package = any(name.startswith(f"{fullname}.") for name in self._known)
        return importlib.machinery.ModuleSpec(fullname, self, is_package=is_package)

    def exec_module(self, module: ModuleType) -> None:
        """Fill the module. Raises ImportError when it could not be pickled."""
        data, reason = self._known[module.__name__]
        if reason:
            raise ImportError(
                f"the module '{module.__name__}' was made in memory, "
                f"and its content cannot be pickled: {reason}. "
                "Write it to a file that can be imported, or make it inside the task.",
                name=module.__name__,
            )
        unpickler = _Unpickler(io.BytesIO(data))
        unpickler.module = module
        content = unpickler.load()
        # The import machinery has set these for this process; the pickle holds those of the client.
        for name in (*_OF_THE_IMPORT, "__path__"):
            if name in vars(module):
                content.pop(name, None)
        vars(module).update(content)
