"""The user's own sources as text: cells, which are no files; lines by frame; installed folders."""

from __future__ import annotations

import functools
import linecache
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable
from importlib.machinery import ModuleSpec
from itertools import groupby
from types import CodeType, TracebackType
from typing import TypeAlias

from dagnb.errors import Frame

CELLS_BYTES = 1_000_000

labellers: list[Callable[[str], str | None]] = []
"""functions file -> name of its cell or None, tried in turn; the notebook package adds its own"""

Place: TypeAlias = tuple[str, tuple[str, ...] | None]
"""file of a module, '' for a package without one; folders of a package, None for a module"""

# Lines before and after the one that raised.
_CONTEXT = 2

# Characters of a line, of a line near it; generated code has lines of megabytes.
_MAX_LINE, _MAX_NEAR = 500, 200

# Innermost frames that are read; a recursion with a raised limit may be deeper.
_DEEPEST = 10_000


def cells(files: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Returns file -> (its name for people, its text) of files that exist in this process alone.

    At most CELLS_BYTES characters in all, small files first.
    """
    # '<string>' names every text given to exec() or `python -c`; from 3.13 on Python keeps the
    # lines of one of them.
    texts: dict[str, str] = {}
    for file in files:
        if file != "<string>" and not os.path.exists(file):
            texts[file] = "".join(linecache.getlines(file))
    kept: dict[str, tuple[str, str]] = {}
    room = CELLS_BYTES
    for file, text in sorted(texts.items(), key=lambda item: (len(item[1]), item[0])):
        room -= len(text)
        if text and room >= 0:
            kept[file] = (_label_of(file), text)
    return kept


def _label_of(file: str) -> str:
    for labeller in labellers:
        name = labeller(file)
        if name:
            return name
    return file


def frames(
    trace: TracebackType | None,
    label: Callable[[str], str] = str,
    *,
    most: int = 50,
) -> list[Frame]:
    """Returns the innermost frames of a traceback, outermost first, a recursion as one frame.

    label: file -> its name for people.
    """
    codes = [frame.f_code for frame, _ in traceback.walk_tb(trace)]
    entries = zip(traceback.extract_tb(trace, -_DEEPEST), codes[-_DEEPEST:], strict=True)
    # Equal neighbours, by code and line, are one recursion; of functions that call each other the
    # frames stay apart.
    repeated = [list(same) for _, same in groupby(entries, lambda pair: (pair[1], pair[0].lineno))]
    installed = installed_folders()
    return [_frame(*same[0], label, installed, len(same)) for same in repeated[-most:]]


def frame_at(file: str, line: int, function: str, label: Callable[[str], str] = str) -> Frame:
    """Returns a frame known by file, line and function alone, with its line of source.

    label: see frames.
    """
    is_library = _is_library(file, installed_folders())
    return Frame(
        file=label(file),
        line=line,
        function=function,
        source=_line(file, line),
        is_library=is_library,
    )


def _frame(
    entry: traceback.FrameSummary,
    code: CodeType,
    label: Callable[[str], str],
    installed: tuple[str, ...],
    times: int,
) -> Frame:
    file, line = entry.filename, entry.lineno or 0
    is_library = _is_library(file, installed)
    near = range(line, line)  # the lines around a library's are of no use
    if not is_library:
        first, last = _extent(code)
        near = range(max(first, line - _CONTEXT), min(last, line + _CONTEXT) + 1)
    source = _line(file, line)
    return Frame(
        file=label(file),
        line=line,
        function=entry.name,
        source=source,
        end_line=entry.end_lineno,
        column=_characters(source, entry.colno),
        # The column of the end belongs to another line where an expression spans several.
        end_column=_characters(source, entry.end_colno if entry.end_lineno == line else None),
        before=_near(file, range(line - 1, near.start - 1, -1))[::-1],
        after=_near(file, range(line + 1, near.stop)),
        is_library=is_library,
        times=times,
    )


def _extent(code: CodeType) -> tuple[int, int]:
    """Returns the first and last line of a function; of a module the whole text."""
    if code.co_name == "<module>":
        return 1, sys.maxsize
    return code.co_firstlineno, max((end or 0 for _, end, *_ in code.co_positions()), default=0)


def _near(file: str, numbers: range) -> tuple[str, ...]:
    """Returns these lines, without blank ones at the far end."""
    lines = [_line(file, number)[:_MAX_NEAR] for number in numbers]
    while lines and not lines[-1]:
        lines.pop()
    return tuple(lines)


def _line(file: str, number: int) -> str:
    return linecache.getline(file, number).rstrip()[:_MAX_LINE]


def _characters(source: str, n_bytes: int | None) -> int | None:
    """Returns a column in characters; Python counts bytes of UTF-8."""
    if not source or n_bytes is None:
        return None
    return len(source.encode()[:n_bytes].decode(errors="replace"))


def _is_library(file: str, installed: tuple[str, ...]) -> bool:
    """Returns whether a file is installed, built in, or compiled from a file that is missing."""
    if file.startswith((*installed, "<frozen ")) or real_path(file).startswith(installed):
        return True
    # Cython names the source it was compiled from, as a path on the machine that built it.
    return file.endswith((".pyx", ".pxi", ".pxd")) and not os.path.exists(file)


def installed_folders() -> tuple[str, ...]:
    """Returns the folders of installed modules, with a separator at the end."""
    folders = set(_folders_of_python(sys.prefix, sys.base_prefix))
    for folder in map(str, sys.path):  # of the user, of Debian, of an environment below this one
        if folder.endswith(("site-packages", "dist-packages")):
            folders.add(real_path(folder) + os.sep)
    return tuple(folders)


@functools.lru_cache(maxsize=1)  # an archive asks for each loaded module, and sysconfig is slow
def _folders_of_python(prefix: str, base_prefix: str) -> tuple[str, ...]:
    """Returns the folders of the interpreter and its environment, with a separator at the end."""
    paths = {sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
    paths |= {prefix + os.sep + "lib", base_prefix + os.sep + "lib"}
    return tuple(real_path(path) + os.sep for path in paths if path)


def place_of(spec: object) -> Place | None:
    """Returns the place where the module of this spec was found.

    Returns None for a module that is in no file: built in, made in memory, or without a spec.
    """
    if not isinstance(spec, ModuleSpec):
        return None
    inside = spec.submodule_search_locations
    folders = None if inside is None else tuple(inside)
    if spec.origin is None and folders:
        return "", folders
    if not spec.has_location or not isinstance(spec.origin, str):
        return None
    return spec.origin, folders


def real_path(path: str) -> str:
    """Returns the path without links; unchanged if it is relative to a folder that was removed."""
    try:
        return os.path.realpath(path)
    except OSError:
        return path
