"""The user's own modules for workers that do not share their files: the sources that tasks need, as one archive.

Needed is what the pickled tasks mention, and what the files of that import in turn, whether it is loaded or not. A
module that is one file goes alone; a package goes whole, with its data; of a folder without `__init__.py` the sources
go. Modules made in memory are in no file: they are pickled, for all workers but those in this process.
"""

from __future__ import annotations

import ast
import functools
import io
import os
import pickletools
import stat
import sys
import zipfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import FrozenImporter, ModuleSpec, PathFinder, all_suffixes
from types import ModuleType

from dagnb.errors import GraphError
from dagnb.failure import OWN_PACKAGES
from dagnb.graph.pickling.made_module import LIMIT_BYTES, pack_modules
from dagnb.sources import installed_folders, place_of, real_path

MOST_FILES = 10_000
"""Files and folders of a package, links followed: folders may be linked in more ways than can be walked"""

_SHOWN = 3
_READ_BYTES = 1_000_000
_EPOCH = (1980, 1, 1, 0, 0, 0)
_PROGRAMS = {"__main__", "__mp_main__"}
_CYTHON = ("_cython_", "cython_runtime")
"""modules that what Cython compiled makes in each process for itself"""


@dataclass(frozen=True, slots=True)
class _File:
    """One file of an archive: its name there, its path, when it was modified, its size."""

    name: str
    path: str
    modified_ns: int
    n_bytes: int


def archive(functions: Collection[bytes], data: Collection[bytes] = ()) -> bytes:
    """The sources of the user's modules that these pickles need, as a zip; b'' for none.

    Equal sources give equal bytes. functions: what they import is found also where it is not loaded here. data: pickles
    of arguments. Raises GraphError when the files come to more than 16 MB, or a module that is loaded cannot be read.
    """
    files = _needed_files(functions, data)
    total = sum(file.n_bytes for file in files)
    if total > LIMIT_BYTES or len(files) > MOST_FILES:
        raise _too_large(files, total)
    return _zipped(tuple(files)) if files else b""


def _too_large(files: Sequence[_File], total: int) -> GraphError:
    largest = sorted(files, key=lambda file: file.n_bytes, reverse=True)[:_SHOWN]
    shown = ", ".join(f"{file.path} ({file.n_bytes / 1e6:.1f} MB)" for file in largest)
    tops = sorted({file.name.partition(os.sep)[0] for file in files})
    return GraphError(
        f"the user's modules that these tasks need, {', '.join(tops)}, come to {total / 1e6:.1f} MB in {len(files)} "
        f"files, more than the {LIMIT_BYTES // 1_000_000} MB in {MOST_FILES:,} files that may travel to workers which "
        f"do not share this file system. The largest are {shown}. Move data out of the packages and mount its folder "
        "with Docker(mounts=...), or install the packages in the image."
    )


# ---- which modules ----


def _needed_files(functions: Collection[bytes], data: Collection[bytes]) -> list[_File]:
    """The files of all modules that are needed, sorted by name."""
    loaded = _loaded()
    waiting = {
        name for name in loaded if any(name.encode() in pickled for pickled in (*functions, *data))
    }
    for pickled in functions:
        waiting |= _strings(pickled)
    found: dict[str, _File] = {}
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for path in loaded.get(name) or _findable(name):
            for file in _files(name, path):
                found[file.name] = file
                if file.name.endswith(".py"):
                    waiting |= _mentioned(file.path, file.modified_ns, file.n_bytes)
        if len(found) > MOST_FILES:
            break
    return [found[name] for name in sorted(found)]


def _strings(pickled: bytes) -> set[str]:
    """The top-level names of whatever may be a module among the texts of a pickle: names that code uses are there."""
    if (
        len(pickled) > _READ_BYTES
    ):  # a function that encloses data; what is loaded is found without reading it
        return set()
    texts = {
        argument for _, argument, _ in pickletools.genops(pickled) if isinstance(argument, str)
    }
    return _tops(texts)


@functools.lru_cache(maxsize=1024)
def _mentioned(path: str, modified_ns: int, n_bytes: int) -> frozenset[str]:
    """The top-level names that a source imports, and texts in it that may be names of modules.

    modified_ns, n_bytes: of the file, so that an edited one is read anew.
    """
    try:
        with open(path, "rb") as source:
            tree = ast.parse(source.read())
    except (
        OSError,
        SyntaxError,
        ValueError,
        RecursionError,
    ):  # not needed: whoever imports it is told
        return frozenset()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names.add(node.value)
    return frozenset(_tops(names))


def _tops(names: Iterable[str]) -> set[str]:
    return {
        name.partition(".")[0]
        for name in names
        if all(part.isidentifier() for part in name.split("."))
    }


def _loaded() -> dict[str, list[str]]:
    """name -> places, of the user's top-level modules that are loaded."""
    found = {}
    for name, module in list(sys.modules.items()):
        if "." not in name and (places := _places(name, getattr(module, "__spec__", None))):
            found[name] = places
    return found


