"""A kernel of one's own, told what to run as a front end does: over its channels, interrupts as
signals.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from queue import Empty
from typing import Any

import nbformat
from jupyter_client.manager import KernelManager

LIMIT_S = 60.0
_SHOWN = {"stream", "display_data", "execute_result", "error"}
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Kernel:
    """A running kernel and its client."""

    def __init__(self, manager: KernelManager) -> None:
        """Wait until it is ready."""
        self._manager = manager
        self._connect()

    def _connect(self) -> None:
        self._client = self._manager.blocking_client()
        self._client.start_channels()
        self._client.wait_for_ready(LIMIT_S)

    def begin(self, source: str) -> str:
        """Send a cell to be run; returns which message that was."""
        # Otherwise a kernel drops what comes soon after an error.
        return str(self._client.execute(source, allow_stdin=False, stop_on_error=False))

    def is_over(self, message: str) -> dict[str, Any] | None:
        """The reply to the message, if it is there."""
        with contextlib.suppress(Empty):
            reply = self._client.get_shell_msg(timeout=0.01)
            if reply["parent_header"].get("msg_id") == message:
                return dict(reply["content"])
        return None

    def end(self, message: str) -> list[nbformat.NotebookNode]:
        """Wait for the cell's outputs, as a notebook holds them."""
        outputs = []
        until = time.monotonic() + LIMIT_S
        while time.monotonic() < until:
            news = self._client.get_iopub_msg(timeout=LIMIT_S)
            if news["parent_header"].get("msg_id") != message:
                continue
            if news["msg_type"] == "status" and news["content"]["execution_state"] == "idle":
                return outputs
            if news["msg_type"] in _SHOWN:
                outputs.append(nbformat.v4.output_from_msg(news))
        raise TimeoutError(f"the cell did not end within {LIMIT_S} s")

    def run(self, source: str) -> list[nbformat.NotebookNode]:
        """As begin and end."""
        return self.end(self.begin(source))

    def interrupt(self) -> None:
        """The square in the toolbar."""
        self._manager.interrupt_kernel()

    def restart(self, *, now: bool = False) -> None:
        """Restart it, as the toolbar does; now: killed, without asking it to shut down."""
        self._client.stop_channels()
        self._manager.restart_kernel(now=now)
        self._connect()

    def leave(self) -> None:
        """End it."""
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)


@contextlib.contextmanager
def running_kernel() -> Iterator[Kernel]:
    """A kernel in the environment of this process, which ends with the block."""
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel()
    kernel = Kernel(manager)
    try:
        yield kernel
    finally:
        kernel.leave()


def text(output: nbformat.NotebookNode) -> str:
    """What is read of an output: its text, or of an error what is printed; without colours."""
    if output.output_type == "error":
        return _COLOUR.sub("", "\n".join(output.traceback))
    return str(output.text if output.output_type == "stream" else output.data["text/plain"])
