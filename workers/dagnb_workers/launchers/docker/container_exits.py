"""How containers ended, by the engine's events: a container that removes itself can no longer be asked."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass
from typing import Any

from dagnb_workers.launchers.docker import spec as labels
from dagnb_workers.launchers.docker.container import ENGINE_ERRORS
from dagnb_workers.launchers.docker.engine import connect

_WAIT_S = 0.5
_AGAIN_S = 1.0
_POLL_S = 0.02
_OOM_S = 2.0
_KEPT = 1000


@dataclass(slots=True)
class Ending:
    """How a container ended. code: its exit code, None when unknown. oom_at: when memory last ran out in it."""

    code: int | None = None
    is_out_of_memory: bool = False
    oom_at: float = 0.0


class ContainerExits:
    """Listens in a thread of its own, and begins anew when the engine went away."""

    def __init__(self, home: str) -> None:
        self._filters = {
            "type": "container",
            "event": ["die", "oom"],
            "label": f"{labels.HOME}={home}",
        }
        self._known: dict[str, Ending] = {}
        threading.Thread(target=self._listen, name="dagnb-container-exits", daemon=True).start()

    async def of(self, container: str) -> Ending:
        """How it ended; what the engine has not told in half a second is unknown."""
        until = time.monotonic() + _WAIT_S
        while not self._is_told(container) and time.monotonic() < until:  # noqa: ASYNC110  # a thread writes it
            await asyncio.sleep(_POLL_S)
        return self._known.pop(container, Ending())

    def _is_told(self, container: str) -> bool:
        found = self._known.get(container)
        return found is not None and found.code is not None

    def _listen(self) -> None:
        while True:
            try:
                for event in connect().events(decode=True, filters=self._filters):
                    self._note(event)
            except ENGINE_ERRORS:
                pass
            time.sleep(_AGAIN_S)

    def _note(self, event: dict[str, Any]) -> None:
        while len(self._known) >= _KEPT:
            self._known.pop(next(iter(self._known)))
        ending, at = self._known.setdefault(event["id"], Ending()), event["timeNano"] / 1e9
        if event["Action"] == "oom":
            ending.oom_at = at
        else:
            ending.is_out_of_memory = (
                at - ending.oom_at < _OOM_S
            )  # else only a task of it died, some time ago
            ending.code = int(event["Actor"]["Attributes"].get("exitCode", -1))
