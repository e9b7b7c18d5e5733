"""Virtual time: a clock that jumps from moment to moment, and the coroutines that wait for it.

The model is that of SimPy. An `Environment` has a clock `now` and runs *processes*; a process is a
coroutine that awaits `Sleep(seconds)` or a `Condition`. Nothing else can be awaited.

    ready    processes that go on at the present moment, first come, first served
    later    a heap of (time, serial number, process or callback)

    loop:    run every ready process up to its next await       the clock stands still
             none ready: take the first of `later`              the clock jumps to its time
             both empty: the end

The serial number makes the order of equal times that of the calls, so equal programs have equal
histories: forecasts can be repeated, and plans be compared.

Why not asyncio with a virtual clock: it is five times slower. Why not SimPy: its processes are
generators, and could not be the worker's own code (dagnb/protocol/worker.py), which is `async def`.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from dagnb.errors import ProtocolError

Process = Coroutine[Any, None, Any]


class Sleep:
    """Awaited by a process that waits for virtual seconds to pass."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __await__(self) -> Generator[Any, None, None]:
        yield self

    def suspend(self, environment: Environment, process: Process) -> None:
        """Continues the process when the seconds have passed."""
        environment.later(self.seconds, process)


class Condition:
    """Awaited by processes until another one notifies them; can be used again and again."""

    __slots__ = ("environment", "waiters")

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.waiters: deque[Process] = deque()

    def __await__(self) -> Generator[Any, None, None]:
        yield self

    def suspend(self, environment: Environment, process: Process) -> None:
        """Continues the process when it is notified."""
        self.waiters.append(process)

    def notify(self, n: int | None = None) -> int:
        """Continues the n processes that waited longest, by default all. Returns their number."""
        n = len(self.waiters) if n is None else min(n, len(self.waiters))
        for _ in range(n):
            self.environment.ready.append(self.waiters.popleft())
        return n


class Environment:
    """A clock of virtual time, seconds from 0, and the processes that wait for it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ready: deque[Process] = deque()
        self._later: list[tuple[float, int, Process | Callable[[], None]]] = []
        self._serial = 0
        self._n_unfinished = 0

    def start(self, process: Process) -> None:
        """Starts a process at the present moment."""
        self._n_unfinished += 1
        self.ready.append(process)

    def later(self, seconds: float, action: Process | Callable[[], None]) -> None:
        """Continues a process, or calls a function, when the seconds have passed."""
        self._serial += 1
        heapq.heappush(self._later, (self.now + seconds, self._serial, action))

    def run(self) -> None:
        """Runs until all processes have ended. Raises ProtocolError if one waits for ever."""
        ready, later = self.ready, self._later
        while True:
            while ready:
                process = ready.popleft()
                try:
                    awaited = process.send(None)
                except StopIteration:
                    self._n_unfinished -= 1
                else:
                    awaited.suspend(self, process)

            if not later:
                break
            self.now, _, action = heapq.heappop(later)
            # A coroutine is not callable, so this tells the two apart.
            if callable(action):
                action()
            else:
                ready.append(action)

        if self._n_unfinished:
            raise ProtocolError(
                f"{self._n_unfinished} simulated worker(s) wait for ever at {self.now:g} s. "
                "Please report the plan."
            )
