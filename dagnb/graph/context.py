"""Where the running task is told which one it is; empty outside a task."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from dagnb.errors import GraphError


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskContext:
    """What a running task may know of itself.

    `seed` is equal in every attempt of the task and differs between tasks; `idempotency_key` is "run/task".
    """

    run: str
    task: str
    attempt: int
    seed: int
    worker: str

    @property
    def idempotency_key(self) -> str:
        """Equal in every attempt of this task of this run: hand it to services that must not act twice."""
        return f"{self.run}/{self.task}"


_here: ContextVar[TaskContext | None] = ContextVar("dagnb_task", default=None)
_process: list[TaskContext] = []


def is_inside() -> bool:
    """Whether the caller runs inside a task."""
    return _here.get() is not None or bool(_process)


def context() -> TaskContext:
    """The running task's own facts. Raises GraphError outside a task."""
    found = _here.get() or (_process[-1] if _process else None)
    if found is None:
        raise GraphError(
            "dagnb.context() was called outside a task. Call it inside a function marked @task, while it runs."
        )
    return found


@contextmanager
def entered(here: TaskContext, *, whole_process: bool) -> Iterator[None]:
    """Make the task current for the block; with `whole_process` for threads that the task starts as well."""
    token = _here.set(here)
    if whole_process:
        _process.append(here)
    try:
        yield
    finally:
        _here.reset(token)
        if whole_process:
            _process.remove(here)
