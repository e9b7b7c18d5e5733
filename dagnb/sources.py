"""The user's own modules that are not installed (a helpers.py beside the notebook), as one archive of their sources."""

from __future__ import annotations

import functools
import io
import os
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from types import ModuleType

from dagnb.errors import GraphError

LIMIT_BYTES = 16_000_000
_EPOCH = (1980, 1, 1, 0, 0, 0)
_ARMS = {"dagnb", "dagnb_kernel_ext", "dagnb_planners", "dagnb_workers"}


def archive() -> bytes:
    """The sources of loaded modules that a worker could not import by itself, as a zip; b'' for none.

    Equal sources give equal bytes. Raises GraphError when they come to more than 16 MB.
    """
    files = []
    for name, path in sorted(dict(_files()).items()):
        facts = os.stat(path)
        files.append((name, path, facts.st_mtime_ns, facts.st_size))
    total = sum(size for *_, size in files)
    if total > LIMIT_BYTES:
        raise GraphError(
            f"the modules beside this notebook come to {total // 1_000_000} MB of source, more than 16 MB. "
            "Install them as a package, or move what the tasks do not need elsewhere."
        )
    return _zipped(tuple(files)) if files else b""


@functools.lru_cache(maxsize=1)  # a notebook runs many DAGs, and its modules seldom change in between
def _zipped(files: tuple[tuple[str, str, int, int], ...]) -> bytes:
    """files: (name, path, modified, size); the last two tell when to pack again."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, path, *_ in files:
            with open(path, "rb") as source:
                bundle.writestr(zipfile.ZipInfo(name, _EPOCH), source.read(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _files() -> Iterator[tuple[str, str]]:
    """(name in the archive, path) of every source file of the user's top-level modules and packages."""
    installed = _installed_folders()
    for name, module in list(sys.modules.items()):
        if "." in name or name in _ARMS or name.startswith("__"):
            continue
        for path in _places(module):
            if path.startswith(installed) or os.path.realpath(path).startswith(installed):
                continue
            if os.path.isdir(path):
                yield from _package(path, name)
            else:
                yield f"{name}.py", path


def _places(module: ModuleType) -> list[str]:
    """The source file of a module, the folder of a package, the folders of a namespace package."""
    if getattr(module, "__spec__", None) is None:
        return []
    file = getattr(module, "__file__", None)
    if file is None:
        return [path for path in getattr(module, "__path__", ()) if os.path.isdir(path)]
    if not isinstance(file, str) or not file.endswith(".py") or not os.path.isfile(file):
        return []
    return [os.path.dirname(file) if os.path.basename(file) == "__init__.py" else file]


def _package(folder: str, name: str) -> Iterator[tuple[str, str]]:
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if f != "__pycache__" and not f.startswith("."))
        for file in sorted(files):
            if file.endswith(".py"):
                path = os.path.join(here, file)
                yield os.path.join(name, os.path.relpath(path, folder)), path


def _installed_folders() -> tuple[str, ...]:
    """Where installed modules live, with a separator at the end."""
    paths = {sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
    paths |= {sys.prefix + os.sep + "lib", sys.base_prefix + os.sep + "lib"}
    paths |= {path for path in sys.path if path.endswith(("site-packages", "dist-packages"))}
    return tuple(os.path.realpath(path) + os.sep for path in paths if path)
