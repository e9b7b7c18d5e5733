"""A clock that jumps: drives coroutines by send(None), a queue to run now and a heap of (time, serial) for later.

Why not asyncio on a virtual clock: five times slower. Why not SimPy: its generators could not be the real worker.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Coroutine, Generator
from typing import Any

from dagnb.errors import ProtocolError


class Sleep:
    """Await it to let virtual seconds pass."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __await__(self) -> Generator[Any, None, None]:
        yield self


class Bell:
    """Await it until somebody rings; every waiter wakes, in the order they came."""

    __slots__ = ("kernel", "waiters")

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.waiters: list[Coroutine[Any, None, Any]] = []

    def __await__(self) -> Generator[Any, None, None]:
        yield self

    def ring(self, n: int | None = None) -> None:
        """Wake the first n waiters, all by default."""
        n = len(self.waiters) if n is None else n
        woken, self.waiters = self.waiters[:n], self.waiters[n:]
        self.kernel.soon.extend(woken)


class Kernel:
    """Virtual time, in seconds from 0. Deterministic: equal programs give equal histories."""

    def __init__(self) -> None:
        self.now = 0.0
        self.soon: deque[Coroutine[Any, None, Any]] = deque()
        self._later: list[tuple[float, int, Coroutine[Any, None, Any]]] = []
        self._serial = 0
        self._alive = 0

    def spawn(self, coroutine: Coroutine[Any, None, Any]) -> None:
        """Start a coroutine at the present moment."""
        self._alive += 1
        self.soon.append(coroutine)

    def run(self) -> None:
        """Go on until everything ended. Raises ProtocolError when something waits for ever."""
        while True:
            while self.soon:
                self._step(self.soon.popleft())
            if not self._later:
                break
            self.now, _, coroutine = heapq.heappop(self._later)
            self.soon.append(coroutine)
        if self._alive:
            raise ProtocolError(
                f"{self._alive} simulated worker(s) wait for ever at {self.now:g} s. Please report the plan."
            )

    def _step(self, coroutine: Coroutine[Any, None, Any]) -> None:
        try:
            wish = coroutine.send(None)
        except StopIteration:
            self._alive -= 1
            return
        if isinstance(wish, Sleep):
            self._serial += 1
            heapq.heappush(self._later, (self.now + wish.seconds, self._serial, coroutine))
        else:
            wish.waiters.append(coroutine)
