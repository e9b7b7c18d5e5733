"""Exit codes of containers, taken from the engine's events.

Containers remove themselves at their end (`auto_remove`), so one that has ended can no longer be
inspected. The stream of events is the only source that still has its exit code.
"""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass
from typing import Any

from dagnb_workers.launchers.docker import spec as labels
from dagnb_workers.launchers.docker.container import ENGINE_ERRORS
from dagnb_workers.launchers.docker.engine import connect

# Seconds to wait for the event of a container that has ended.
_WAIT_S = 0.5

_RECONNECT_S = 1.0
_POLL_S = 0.02

# Seconds: a container that ends so soon after an "oom" event ended for want of memory.
_OOM_S = 2.0

_MAX_KEPT = 1000


@dataclass(slots=True)
class ContainerExit:
    """The end of a container. code: its exit code, None when unknown.

    is_out_of_memory: whether it ended for lack of memory. oom_at: epoch seconds at which a process
    in it was last killed for that.
    """

    code: int | None = None
    is_out_of_memory: bool = False
    oom_at: float = 0.0


class ContainerExits:
    """Collects exits in a thread of its own, which reconnects when the engine was gone."""

    def __init__(self, home: str) -> None:
        self._filters = {
            "type": "container",
            "event": ["die", "oom"],
            "label": f"{labels.HOME}={home}",
        }
        self._exits: dict[str, ContainerExit] = {}
        threading.Thread(
            target=self._listen,
            name="dagnb-container-exits",
            daemon=True,
        ).start()

    async def exit_of(self, container_id: str) -> ContainerExit:
        """Returns the exit of a container; an unknown one if no event comes in half a second."""
        deadline = time.monotonic() + _WAIT_S
        while time.monotonic() < deadline:  # the listening thread writes the exit
            ended = self._exits.get(container_id)
            if ended is not None and ended.code is not None:
                break
            await asyncio.sleep(_POLL_S)
        return self._exits.pop(container_id, ContainerExit())

    def _listen(self) -> None:
        while True:
            try:
                for event in connect().events(decode=True, filters=self._filters):
                    self._note(event)
            except ENGINE_ERRORS:
                pass
            time.sleep(_RECONNECT_S)

    def _note(self, event: dict[str, Any]) -> None:
        # Most exits are never read, because most containers are ended on purpose: drop the oldest.
        while len(self._exits) >= _MAX_KEPT:
            self._exits.pop(next(iter(self._exits)))

        ended = self._exits.setdefault(event["id"], ContainerExit())
        happened_at = event["timeNano"] / 1e9
        if event["Action"] == "oom":
            ended.oom_at = happened_at
            return
        # An "oom" long before the end killed a task in the container, not the container.
        ended.is_out_of_memory = happened_at - ended.oom_at < _OOM_S
        ended.code = int(event["Actor"]["Attributes"].get("exitCode", -1))
