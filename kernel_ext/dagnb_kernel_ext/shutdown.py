"""Detects that Jupyter shuts this kernel down: an interrupt alone does not tell.

Before Jupyter restarts or shuts down a kernel it interrupts the cell that runs, with the signal of
the stop button. Its request to shut down arrives a few milliseconds later on the control channel,
which a thread of its own answers while the cell is still handling the interrupt. That thread sets
the shell's trait `exit_now`. An interrupt cancels a run; a shutdown lets it go on.
"""

from __future__ import annotations

import threading
from typing import Any

from IPython.core.interactiveshell import InteractiveShell


class ShutdownNotice:
    """An event that is set from the moment the kernel is asked to shut down."""

    def __init__(self, shell: InteractiveShell) -> None:
        """Keep the kernel's shell; `watch` begins to observe it."""
        self.event = threading.Event()
        self._shell = shell

    def watch(self) -> None:
        """Begin to watch."""
        self._shell.observe(self._note, names="exit_now")
        self._shell.events.register("pre_run_cell", self._forget)

    def unwatch(self) -> None:
        """Stop watching."""
        self._shell.unobserve(self._note, names="exit_now")
        self._shell.events.unregister("pre_run_cell", self._forget)

    def _note(self, change: dict[str, Any]) -> None:
        """Set the event; this runs in the thread of the control channel."""
        if change["new"]:
            self.event.set()

    def _forget(self, info: object) -> None:
        """Clear the event when another cell begins.

        `exit()` sets the trait too, and JupyterLab goes on after it.
        """
        self.event.clear()
