"""What the submission and the errors key say of a run, read back: names, edges, counts, errors."""

from __future__ import annotations

import json
import linecache
from collections import Counter
from dataclasses import dataclass, fields, replace
from typing import Any

from dagnb.errors import Cause, Frame, TaskError
from dagnb.graph.dag import Call, Dag
from dagnb.protocol.messages import Observation, TaskState

_STATES = {state.value: state.word for state in TaskState}


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What the submission says of a run: names, functions and edges by position of the step; its deadline, if any.

    resources: label of each step's, nothing when all have the default.
    """

    name: str
    planner: str
    names: tuple[str, ...]
    functions: tuple[str, ...]
    upstream: tuple[tuple[int, ...], ...]
    sinks: tuple[int, ...]
    is_single: bool
    deadline_s: float | None = None
    resources: tuple[str, ...] = ()

    @property
    def dag(self) -> Dag:
        """The graph of the steps, to be drawn; it holds no functions. O(steps + edges)."""
        told = zip(self.names, self.functions, self.upstream, strict=True)
        return Dag(tuple(Call(name=name, function=function, upstream=u) for name, function, u in told), self.sinks)

    @classmethod
    def read(cls, meta: str) -> Story:
        """From the JSON of the submission."""
        told = json.loads(meta)
        return cls(
            name=told["name"],
            planner=told["planner"],
            names=tuple(told["names"]),
            functions=tuple(told["functions"]),
            upstream=tuple(map(tuple, told["upstream"])),
            sinks=tuple(told["sinks"]),
            is_single=told.get("single", len(told["sinks"]) == 1),
            deadline_s=told.get("deadline_s"),
            resources=tuple(told.get("resources", ())),
        )


def counts(seen: Observation) -> dict[str, int]:
    """state word -> number of tasks"""
    found = Counter(seen.states)
    return {word: found[value] for value, word in _STATES.items() if found[value]}


def errors_of(seen: Observation, story: Story) -> list[TaskError]:
    """The errors key as TaskErrors, source lines of notebook cells filled in from this process."""
    last: dict[int, int] = {}
    for task, attempt in seen.errors:
        last[task] = max(attempt, last.get(task, 0))
    found = []
    for (task, attempt), text in seen.errors.items():
        told = json.loads(text)
        final = last[task] == attempt and seen.states[task] == TaskState.FAILED
        found.append(_error(told, story.names[task], attempt, final))
    return sorted(found, key=lambda error: (error.at, error.task, error.attempt))


def _error(told: dict[str, Any], task: str, attempt: int, final: bool) -> TaskError:
    known = {
        name: told[name]
        for name in ("stderr_tail", "stdout_tail", "exit_code", "signal", "at")
        if told.get(name) is not None
    }
    return TaskError(
        task=task,
        attempt=attempt,
        worker=told.get("worker", ""),
        traceback=tuple(told.get("traceback", ())),
        final=final,
        **known,
        **_raised(told),
    )


def _raised(told: dict[str, Any]) -> dict[str, Any]:
    """What a TaskError and each of its causes say of an exception. Fields that the writer did not know are empty."""
    return {
        "type": told["type"],
        "message": told["message"],
        "frames": tuple(map(_frame, told.get("frames", ()))),
        "notes": tuple(told.get("notes", ())),
        "causes": tuple(Cause(how=cause["how"], **_raised(cause)) for cause in told.get("causes", ())),
    }


def _frame(told: dict[str, Any]) -> Frame:
    """Its line filled in from this process, where the writer had none."""
    known = {name: value for name, value in told.items() if name in _FRAME}
    frame = Frame(**known | {side: tuple(told.get(side, ())) for side in ("before", "after")})
    return frame if frame.source else replace(frame, source=linecache.getline(frame.file, frame.line).rstrip())


_FRAME = {field.name for field in fields(Frame)}
