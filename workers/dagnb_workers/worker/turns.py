"""The main thread of a worker takes turns: the loop runs, stops for a call, and goes on when the call has ended.

So a function of the user's is called in the main thread, where SIGINT interrupts it, while no loop is running there:
libraries with a synchronous interface over asyncio work as they do in a script. There is no second thread, since a
task may fork.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
_Call = tuple[Callable[[], Any], "asyncio.Future[Any]"]


class Turns:
    """Turns of one loop, which is made here and is nobody's current loop, so no call can find it."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._loop = self._runner.get_loop()
        self._waiting: deque[_Call] = deque()

    async def call(self, act: Callable[[], T]) -> T:
        """Call it once the loop has stopped; gives what it gives. It must not raise: that would end the worker."""
        done: asyncio.Future[T] = self._loop.create_future()
        self._waiting.append((act, done))
        self._loop.stop()
        return await done

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run the coroutine and the calls that it asks for. Gives its value, or raises what it raised."""
        with self._runner:
            task = self._loop.create_task(main)
            task.add_done_callback(lambda _: self._loop.stop())
            while not task.done():
                self._loop.run_forever()
                while self._waiting:
                    act, done = self._waiting.popleft()
                    done.set_result(act())
            return task.result()
