"""The user's own sources as text: cells, which are no files; lines by frame; which files are installed ones."""

from __future__ import annotations

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
"""asked in turn how people call the file of a cell; the notebook arm puts its own here"""

Place: TypeAlias = tuple[str, tuple[str, ...] | None]
"""File of a module, '' for a package without one; the folders of a package, None for what is none"""

_CONTEXT = 2
_MAX_LINE, _MAX_NEAR = 500, 200
_DEEPEST = 10_000


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


def frames(
    trace: TracebackType | None, label: Callable[[str], str] = str, *, most: int = 50
) -> list[Frame]:
    """The innermost frames of a traceback, outermost first, a recursion as one. label: file -> how people call it."""
    codes = [frame.f_code for frame, _ in traceback.walk_tb(trace)]
    entries = zip(traceback.extract_tb(trace, -_DEEPEST), codes[-_DEEPEST:], strict=True)
    repeated = [list(same) for _, same in groupby(entries, lambda pair: (pair[1], pair[0].lineno))]
    installed = installed_folders()
    return [_frame(*same[0], label, installed, len(same)) for same in repeated[-most:]]


def frame_at(file: str, line: int, function: str, label: Callable[[str], str] = str) -> Frame:
    """The frame of which no more is known than this, with its line of source. label: as for frames."""
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
    file, line, is_library = (
        entry.filename,
        entry.lineno or 0,
        _is_library(entry.filename, installed),
    )
    first, last = _extent(code)
    near = (
        range(max(first, line - _CONTEXT), min(last, line + _CONTEXT) + 1)
        if not is_library
        else range(line, line)
    )
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
    return (
        len(source.encode()[:n_bytes].decode(errors="replace"))
        if source and n_bytes is not None
        else None
    )


def _is_library(file: str, installed: tuple[str, ...]) -> bool:
    """Installed, built in, or compiled from a file that is not here."""
    if file.startswith((*installed, "<frozen ")) or real_path(file).startswith(installed):
        return True
    return file.endswith((".pyx", ".pxi", ".pxd")) and not os.path.exists(file)


def installed_folders() -> tuple[str, ...]:
    """Where installed modules live, with a separator at the end."""
    paths = {sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
    paths |= {sys.prefix + os.sep + "lib", sys.base_prefix + os.sep + "lib"}
    paths |= {
        path for path in map(str, sys.path) if path.endswith(("site-packages", "dist-packages"))
    }
    return tuple(real_path(path) + os.sep for path in paths if path)


def place_of(spec: object) -> Place | None:
    """Where what has this spec was found; None for what is in no file: built in, made in memory, without a spec."""
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
    """The path without links; as it is when it is relative to a current folder that was removed."""
    try:
        return os.path.realpath(path)
    except OSError:
        return path
