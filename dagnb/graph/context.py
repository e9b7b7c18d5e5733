"""The identity of the running task, for code inside it; empty outside a task."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from dagnb.errors import GraphError


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskContext:
    """Facts of the running task, as `dagnb.context()` gives them.

    seed: equal in every attempt of the task, different between tasks.
    """

    run: str
    task: str
    attempt: int
    seed: int
    worker: str

    @property
    def idempotency_key(self) -> str:
        """Returns "run/task", equal in every attempt.

        Hand it to services that must not act twice.
        """
        return f"{self.run}/{self.task}"


# Two records, because neither covers both cases: a ContextVar does not reach threads that the task
# starts, and one value a process would mix up tasks that run side by side in one process.
_current: ContextVar[TaskContext | None] = ContextVar("dagnb_task", default=None)
_of_process: list[TaskContext] = []


def is_inside() -> bool:
    """Returns whether the caller runs inside a task."""
    return _current.get() is not None or bool(_of_process)


def context() -> TaskContext:
    """Returns the facts of the running task. Raises GraphError outside a task."""
    running = _current.get()
    if running is None and _of_process:
        running = _of_process[-1]
    if running is None:
        raise GraphError(
            "dagnb.context() was called outside a task. "
            "Call it inside a function marked @task, while it runs."
        )
    return running


@contextmanager
def entered(running: TaskContext, *, whole_process: bool) -> Iterator[None]:
    """Make the task the running one within the block.

    whole_process: for threads that the task starts, too; only where one task runs at a time.
    """
    token = _current.set(running)
    if whole_process:
        _of_process.append(running)
    try:
        yield
    finally:
        _current.reset(token)
        if whole_process:
            _of_process.remove(running)
