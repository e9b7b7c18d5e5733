"""The user's own modules that are not installed: an archive of their sources, unpacked once a machine, put on sys.path.

The folder is named by the archive's content and lies in the private runtime directory; the agent removes it when it
leaves. Workers end by being killed as a rule, so none of them could clean up behind itself.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

from dagnb.storage.home import runtime_directory


def folder() -> Path:
    """Where unpacked archives lie."""
    return runtime_directory() / "modules"


def install(name: str, archive: bytes) -> None:
    """Make the modules of an archive importable, before everything else of that name. Verified bytes only."""
    place = folder() / name
    if not place.exists():
        _unpack(archive, place)
    if str(place) not in sys.path:
        sys.path.insert(
            1 if sys.path[:1] == [""] else 0, str(place)
        )  # the folder of the notebook itself comes first
        importlib.invalidate_caches()


def _unpack(archive: bytes, place: Path) -> None:
    """All or nothing: several workers may unpack the same archive at a time, and the first one wins."""
    place.parent.mkdir(mode=0o700, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=place.parent))
    with zipfile.ZipFile(io.BytesIO(archive)) as bundle:
        inside = [
            entry
            for entry in bundle.namelist()
            if (draft / entry).resolve().is_relative_to(draft.resolve())
        ]
        bundle.extractall(draft, inside)
    with contextlib.suppress(OSError):
        draft.rename(place)
    shutil.rmtree(draft, ignore_errors=True)
