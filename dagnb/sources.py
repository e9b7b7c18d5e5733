"""The user's own sources: modules that are not installed, as one archive; cells, which are no files; lines by frame."""

from __future__ import annotations

import contextlib
import functools
import io
import linecache
import os
import sys
import sysconfig
import traceback
import zipfile
from collections.abc import Callable, Iterable, Iterator
from importlib.machinery import ModuleSpec, all_suffixes
from itertools import groupby
from types import CodeType, ModuleType, TracebackType

from dagnb.errors import Frame, GraphError
from dagnb.graph.made_module import pack_modules

LIMIT_BYTES = 16_000_000
CELLS_BYTES = 1_000_000

labellers: list[Callable[[str], str | None]] = []
"""asked in turn how people call the file of a cell; the notebook arm puts its own here"""

_CONTEXT = 2
_MAX_LINE, _MAX_NEAR = 500, 200
_DEEPEST = 10_000
_EPOCH = (1980, 1, 1, 0, 0, 0)
_ARMS = {"dagnb", "dagnb_kernel_ext", "dagnb_planners", "dagnb_workers"}
_PROGRAMS = {"__main__", "__mp_main__"}
_CYTHON = ("_cython_", "cython_runtime")
"""modules that what Cython compiled makes in each process for itself"""


def archive() -> bytes:
    """The sources of loaded modules that a worker could not import by itself, as a zip; b'' for none.

    Equal sources give equal bytes. Raises GraphError when they come to more than 16 MB.
    """
    files = []
    for name, path in sorted(dict(_files()).items()):
        with contextlib.suppress(FileNotFoundError):  # removed just now, or a link to nothing as editors leave them
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
            try:
                with open(path, "rb") as source:
                    text = source.read()
            except OSError as error:
                raise GraphError(
                    f"a module beside this notebook cannot be read: {error}. Workers need it: make it readable, "
                    "or move it away and restart the kernel."
                ) from error
            bundle.writestr(zipfile.ZipInfo(name, _EPOCH), text, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def made_modules() -> bytes:
    """Loaded modules of the user that no file holds, pickled by value; b'' for none."""
    installed = _installed_folders()
    found = {}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in _PROGRAMS | _ARMS or name.startswith(_CYTHON) or not _is_made(module):
            continue
        parent = sys.modules.get(name.partition(".")[0])
        if not (getattr(parent, "__file__", None) or "").startswith(
            installed
        ):  # a library that makes some does so there
            found[name] = module
    return pack_modules(found)


def _is_made(module: object) -> bool:
    """Whether a module could not be found again by Python's own import."""
    if not isinstance(module, ModuleType):
        return False
    spec: object = getattr(module, "__spec__", None)
    if not isinstance(spec, ModuleSpec):
        return True
    if spec.origin in {"built-in", "frozen"} or spec.submodule_search_locations:
        return False
    if not spec.has_location or not isinstance(spec.origin, str):
        return True
    return not spec.origin.endswith(tuple(all_suffixes())) or not hasattr(spec.loader, "get_filename")


def _files() -> Iterator[tuple[str, str]]:
    """(name in the archive, path) of every source file of the user's top-level modules and packages."""
    installed = _installed_folders()
    for name, module in list(sys.modules.items()):
        if "." in name or name in _ARMS or name.startswith("__"):
            continue
        for path in _places(module):
            if path.startswith(installed) or _real(path).startswith(installed):
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
            # A name that is no UTF-8 can be neither imported nor written into an archive.
            if file.endswith(".py") and file.isprintable():
                path = os.path.join(here, file)
                yield os.path.join(name, os.path.relpath(path, folder)), path


def cells(files: Iterable[str]) -> dict[str, tuple[str, str]]:
    """file -> (how people call it, its text), of files in this process alone; 1 MB at most, small ones first."""
    # '<string>' names every text given to exec() or `python -c`; from 3.13 on Python has lines for it, but only of one.
    wanted = {file for file in files if file != "<string>" and not os.path.exists(file)}
    texts = {file: "".join(linecache.getlines(file)) for file in wanted}
    found: dict[str, tuple[str, str]] = {}
    room = CELLS_BYTES
    for file, text in sorted(texts.items(), key=lambda item: (len(item[1]), item[0])):
        room -= len(text)
        if text and room >= 0:
            found[file] = (next((name for ask in labellers if (name := ask(file))), file), text)
    return found


def frames(trace: TracebackType | None, label: Callable[[str], str] = str, *, most: int = 50) -> list[Frame]:
    """The innermost frames of a traceback, outermost first, a recursion as one. label: file -> how people call it."""
    codes = [frame.f_code for frame, _ in traceback.walk_tb(trace)]
    entries = zip(traceback.extract_tb(trace, -_DEEPEST), codes[-_DEEPEST:], strict=True)
    repeated = [list(same) for _, same in groupby(entries, lambda pair: (pair[1], pair[0].lineno))]
    installed = _installed_folders()
    return [_frame(*same[0], label, installed, len(same)) for same in repeated[-most:]]


def frame_at(file: str, line: int, function: str, label: Callable[[str], str] = str) -> Frame:
    """The frame of which no more is known than this, with its line of source. label: as for frames."""
    is_library = _is_library(file, _installed_folders())
    return Frame(file=label(file), line=line, function=function, source=_line(file, line), is_library=is_library)


def _frame(
    entry: traceback.FrameSummary, code: CodeType, label: Callable[[str], str], installed: tuple[str, ...], times: int
) -> Frame:
    file, line, is_library = entry.filename, entry.lineno or 0, _is_library(entry.filename, installed)
    first, last = _extent(code)
    near = range(max(first, line - _CONTEXT), min(last, line + _CONTEXT) + 1) if not is_library else range(line, line)
    source = _line(file, line)
    return Frame(
        file=label(file),
        line=line,
        function=entry.name,
        source=source,
        end_line=entry.end_lineno,
        column=_characters(source, entry.colno),
        end_column=_characters(source, entry.end_colno if entry.end_lineno == line else None),
        before=_near(file, range(line - 1, near.start - 1, -1))[::-1],
        after=_near(file, range(line + 1, near.stop)),
        is_library=is_library,
        times=times,
    )


def _extent(code: CodeType) -> tuple[int, int]:
    """First and last line of a function; of the whole text for what is none."""
    if code.co_name == "<module>":
        return 1, sys.maxsize
    return code.co_firstlineno, max((end or 0 for _, end, *_ in code.co_positions()), default=0)


def _near(file: str, numbers: range) -> tuple[str, ...]:
    """These lines, without the blank ones farthest away."""
    lines = [_line(file, number)[:_MAX_NEAR] for number in numbers]
    while lines and not lines[-1]:
        lines.pop()
    return tuple(lines)


def _line(file: str, number: int) -> str:
    return linecache.getline(file, number).rstrip()[:_MAX_LINE]


def _characters(source: str, n_bytes: int | None) -> int | None:
    """Python counts columns in bytes."""
    return len(source.encode()[:n_bytes].decode(errors="replace")) if source and n_bytes is not None else None


def _is_library(file: str, installed: tuple[str, ...]) -> bool:
    """Installed, built in, or compiled from a file that is not here."""
    if file.startswith((*installed, "<frozen ")) or _real(file).startswith(installed):
        return True
    return file.endswith((".pyx", ".pxi", ".pxd")) and not os.path.exists(file)


def _installed_folders() -> tuple[str, ...]:
    """Where installed modules live, with a separator at the end."""
    paths = {sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
    paths |= {sys.prefix + os.sep + "lib", sys.base_prefix + os.sep + "lib"}
    paths |= {path for path in sys.path if path.endswith(("site-packages", "dist-packages"))}
    return tuple(_real(path) + os.sep for path in paths if path)


def _real(path: str) -> str:
    """The path without links; as it is when it is relative to a current folder that was removed."""
    try:
        return os.path.realpath(path)
    except OSError:
        return path
