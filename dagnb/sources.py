"""The user's own modules that are not installed (a helpers.py beside the notebook), as one archive of their sources."""

from __future__ import annotations

import io
import os
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from types import ModuleType

from dagnb.errors import GraphError
from dagnb.graph.dag import Dag

LIMIT_BYTES = 16_000_000
_EPOCH = (1980, 1, 1, 0, 0, 0)
_ARMS = {"dagnb", "dagnb_kernel_ext", "dagnb_planners", "dagnb_workers"}


def archive(dag: Dag) -> bytes:
    """The sources of loaded modules that a worker could not import by itself, as a zip; b'' for none.

    Equal sources give equal bytes. Raises GraphError when they come to more than 16 MB.
    """
    files = dict(sorted(_files()))
    total = sum(os.path.getsize(path) for path in files.values())
    if total > LIMIT_BYTES:
        raise GraphError(
            f"the modules beside this notebook come to {total // 1_000_000} MB of source, more than 16 MB. "
            "Install them as a package, or move what the tasks do not need elsewhere."
        )
    if not files:
        return b""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, path in files.items():
            with open(path, "rb") as source:
                bundle.writestr(zipfile.ZipInfo(name, _EPOCH), source.read(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _files() -> Iterator[tuple[str, str]]:
    """(name in the archive, path) of every source file of the user's top-level modules and packages."""
    installed = _installed_folders()
    for name, module in list(sys.modules.items()):
        if "." in name or name in _ARMS or name.startswith("__"):
            continue
        file = _source(module)
        if file is None or file.startswith(installed):
            continue
        if os.path.basename(file) == "__init__.py":
            yield from _package(os.path.dirname(file), name)
        else:
            yield f"{name}.py", file


def _source(module: ModuleType) -> str | None:
    file = getattr(module, "__file__", None)
    if not isinstance(file, str) or not file.endswith(".py") or getattr(module, "__spec__", None) is None:
        return None
    return os.path.realpath(file)


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
