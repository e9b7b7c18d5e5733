"""A home of dagnb for tests: nothing is read from the user's, nothing written to it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.services.processes import await_that

VARIABLE = "DAGNB_HOME"


@contextlib.contextmanager
def own_home() -> Iterator[Path]:
    """An empty folder is DAGNB_HOME until the end; an agent that was started there leaves with it.

    Its path is short, as that of a socket must be (about 100 letters).
    """
    before = os.environ.get(VARIABLE)
    folder = Path(tempfile.mkdtemp(prefix="dnb", dir="/tmp"))
    os.environ[VARIABLE] = str(folder)
    try:
        yield folder
    finally:
        if (folder / "run").exists():  # else nobody was there
            stop = [sys.executable, "-m", "dagnb", "agent", "--stop"]
            subprocess.run(stop, check=False, capture_output=True, timeout=60)
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
        await_that(lambda: _is_removed(folder), f"nobody writes to {folder} any more")


def _is_removed(folder: Path) -> bool:
    """Whoever was told to leave may still be writing its history."""
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()
