"""The user's own modules that are not installed: an archive of their sources, unpacked once, put on sys.path."""

from __future__ import annotations

import atexit
import importlib
import io
import os
import shutil
import sys
import tempfile
import zipfile

_installed: set[str] = set()


def install(name: str, archive: bytes) -> None:
    """Make the modules of an archive importable, before everything else of that name. Verified bytes only."""
    if name in _installed:
        return
    folder = tempfile.mkdtemp(prefix="dagnb-modules-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with zipfile.ZipFile(io.BytesIO(archive)) as bundle:
        for entry in bundle.namelist():
            target = os.path.normpath(os.path.join(folder, entry))
            if target.startswith(folder + os.sep):
                bundle.extract(entry, folder)
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    _installed.add(name)
