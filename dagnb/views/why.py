"""Explanation of a task's state, in words, from the state of the run alone."""

from __future__ import annotations

from collections.abc import Sequence

from dagnb.protocol.messages import Observation, RunState, TaskState
from dagnb.protocol.naming import find_task
from dagnb.views.wording import counted, listed

_SHOWN = 3


def why(
    seen: Observation, names: Sequence[str], upstream: Sequence[Sequence[int]], task: str
) -> str:
    """Explain a task's state. Returns one or two sentences.

    names, upstream: of all tasks, by position. Raises UnknownTaskError, AmbiguousNameError.
    """
    task = find_task(task, names)
    position = names.index(task)
    state = TaskState(seen.states[position])
    if state is TaskState.WAITING:
        return _waiting(seen, names, upstream[position], task)
    if state is TaskState.READY:
        return _ready(seen, task)

    n_failed = sum(1 for number, _ in seen.errors if number == position)
    # Failed attempts count in every state: a task that is done may have been retried.
    after = f" after {counted(n_failed, 'failed attempt')}" if n_failed else ""
    reason = f" ({seen.reason})" if seen.reason else ""
    return {
        TaskState.RUNNING: f"'{task}' is running{after}.",
        TaskState.RETRYING: f"'{task}' waits for its back-off to end{after}; "
        "then it is tried again.",
        TaskState.DONE: f"'{task}' is done{after}.",
        TaskState.FAILED: f"'{task}' failed for good{after}; run.errors shows why.",
        TaskState.SKIPPED: f"'{task}' was skipped, because a task it needs failed.",
        TaskState.CANCELLED: f"'{task}' did not finish: the run ended as {seen.state}{reason}.",
    }[state]


def _waiting(seen: Observation, names: Sequence[str], upstream: Sequence[int], task: str) -> str:
    missing = []
    for position in upstream:
        state = TaskState(seen.states[position])
        if state is not TaskState.DONE:
            missing.append(f"'{names[position]}' ({state.word})")
    return (
        f"'{task}' waits for {len(missing):,} of its {len(upstream):,} upstream tasks: "
        f"{listed(missing, _SHOWN)}."
    )


def _ready(seen: Observation, task: str) -> str:
    if seen.state is RunState.RUNNING and seen.n_instances == 0:
        return (
            f"'{task}' is ready, but no worker of this run is alive. "
            f"Start some: `dagnb attach {seen.run}`."
        )
    n_busy = 0
    for phase, _ in seen.workers.values():
        n_busy += phase == "active"
    return (
        f"'{task}' is ready and waits for a free worker; "
        f"workers at work: {n_busy:,} of {seen.n_instances:,}."
    )
