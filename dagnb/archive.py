"""The user's own modules for workers that do not share their files: sources in one archive.

The archive holds the modules that pickled tasks mention, and those that their source files import
in turn, loaded or not: of a module its one file, of a package all files including data, of a folder
without `__init__.py` the sources only. Modules made in memory have no file: they are pickled, for
all workers but those in this process.

When in doubt a module is included: a missing one fails a task, an unneeded one only costs its size.
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
from importlib.machinery import (
    FrozenImporter,
    ModuleSpec,
    PathFinder,
    all_suffixes,
)
from types import ModuleType

from dagnb.errors import GraphError
from dagnb.failure import OWN_PACKAGES
from dagnb.graph.pickling.made_module import LIMIT_BYTES, pack_modules
from dagnb.sources import installed_folders, place_of, real_path

MOST_FILES = 10_000
"""limit of files and folders in a package; followed links can make their number explode"""

# Files that the error names.
_SHOWN = 3

# Longer pickles are not searched for names: it would delay the start of the run.
_READ_BYTES = 1_000_000

# Time of every file in the archive, so that equal sources give equal bytes; zip starts in 1980.
_EPOCH = (1980, 1, 1, 0, 0, 0)
_PROGRAMS = {"__main__", "__mp_main__"}

# Prefixes of the modules that extensions compiled by Cython create anew in each process.
_CYTHON = ("_cython_", "cython_runtime")


@dataclass(frozen=True, slots=True)
class _File:
    """One file of an archive: its name there, its path, time of modification, size."""

    name: str
    path: str
    modified_ns: int
    n_bytes: int


def archive(functions: Collection[bytes], data: Collection[bytes] = ()) -> bytes:
    """Returns the sources of the user's modules that these pickles need, as a zip; b'' for none.

    Equal sources give equal bytes, so that they are stored once.
    functions: pickles of functions; the modules that they import are included even if this process
    has not loaded them. data: pickles of arguments; only loaded modules are looked for in them.
    Raises GraphError for more than 16 MB or 10,000 files, or a loaded module that cannot be read.
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
        f"the user's modules that these tasks need, {', '.join(tops)}, "
        f"come to {total / 1e6:.1f} MB in {len(files)} files, "
        f"more than the {LIMIT_BYTES // 1_000_000} MB in {MOST_FILES:,} files "
        "that may be sent to workers which do not share this file system. "
        f"The largest are {shown}. "
        "Move data out of the packages and mount its folder with Docker(mounts=...), "
        "or install the packages in the image."
    )


# ---- which modules ----


def _needed_files(functions: Collection[bytes], data: Collection[bytes]) -> list[_File]:
    """Returns the files of all modules that are needed, sorted by name.

    functions, data: pickles. Of data only loaded modules count: it was made by code that ran here.
    """
    loaded = _loaded()
    pickles = (*functions, *data)
    # A search for bytes is far faster than reading pickles, and finds more rather than less.
    waiting: set[str] = set()
    for name in loaded:
        if any(name.encode() in pickled for pickled in pickles):
            waiting.add(name)
    for pickled in functions:
        waiting |= _strings(pickled)

    files: dict[str, _File] = {}
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for path in loaded.get(name) or _findable(name):
            for file in _files(name, path):
                files[file.name] = file
                if file.name.endswith(".py"):
                    waiting |= _mentioned(file.path, file.modified_ns, file.n_bytes)
        if len(files) > MOST_FILES:
            break  # too large already, as the caller says
    return [files[name] for name in sorted(files)]


def _strings(pickled: bytes) -> set[str]:
    """Returns the top-level names of all texts of a pickle that may name a module.

    Names that code uses are among them.
    """
    # So large a pickle encloses data. The caller has found the loaded modules in it already.
    if len(pickled) > _READ_BYTES:
        return set()
    texts: set[str] = set()
    for _, argument, _ in pickletools.genops(pickled):
        if isinstance(argument, str):
            texts.add(argument)
    return _tops(texts)


@functools.lru_cache(maxsize=1024)
def _mentioned(path: str, modified_ns: int, n_bytes: int) -> frozenset[str]:
    """Returns the top-level names that a source imports, and texts in it that may name modules.

    modified_ns, n_bytes: of the file; part of the cache key, so that an edited file is read again.
    """
    try:
        with open(path, "rb") as source:
            tree = ast.parse(source.read())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return frozenset()  # a task that imports it fails with this error, which names the file
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            # An argument of importlib.import_module, perhaps.
            names.add(node.value)
    return frozenset(_tops(names))


def _tops(names: Iterable[str]) -> set[str]:
    tops = set()
    for name in names:
        parts = name.split(".")
        if all(map(str.isidentifier, parts)):
            tops.add(parts[0])
    return tops


def _loaded() -> dict[str, list[str]]:
    """Returns name -> places, of the user's top-level modules that are loaded."""
    loaded = {}
    # A copy, as other threads import meanwhile.
    for name, module in list(sys.modules.items()):
        if "." not in name and (places := _places(name, getattr(module, "__spec__", None))):
            loaded[name] = places
    return loaded


def _findable(name: str) -> list[str]:
    """Returns the places where a module that is not loaded would be found.

    A folder without `__init__.py` does not count: it may have the name of a module by chance.
    """
    if name in sys.modules or name in sys.builtin_module_names or name in sys.stdlib_module_names:
        return []
    try:
        spec = PathFinder.find_spec(name)  # runs no code of the module
    except (ImportError, OSError, ValueError):
        return []
    return _places(name, spec) if spec is not None and spec.has_location else []


