"""A clock that jumps: drives coroutines by send(None), a queue to run now and a heap of (time, serial) for later.

Why not asyncio on a virtual clock: five times slower. Why not SimPy: its generators could not be the real worker.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from dagnb.errors import ProtocolError

Routine = Coroutine[Any, None, Any]


class Sleep:
    """Await it to let virtual seconds pass."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __await__(self) -> Generator[Any, None, None]:
        yield self

    def arm(self, kernel: Kernel, sleeper: Routine) -> None:
        """Wake the sleeper when the time has passed."""
        kernel.later(self.seconds, sleeper)


class Bell:
    """Await it until somebody rings; every waiter wakes, in the order they came."""

    __slots__ = ("kernel", "waiters")

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.waiters: deque[Routine] = deque()

    def __await__(self) -> Generator[Any, None, None]:
        yield self

    def arm(self, kernel: Kernel, waiter: Routine) -> None:
        """Wake the waiter when somebody rings."""
        self.waiters.append(waiter)

    def ring(self, n: int | None = None) -> int:
        """Wake the first n waiters, all by default. Returns how many woke."""
        n = len(self.waiters) if n is None else min(n, len(self.waiters))
        for _ in range(n):
            self.kernel.soon.append(self.waiters.popleft())
        return n


class Kernel:
    """Virtual time, in seconds from 0. Deterministic: equal programs give equal histories."""

    def __init__(self) -> None:
        self.now = 0.0
        self.soon: deque[Routine] = deque()
        self._later: list[tuple[float, int, Routine | Callable[[], None]]] = []
        self._serial = 0
        self._alive = 0

    def spawn(self, coroutine: Routine) -> None:
        """Start a coroutine at the present moment."""
        self._alive += 1
        self.soon.append(coroutine)

    def later(self, seconds: float, what: Routine | Callable[[], None]) -> None:
        """Go on with a coroutine, or call a function, when so much time has passed."""
        self._serial += 1
        heapq.heappush(self._later, (self.now + seconds, self._serial, what))

    def run(self) -> None:
        """Go on until everything ended. Raises ProtocolError when something waits for ever."""
        soon, later = self.soon, self._later
        while True:
            while soon:
                coroutine = soon.popleft()
                try:
                    wish = coroutine.send(None)
                except StopIteration:
                    self._alive -= 1
                else:
                    wish.arm(self, coroutine)
            if not later:
                break
            self.now, _, what = heapq.heappop(later)
            if callable(what):
                what()
            else:
                soon.append(what)
        if self._alive:
            raise ProtocolError(
                f"{self._alive} simulated worker(s) wait for ever at {self.now:g} s. Please report the plan."
            )