def _findable(name: str) -> list[str]:
    """Returns the places where a module that is not loaded would be found.

    A folder alone is none: any name might be one by chance.
    """
    if name in sys.modules or name in sys.builtin_module_names or name in sys.stdlib_module_names:
        return []
    try:
        spec = PathFinder.find_spec(name)
    except (ImportError, OSError, ValueError):
        return []
    return _places(name, spec) if spec is not None and spec.has_location else []


def _places(name: str, spec: object) -> list[str]:
    """The source file of a module, the folder of a package, the folders of a namespace package; [] for no user's."""
    place = place_of(spec)
    if name in OWN_PACKAGES or name in _PROGRAMS or place is None:
        return []
    file, folders = place
    own = file if folders is None else os.path.dirname(file)
    found = [own] if file else list(folders or ())
    installed = installed_folders()
    return [
        path
        for path in found
        if not path.startswith(installed) and not real_path(path).startswith(installed)
    ]


# ---- which files ----


def _files(name: str, path: str) -> Iterator[_File]:
    """The files of one module or package."""
    if os.path.isdir(path):
        is_regular = os.path.isfile(os.path.join(path, "__init__.py"))
        yield from _package(path, name, whole=is_regular)
    elif os.path.exists(path):
        yield from _one(
            path, name + os.path.basename(path)[len(os.path.basename(path).partition(".")[0]) :]
        )


def _package(folder: str, name: str, *, whole: bool) -> Iterator[_File]:
    """All files below a folder; of a part without `__init__.py` only sources. Links are followed, but in no circle.

    Raises GraphError when there are too many.
    """
    waiting = [(folder, name, whole, frozenset[tuple[int, int]]())]
    n_seen = 0
    while waiting:
        here, called, is_whole, above = waiting.pop()
        try:
            facts = os.stat(here)
            entries = sorted(os.listdir(here))
        except OSError:
            continue
        if (facts.st_dev, facts.st_ino) in above:
            continue
        is_whole = is_whole or "__init__.py" in entries
        for entry in entries:
            path, inner = os.path.join(here, entry), os.path.join(called, entry)
            if entry.startswith(".") or entry == "__pycache__" or not entry.isprintable():
                continue
            if is_folder := os.path.isdir(path):
                waiting.append((path, inner, is_whole, above | {(facts.st_dev, facts.st_ino)}))
            elif is_whole or entry.endswith(".py"):
                yield from _one(path, inner)
            n_seen += is_folder or is_whole
            if n_seen > MOST_FILES:
                raise GraphError(
                    f"the package '{name}' in {folder}, which these tasks need, holds more than {MOST_FILES:,} files "
                    "and folders, links followed; that many cannot travel to workers which do not share this file "
                    "system. Move data out of it and mount its folder with Docker(mounts=...), or install the package "
                    "in the image."
                )


def _one(path: str, name: str) -> Iterator[_File]:
    """The file, if it is a real one."""
    try:
        facts = os.stat(path)
    except OSError:  # removed just now, or a link to nothing as editors leave them
        return
    if stat.S_ISREG(facts.st_mode):
        yield _File(name, path, facts.st_mtime_ns, facts.st_size)


def _is_loaded(path: str) -> bool:
    return any(getattr(module, "__file__", None) == path for module in list(sys.modules.values()))


@functools.lru_cache(
    maxsize=1
)  # a notebook runs many DAGs, and its modules seldom change in between
def _zipped(files: tuple[_File, ...]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
        for file in files:
            try:
                with open(file.path, "rb") as source:
                    text = source.read()
            except OSError as error:
                if not _is_loaded(file.path):
                    continue
                raise GraphError(
                    f"the module in {file.path} cannot be read: {error}. Workers need it: make it readable, or move it "
                    "away and restart the kernel."
                ) from error
            bundle.writestr(zipfile.ZipInfo(file.name, _EPOCH), text, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


# ---- modules that no file holds ----


def made_modules() -> bytes:
    """Loaded modules of the user that no file holds, pickled by value; b'' for none."""
    installed = installed_folders()
    found: dict[str, ModuleType] = {}
    for name, module in list(sys.modules.items()):
        top = name.partition(".")[0]
        if top in _PROGRAMS | OWN_PACKAGES or name.startswith(_CYTHON) or not _is_made(module):
            continue
        if not (getattr(sys.modules.get(top), "__file__", None) or "").startswith(
            installed
        ):  # its import makes it
            found[name] = module
    return pack_modules(found)


def _is_made(module: object) -> bool:
    """Returns whether a module could not be found again by Python's own import."""
    if not isinstance(module, ModuleType):
        return False
    spec: object = getattr(module, "__spec__", None)
    if not isinstance(spec, ModuleSpec):
        return True
    place = place_of(spec)
    if place is None:
        return (
            spec.name not in sys.builtin_module_names
            and FrozenImporter.find_spec(spec.name) is None
        )
    file, _ = place
    return bool(file) and (
        not file.endswith(tuple(all_suffixes())) or not hasattr(spec.loader, "get_filename")
    )
