"""Tasks and cells that wait until the test lets them go on, so that nothing depends on how fast
anything is.
"""

from __future__ import annotations

from pathlib import Path

_SETUP = """%load_ext dagnb
import asyncio, hashlib, os, time
from pathlib import Path
import dagnb
from dagnb import task

def is_shut(gate, folder={folder!r}):
    return not os.path.exists(os.path.join(folder, gate))
"""


class Gates:
    """Named gates, all shut at first. A gate is open when its file exists, which every process can
    see.
    """

    def __init__(self, folder: Path) -> None:
        """folder: an empty one."""
        self._folder = folder

    @property
    def setup(self) -> str:
        """A cell that loads dagnb and defines `is_shut(gate)`."""
        return _SETUP.format(folder=str(self._folder))

    def path(self, gate: str) -> str:
        """The file that opens it."""
        return str(self._folder / gate)

    def open(self, gate: str) -> None:
        """Let whoever waits there go on."""
        Path(self.path(gate)).touch()
