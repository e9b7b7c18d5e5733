"""What a runtime is given besides a store: how functions are called here, and who watches over them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from dagnb.graph.context import TaskContext

Call = tuple[tuple[Any, ...], dict[str, Any]]
"""positional and keyword arguments"""

Caller = Callable[[Callable[..., Any], Call, TaskContext], Awaitable[Any]]


class Watch(Protocol):
    """What surrounds one call: told when it begins and ends, asked what it printed."""

    def call(self, worker: str) -> None:
        """Which worker of the plan is staffed here from now on."""
        ...

    def begin(self, task: int, attempt: int, limit_s: float) -> None:
        """This attempt is at work from now on; limit_s 0 for no limit, or not while its function runs."""
        ...

    def end(self) -> None:
        """It is committed, or reported as failed."""
        ...

    def timed_out(self, task: int, attempt: int) -> bool:
        """Whether it was interrupted because its time was up."""
        ...

    def take_output(self) -> tuple[str, str]:
        """What it wrote to stdout and stderr since the last call, shortened."""
        ...
