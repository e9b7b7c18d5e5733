"""Which state of dagnb's own code a process has: an agent outlives upgrades, its workers must not."""

from __future__ import annotations

import functools
import hashlib
import importlib
import sys
from pathlib import Path


def interpreter() -> str:
    """The path of this Python, the same whichever of its names it was called by: 'python', 'python3', 'python3.11'."""
    common = Path(sys.executable).with_name("python3")
    try:
        return str(common) if common.samefile(sys.executable) else sys.executable
    except OSError:
        return sys.executable


@functools.cache
def code_mark() -> str:
    """Changes with every change of dagnb's own files, so that no notebook meets workers forked from an older dagnb."""
    mark = hashlib.sha256()
    for package in ("dagnb", "dagnb_workers"):
        folder = Path(str(importlib.import_module(package).__file__)).parent
        for path in sorted(p for p in folder.rglob("*") if p.suffix in (".py", ".lua")):
            stat = path.stat()
            mark.update(f"{path}:{stat.st_mtime_ns}:{stat.st_size};".encode())
    return mark.hexdigest()[:16]