def _places(name: str, spec: object) -> list[str]:
    """Returns the source file of a module, the folder of a package, or folders of a namespace.

    Empty for modules that are not the user's.
    """
    place = place_of(spec)
    if name in OWN_PACKAGES or name in _PROGRAMS or place is None:
        return []
    file, folders = place
    paths = list(folders or ())
    if file:
        paths = [file if folders is None else os.path.dirname(file)]
    installed = installed_folders()
    own = [path for path in paths if not path.startswith(installed)]
    # A link into an installed folder does not lead to the user's own files either.
    return [path for path in own if not real_path(path).startswith(installed)]


# ---- which files ----


def _files(name: str, path: str) -> Iterator[_File]:
    """Yields the files of one module or package."""
    if os.path.isdir(path):
        is_regular = os.path.isfile(os.path.join(path, "__init__.py"))
        yield from _package(path, name, whole=is_regular)
    elif os.path.exists(path):
        # `fast.cpython-311-x86_64-linux-gnu.so` keeps all its suffixes.
        _, dot, suffixes = os.path.basename(path).partition(".")
        yield from _regular_file(path, f"{name}{dot}{suffixes}")


def _package(folder: str, name: str, *, whole: bool) -> Iterator[_File]:
    """Yields all files below a folder; of a part without `__init__.py` only sources.

    Links are followed, except to a folder above. Raises GraphError when there are too many.
    """
    # Each entry has the folders above it, by device and inode: a link to one of them would be
    # followed for ever.
    waiting = [(folder, name, whole, frozenset[tuple[int, int]]())]
    n_seen = 0
    while waiting:
        parent, parent_name, is_whole, above = waiting.pop()
        try:
            stats = os.stat(parent)
            entries = sorted(os.listdir(parent))
        except OSError:  # deleted meanwhile, or not readable
            continue
        identity = (stats.st_dev, stats.st_ino)
        if identity in above:
            continue

        is_whole = is_whole or "__init__.py" in entries
        for entry in entries:
            path = os.path.join(parent, entry)
            inner = os.path.join(parent_name, entry)
            if entry.startswith(".") or entry == "__pycache__" or not entry.isprintable():
                continue
            if is_folder := os.path.isdir(path):
                waiting.append((path, inner, is_whole, above | {identity}))
            elif is_whole or entry.endswith(".py"):
                yield from _regular_file(path, inner)
            n_seen += is_folder or is_whole
            if n_seen > MOST_FILES:
                raise _too_many(name, folder)


def _too_many(name: str, folder: str) -> GraphError:
    return GraphError(
        f"the package '{name}' in {folder}, which these tasks need, "
        f"holds more than {MOST_FILES:,} files and folders, links followed; "
        "that many cannot be sent to workers which do not share this file system. "
        "Move data out of it and mount its folder with Docker(mounts=...), "
        "or install the package in the image."
    )


def _regular_file(path: str, name: str) -> Iterator[_File]:
    """Yields the file, if it is a regular one."""
    try:
        stats = os.stat(path)
    except OSError:  # deleted meanwhile, or a broken link, such as editors leave
        return
    if stat.S_ISREG(stats.st_mode):  # reading a pipe would block
        yield _File(name, path, stats.st_mtime_ns, stats.st_size)


def _is_loaded(path: str) -> bool:
    return any(getattr(module, "__file__", None) == path for module in list(sys.modules.values()))


# A notebook runs many DAGs, and its modules seldom change in between.
@functools.lru_cache(maxsize=1)
def _zipped(files: tuple[_File, ...]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
        for file in files:
            try:
                with open(file.path, "rb") as source:
                    text = source.read()
            except OSError as error:
                if not _is_loaded(file.path):
                    continue  # perhaps no task needs it
                raise GraphError(
                    f"the module in {file.path} cannot be read: {error}. "
                    "Workers need it: make it readable, or move it away and restart the kernel."
                ) from error
            bundle.writestr(zipfile.ZipInfo(file.name, _EPOCH), text, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


# ---- modules that no file holds ----


def made_modules() -> bytes:
    """Returns loaded modules of the user that no file holds, pickled by value; b'' for none."""
    installed = installed_folders()
    modules: dict[str, ModuleType] = {}
    for name, module in list(sys.modules.items()):
        top = name.partition(".")[0]
        if top in _PROGRAMS | OWN_PACKAGES or name.startswith(_CYTHON) or not _is_made(module):
            continue
        # A worker that imports an installed package, such as `six`, gets such modules from that
        # import.
        package_file = getattr(sys.modules.get(top), "__file__", None) or ""
        if not package_file.startswith(installed):
            modules[name] = module
    return pack_modules(modules)


def _is_made(module: object) -> bool:
    """Returns whether Python's own import could not find the module again."""
    if not isinstance(module, ModuleType):
        return False
    spec: object = getattr(module, "__spec__", None)
    if not isinstance(spec, ModuleSpec):
        return True
    place = place_of(spec)
    if place is None:
        is_builtin = spec.name in sys.builtin_module_names
        return not is_builtin and FrozenImporter.find_spec(spec.name) is None
    file, _ = place
    if not file:  # a namespace package
        return False
    # A loader of the user's may have read a kind of file that Python's import does not know.
    is_source = file.endswith(tuple(all_suffixes()))
    return not is_source or not hasattr(spec.loader, "get_filename")
