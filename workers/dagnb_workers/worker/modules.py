"""The user's own modules that are not installed: an archive of sources, unpacked once per machine.

The archive is unpacked to a folder of the private runtime directory, named by the archive's hash.
The agent removes it when it leaves: workers cannot, because most of them end by being killed.
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
    """Returns the folder of unpacked archives."""
    return runtime_directory() / "modules"


def install(name: str, archive: bytes) -> None:
    """Put the modules of a verified archive on sys.path, before other modules of the same names."""
    target = folder() / name
    if not target.exists():
        _unpack(archive, target)

    if str(target) not in sys.path:
        # '' stays first: the notebook's own folder comes before all others in the client, too.
        first = 1 if sys.path[:1] == [""] else 0
        sys.path.insert(first, str(target))
        importlib.invalidate_caches()


def _unpack(archive: bytes, target: Path) -> None:
    """Unpack to a draft, then rename it: several workers may do so at once; the first one wins."""
    target.parent.mkdir(mode=0o700, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=target.parent))
    with zipfile.ZipFile(io.BytesIO(archive)) as bundle:
        root = draft.resolve()
        # Names such as '../x' are left out: they would be written outside the draft.
        inside = [
            name for name in bundle.namelist() if (draft / name).resolve().is_relative_to(root)
        ]
        bundle.extractall(draft, inside)

    with contextlib.suppress(OSError):  # another worker was first, with the same content
        draft.rename(target)
    shutil.rmtree(draft, ignore_errors=True)
