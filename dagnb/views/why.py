"""Why is this task waiting? Answered in words, from the state alone."""

from __future__ import annotations

from collections.abc import Sequence

from dagnb.protocol.messages import Observation, RunState, TaskState
from dagnb.protocol.naming import find_task

_SHOWN = 3


def why(
    seen: Observation, names: Sequence[str], upstream: Sequence[Sequence[int]], task: str
) -> str:
    """One or two sentences on the task's state. Raises UnknownTaskError, AmbiguousNameError."""
    task = find_task(task, names)
    place = names.index(task)
    state = TaskState(seen.states[place])
    if state is TaskState.WAITING:
        return _waiting(seen, names, upstream[place], task)
    if state is TaskState.READY:
        return _ready(seen, task)
    reason = f" ({seen.reason})" if seen.reason else ""
    attempts = sum(1 for number, _ in seen.errors if number == place)
    after = f" after {attempts} failed attempt(s)" if attempts else ""
    return {
        TaskState.RUNNING: f"'{task}' is running{after}.",
        TaskState.RETRYING: f"'{task}' waits for its back-off to end{after}; then it is tried again.",
        TaskState.DONE: f"'{task}' is done{after}.",
        TaskState.FAILED: f"'{task}' failed for good{after}; run.errors tells why.",
        TaskState.SKIPPED: f"'{task}' was skipped, because a task it needs failed.",
        TaskState.CANCELLED: f"'{task}' did not finish: the run ended as {seen.state}{reason}.",
    }[state]


def _waiting(seen: Observation, names: Sequence[str], upstream: Sequence[int], task: str) -> str:
    open_ones = [u for u in upstream if seen.states[u] != TaskState.DONE]
    told = [f"'{names[u]}' ({TaskState(seen.states[u]).word})" for u in open_ones[:_SHOWN]]
    more = f" and {len(open_ones) - _SHOWN} more" if len(open_ones) > _SHOWN else ""
    return f"'{task}' waits for {len(open_ones)} of its {len(upstream)} upstream tasks: {', '.join(told)}{more}."


def _ready(seen: Observation, task: str) -> str:
    if seen.state is RunState.RUNNING and seen.n_instances == 0:
        return f"'{task}' is ready, but no worker of this run is alive. Start some: `dagnb attach {seen.run}`."
    busy = sum(1 for phase, _ in seen.workers.values() if phase == "active")
    return f"'{task}' is ready and waits for a free worker; {busy} of {seen.n_instances} worker process(es) are busy."
