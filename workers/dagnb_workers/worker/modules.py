"""The user's own modules that are not installed: sources in an archive, unpacked once a machine.

The folder is named by the archive's content and lies in the private runtime directory; the agent
removes it when it leaves. Workers usually end by being killed, so they cannot clean up themselves.
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
    """Put the modules of a verified archive on sys.path, before all others of their names."""
    target = folder() / name
    if not target.exists():
        _unpack(archive, target)

    if str(target) not in sys.path:
        # '' stays first: the notebook's own folder comes before all others in the client, too.
        first = 1 if sys.path[:1] == [""] else 0
        sys.path.insert(first, str(target))
        importlib.invalidate_caches()


def _unpack(archive: bytes, target: Path) -> None:
    """Unpack all or nothing: several workers may do it at a time, and the first one wins."""
    target.parent.mkdir(mode=0o700, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=target.parent))
    with zipfile.ZipFile(io.BytesIO(archive)) as bundle:
        root = draft.resolve()
        # Without names such as '../x', which would be written outside the draft.
        inside = [
            name for name in bundle.namelist() if (draft / name).resolve().is_relative_to(root)
        ]
        bundle.extractall(draft, inside)

    with contextlib.suppress(OSError):  # it is there by now, with the same content
        draft.rename(target)
    shutil.rmtree(draft, ignore_errors=True)
