"""A home of dagnb for tests: nothing is read from the user's, nothing written to it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

VARIABLE = "DAGNB_HOME"


@contextlib.contextmanager
def own_home() -> Iterator[Path]:
    """An empty folder is DAGNB_HOME until the end; an agent that was started there leaves with it.

    Its path is short, as that of a socket must be (about 100 letters).
    """
    before = os.environ.get(VARIABLE)
    with tempfile.TemporaryDirectory(prefix="dnb", dir="/tmp") as folder:
        os.environ[VARIABLE] = folder
        try:
            yield Path(folder)
        finally:
            if Path(folder, "run").exists():  # else nobody was there
                stop = [sys.executable, "-m", "dagnb", "agent", "--stop"]
                subprocess.run(stop, check=False, capture_output=True, timeout=60)
            if before is None:
                del os.environ[VARIABLE]
            else:
                os.environ[VARIABLE] = before
